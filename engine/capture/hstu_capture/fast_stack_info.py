"""
A fast equivalent of nvtripy.utils.stack_info.get_stack_info, which takes most of the time of tracing.

It gives the same list but for the agent's own frames, which are left out: the result is what it would be without the
agent. The original walks through all columns of every function on the stack each time, and makes an object for every
frame of every op. Here a stack is a list of code objects and instructions until somebody looks at it, which for nearly
all of them never happens.
"""

import sys
from types import CodeType, FrameType
from typing import Any, Callable, Dict, List, Optional, Tuple

from .source_frames import SourceFrame, is_own_file, is_user_file, source_frame

_MAX_STACK_DEPTH = 100
_MAX_USER_FRAMES = 64
# Whatever reads or changes a list.
_LIST_METHODS = (
    "__add__", "__contains__", "__delitem__", "__eq__", "__ge__", "__getitem__", "__gt__", "__iadd__", "__imul__",
    "__iter__", "__le__", "__len__", "__lt__", "__mul__", "__ne__", "__reduce_ex__", "__repr__", "__reversed__",
    "__rmul__", "__setitem__", "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove",
    "reverse", "sort",
)  # fmt: skip

Ranges = Dict[int, Tuple[int, int]]
Annotate = Callable[[Any, Tuple[SourceFrame, ...]], None]


def install_fast_stack_info(nvtripy: Any, annotate: Annotate) -> Callable[..., Any]:
    """`annotate` gets each stack and the user's frames in it, and may add to it what the agent wants to know."""
    stack_info_module = nvtripy.utils.stack_info
    get_stack_info = _make(nvtripy, stack_info_module, annotate)
    stack_info_module.get_stack_info = get_stack_info
    # This module imported the function by its name.
    nvtripy.frontend.module.parameter.get_stack_info = get_stack_info
    return get_stack_info


class _Code:
    """What is known about a code object. It is kept, so that its identity stays its own."""

    __slots__ = ("code", "is_own", "is_user", "is_dispatch", "lines", "_ranges")

    def __init__(self, code: CodeType, is_dispatch: bool) -> None:
        self.code = code
        self.is_own = is_own_file(code.co_filename)
        self.is_user = is_user_file(code.co_filename)
        self.is_dispatch = is_dispatch
        # The line of each instruction.
        self.lines: Optional[List[Optional[int]]] = None
        self._ranges: Optional[Ranges] = None

    def line_of(self, instruction: int) -> Optional[int]:
        if self.lines is None:
            self.lines = [position[0] for position in self.code.co_positions()]
        return self.lines[instruction // 2]

    def range_of(self, line: Optional[int]) -> Optional[Tuple[int, int]]:
        if self._ranges is None:
            self._ranges = _column_ranges(self.code)
        return self._ranges.get(line)  # type: ignore[arg-type]


def _make(nvtripy: Any, stack_info_module: Any, annotate: Annotate) -> Any:
    stack_info_type, source_type = stack_info_module.StackInfo, stack_info_module.SourceInfo
    lazy_type = _lazy_type(stack_info_type, source_type)
    registry = nvtripy.utils.function_registry.__name__
    # By identity: hashing a code object goes through all that is in it.
    known: Dict[int, _Code] = {}
    has_positions = hasattr(CodeType, "co_positions")

    def get_stack_info(include_code_index: Optional[int] = None) -> Any:
        raw: List[Any] = []
        users: List[SourceFrame] = []
        frame: Optional[FrameType] = sys._getframe(1)
        depth = 0
        while frame is not None and depth < _MAX_STACK_DEPTH:
            code = frame.f_code
            entry = known.get(id(code))
            if entry is None:
                is_dispatch = code.co_name == "wrapper" and frame.f_globals.get("__name__") == registry
                entry = known[id(code)] = _Code(code, is_dispatch)
            if not entry.is_own:
                depth += 1
                raw.append(entry)
                raw.append(frame.f_lasti if has_positions else frame.f_lineno)
                raw.append(frame.f_globals.get("__name__"))
                raw.append(frame.f_locals["key"] if entry.is_dispatch else "")
                if entry.is_user and len(users) < _MAX_USER_FRAMES:
                    users.append(source_frame(frame))
            frame = frame.f_back
        stack = lazy_type(raw, include_code_index)
        annotate(stack, tuple(users))
        return stack

    return get_stack_info


def _lazy_type(stack_info_type: Any, source_type: Any) -> Any:
    """A list that fills itself when it is used, and is one of nvtripy's own from then on."""

    class LazyStackInfo(stack_info_type):
        def __init__(self, raw: List[Any], include_code_index: Optional[int]) -> None:
            stack_info_type.__init__(self, (), include_code_index)
            self._raw = raw

    def fill(stack: Any) -> None:
        raw = stack.__dict__.pop("_raw", None)
        if raw is None:
            # A method that was asked for before the stack was filled, and is called now.
            return
        frames = []
        for index in range(0, len(raw), 4):
            entry, place, module, target = raw[index : index + 4]
            line = entry.line_of(place) if sys.version_info >= (3, 11) else place
            code = entry.code
            frames.append(
                source_type(module, code.co_filename, line, code.co_name, None, target, entry.range_of(line))
            )
        list.extend(stack, frames)
        stack.__class__ = stack_info_type

    def filling(name: str) -> Any:
        def method(stack: Any, *arguments: Any, **options: Any) -> Any:
            fill(stack)
            return getattr(stack_info_type, name)(stack, *arguments, **options)

        return method

    for name in _LIST_METHODS:
        setattr(LazyStackInfo, name, filling(name))
    return LazyStackInfo


def _column_ranges(code: CodeType) -> Ranges:
    """For each line its range of columns, where it has just one."""
    if not hasattr(code, "co_positions"):
        return {}
    found: Dict[int, set] = {}
    for line, _, start, end in code.co_positions():
        if line is not None and start is not None and end is not None:
            found.setdefault(line, set()).add((start, end))
    return {line: ranges.pop() for line, ranges in found.items() if len(ranges) == 1}
