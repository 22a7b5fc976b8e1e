"""
A fast equivalent of nvtripy.utils.stack_info.get_stack_info, which takes most of the time of tracing.

It gives the same list but for the agent's own frames, which are left out: the result is what it would be without the
agent. The cost of the original is that it walks through all columns of every function on the stack each time; they
are looked up once for each code object here.
"""

import sys
from types import CodeType, FrameType
from typing import Any, Callable, Dict, Optional, Tuple

from .source_frames import is_own_file

_MAX_STACK_DEPTH = 100

Ranges = Dict[int, Tuple[int, int]]


def install_fast_stack_info(nvtripy: Any, annotate: Callable[[Any, Optional[FrameType]], None]) -> Callable[..., Any]:
    """`annotate` may add to each stack what the agent wants to know about the place."""
    stack_info_module = nvtripy.utils.stack_info
    get_stack_info = _make(nvtripy, stack_info_module, annotate)
    stack_info_module.get_stack_info = get_stack_info
    # This module imported the function by its name.
    nvtripy.frontend.module.parameter.get_stack_info = get_stack_info
    return get_stack_info


def _make(nvtripy: Any, stack_info_module: Any, annotate: Callable[[Any, Optional[FrameType]], None]) -> Any:
    stack_info_type, source_type = stack_info_module.StackInfo, stack_info_module.SourceInfo
    registry = nvtripy.utils.function_registry.__name__
    # By identity, which is safe while the code is kept: hashing a code object goes through all that is in it.
    known: Dict[int, Tuple[CodeType, Optional[Ranges]]] = {}

    def get_stack_info(include_code_index: Optional[int] = None) -> Any:
        stack = stack_info_type([], include_code_index)
        frame = sys._getframe(1)
        annotate(stack, frame)
        depth = 0
        while frame is not None and depth < _MAX_STACK_DEPTH:
            code = frame.f_code
            entry = known.get(id(code))
            if entry is None:
                own = is_own_file(code.co_filename)
                entry = known[id(code)] = (code, None if own else _column_ranges(code))
            ranges = entry[1]
            if ranges is None:
                frame = frame.f_back
                continue
            line = frame.f_lineno
            module = frame.f_globals.get("__name__")
            name = code.co_name
            target = ""
            if name == "wrapper" and module == registry:
                target = frame.f_locals["key"]
            stack.append(source_type(module, code.co_filename, line, name, None, target, ranges.get(line)))
            frame = frame.f_back
            depth += 1
        return stack

    return get_stack_info


def _column_ranges(code: CodeType) -> Ranges:
    """For each line its range of columns, where it has just one."""
    if not hasattr(code, "co_positions"):
        return {}
    found: Dict[int, set] = {}
    for line, _, start, end in code.co_positions():
        if line is not None and start is not None and end is not None:
            found.setdefault(line, set()).add((start, end))
    return {line: ranges.pop() for line, ranges in found.items() if len(ranges) == 1}
