"""
Calls of the user's functions outside modules. There is no event for them: the first operation of torch outside any
recorded call looks for the outermost function on the stack that got tensors. If that one turns out to be no
implementation (it returns no tensor, or calls a whole model), those that it called are cut out of what was recorded.
"""

import inspect
from types import CodeType, FrameType
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from .arguments import named_tensors
from .source_frames import SourceFrame, is_user_file
from .tensor_names import NameTracker
from .torch_arguments import ArgumentRule, Named
from .torch_recorder import TorchRecorder, reference_to
from .trace_builder import TraceBuilder

_RESUMABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_UNNAMED = {"<module>", "<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>", "<lambda>"}
# After so many looks without a tensor a function is taken to get none.
_MAX_LOOKS = 50
_MAX_FAILURES = 3
_MAX_DEPTH = 4


class Candidate(NamedTuple):
    frame: FrameType
    inputs: Named
    parameters: Named
    # The module whose method this is, called without going through the module's own call.
    module: Any

    @property
    def code(self) -> CodeType:
        return self.frame.f_code

    @property
    def owner(self) -> Any:
        return self.frame.f_locals.get("self") if self.code.co_varnames[:1] == ("self",) else None

    @property
    def label(self) -> str:
        name = getattr(self.code, "co_qualname", None) or self.code.co_name
        name = name.rpartition("<locals>.")[2]
        if self.module is not None:
            kind = type(self.module).__name__
            return kind if self.code.co_name == "forward" else f"{kind}.{self.code.co_name}"
        if "." not in name and self.owner is not None:
            name = f"{type(self.owner).__name__}.{name}"
        return name


class Candidates:
    def __init__(self, torch: Any, rule: ArgumentRule) -> None:
        self._torch = torch
        self._rule = rule
        # By identity, with the code itself so that it keeps it.
        self._wrappers: Dict[int, CodeType] = {}
        self._misses: Dict[int, Tuple[CodeType, int]] = {}
        self._failures: Dict[int, int] = {}

    def find(self, frame: Optional[FrameType]) -> Optional[Candidate]:
        """The outermost function around `frame` that got tensors to work on."""
        for user in reversed(self._frames(frame)):
            code = user.f_code
            if not code.co_argcount and not code.co_kwonlyargcount and not code.co_flags & 0x0C:
                continue
            misses = self._misses.get(id(code), (code, 0))[1]
            if misses >= _MAX_LOOKS or self._failures.get(id(code), 0) >= _MAX_FAILURES:
                continue
            inputs, parameters = self._rule.split(user)
            if not inputs:
                self._misses[id(code)] = (code, misses + 1)
                continue
            owner = user.f_locals.get("self") if code.co_varnames[:1] == ("self",) else None
            module = owner if isinstance(owner, self._torch.nn.Module) else None
            return Candidate(user, inputs, parameters, module)
        return None

    def find_method(self, frame: Optional[FrameType], module: Any) -> Optional[Candidate]:
        """The outermost method of a module that holds `module` and that was called as a plain method."""
        for user in reversed(self._frames(frame)):
            owner = user.f_locals.get("self") if user.f_code.co_varnames[:1] == ("self",) else None
            if not isinstance(owner, self._torch.nn.Module) or owner is module:
                continue
            if not any(part is module for part in owner.modules()):
                continue
            inputs, parameters = self._rule.split(user)
            if inputs:
                return Candidate(user, inputs, parameters, owner)
        return None

    def note_wrappers(self, frame: Optional[FrameType]) -> None:
        """All functions under way are wrappers of a module's call, no implementations."""
        while frame is not None:
            self._wrappers[id(frame.f_code)] = frame.f_code
            frame = frame.f_back

    def failed(self, code: CodeType, for_good: bool) -> None:
        """A call of this function turned out to be no implementation."""
        self._failures[id(code)] = _MAX_FAILURES if for_good else self._failures.get(id(code), 0) + 1
        self._misses.setdefault(id(code), (code, 0))

    def _frames(self, frame: Optional[FrameType]) -> List[FrameType]:
        """The functions around `frame` that may be implementations, innermost first."""
        found: List[FrameType] = []
        while frame is not None:
            code = frame.f_code
            if is_user_file(code.co_filename):
                if code.co_name == "__init__" and isinstance(frame.f_locals.get("self"), self._torch.nn.Module):
                    # Constructors and what they call make parameters.
                    found.clear()
                elif not (code.co_flags & _RESUMABLE or code.co_name in _UNNAMED or id(code) in self._wrappers):
                    found.append(frame)
            frame = frame.f_back
        return found


class Node:
    """A call of a user's function, or of one of torch's layers, within a recorded one."""

    def __init__(self, code: Optional[CodeType], label: str, begin: int) -> None:
        self.code = code
        self.label = label
        self.begin = begin
        # Of a layer: itself, and what its calls are known and counted by.
        self.module: Any = None
        self.recorded: Any = None
        self.key: Any = None
        self.end: Optional[int] = None
        self.inputs: List[Tuple[str, int]] = []
        self.parameters: List[Tuple[str, int]] = []
        self.outputs: List[Tuple[str, int]] = []
        # Whether it returned anything but its own arguments.
        self.gives_new = False
        self._results: List[Any] = []
        self.children: List["Node"] = []

    def returned(self, references: List[Any]) -> None:
        self._results = references

    def alive(self) -> List[Any]:
        """What it returned and somebody still holds."""
        found = [reference() for reference in self._results]
        return [tensor for tensor in found if tensor is not None]


class CallTree:
    """The calls of user functions within a recorded one that could be traces of their own."""

    def __init__(self, torch: Any, rule: ArgumentRule, recorder: TorchRecorder, names: NameTracker) -> None:
        self._torch = torch
        self._rule = rule
        self._recorder = recorder
        self._stack: List[Node] = []
        self.roots: List[Node] = []
        self.has_parts = False
        names.entered = self.entered

    def entered(self, frame: FrameType) -> Optional[Callable[[Any], None]]:
        if len(self._stack) >= _MAX_DEPTH:
            return None
        torch = self._torch
        with torch._C.DisableTorchFunction():
            inputs, parameters = self._rule.split(frame)
            if not inputs:
                return None
            candidate = Candidate(frame, inputs, parameters, None)
            node = Node(frame.f_code, candidate.label, len(self._recorder.ops))
            node.inputs = [(name, self._recorder.tensor_of(tensor)) for name, tensor in inputs]
            node.parameters = [(name, self._recorder.tensor_of(tensor)) for name, tensor in parameters]
        (self._stack[-1].children if self._stack else self.roots).append(node)
        self._stack.append(node)
        given = identities(inputs, parameters)
        return lambda value: self._left(node, value, given)

    def _left(self, node: Node, value: Any, given: Set[int]) -> None:
        while self._stack and self._stack.pop() is not node:
            pass
        torch = self._torch
        with torch._C.DisableTorchFunction():
            found = list(named_tensors(torch.Tensor, {"output": value}))
            node.outputs = [(name, self._recorder.tensor_of(tensor)) for name, tensor in found]
            node.returned([reference_to(torch, tensor) for _, tensor in found])
            node.gives_new = any(id(tensor) not in given for _, tensor in found)
        node.end = len(self._recorder.ops)

    def entered_part(self, module: Any, inputs: Named, parameters: Named, frame: FrameType) -> Node:
        """A layer is about to be called by `frame`; what the trace did not know yet comes in from outside."""
        recorder = self._recorder
        self.has_parts = True
        node = Node(None, type(module).__name__, len(recorder.ops))
        node.module = module
        node.inputs = [(name, recorder.tensor_of(tensor, frame)) for name, tensor in inputs]
        node.parameters = [(name, recorder.tensor_of(tensor, frame)) for name, tensor in parameters]
        (self._stack[-1].children if self._stack else self.roots).append(node)
        self._stack.append(node)
        return node

    def left_part(self, node: Node, result: Any, inputs: Named) -> None:
        self._left(node, result, identities(inputs, []))

    def raised(self, node: Node) -> None:
        while self._stack and self._stack.pop() is not node:
            pass

    def only_calls(self, outputs: List[Tuple[str, int]]) -> bool:
        """
        Whether the function around all this does nothing of its own with layers: it passes one on, or gives what two
        or more made of the same inputs as it is, for somebody to compare.
        """
        parts = [node for node in self.roots if node.module is not None]
        if not parts:
            return False
        if all(not self._recorder.trace.tensor(tensor)["shape"] for _, tensor in outputs):
            # A loss, or how far two results are apart.
            return True
        inside = sum((node.end or node.begin) - node.begin for node in self.roots)
        if inside < len(self._recorder.ops):
            return False
        if len(self.roots) == 1:
            return True
        given = [{tensor for _, tensor in node.inputs} for node in self.roots]
        made = {tensor for _, tensor in outputs}
        return bool(set.intersection(*given)) and all(
            any(tensor in made for _, tensor in node.outputs) for node in self.roots
        )

    def implementations(self) -> List[Node]:
        """The outermost calls that are implementations, in order."""
        return [found for root in self.roots for found in self._outermost(root)]

    def _outermost(self, node: Node) -> List[Node]:
        inner = node.children[0] if len(node.children) == 1 else node
        passes_on = inner.module is not None and inner is not node
        passes_on = passes_on and (inner.begin, inner.end) == (node.begin, node.end)
        if (
            node.end is not None
            and node.gives_new
            and not passes_on
            and qualifies(self._recorder, node.begin, node.end, node.outputs)
        ):
            return [node]
        return [found for child in node.children for found in self._outermost(child)]


def identities(*groups: Named) -> Set[int]:
    return {id(tensor) for group in groups for _, tensor in group}


def qualifies(recorder: TorchRecorder, begin: int, end: int, outputs: List[Tuple[str, int]]) -> bool:
    """Whether a call computed floats and returned something that it made, not only wrote into."""
    ops = recorder.ops[begin:end]
    made: Set[int] = {tensor for op in ops for tensor in op.outputs}
    if not any(tensor in made for _, tensor in outputs):
        return False
    return recorder.made_floats(begin, end)


def cut_out(recorder: TorchRecorder, node: Node, trace: TraceBuilder, declared: Dict[int, SourceFrame]) -> None:
    """Writes one call within a recorded one into a trace of its own."""
    source = recorder.trace
    numbers: Dict[int, int] = {}

    def number_of(tensor: int) -> int:
        if tensor not in numbers:
            described = source.tensor(tensor)
            numbers[tensor] = trace.add_tensor(described["dtype"], described["shape"], source.value(tensor))
        return numbers[tensor]

    for name, tensor in node.parameters:
        trace.add_parameter(name, number_of(tensor), declared.get(tensor))
    for name, tensor in node.inputs:
        trace.inputs.append({"name": name, "tensor": number_of(tensor)})
    read = {tensor for op in recorder.ops[node.begin : node.end] for tensor in op.inputs}
    for parameter in source.parameters:
        # What it reads of globals and layers, known to the call around it by name.
        tensor = parameter["tensor"]
        if tensor in read and tensor not in numbers:
            trace.add_parameter(parameter["name"], number_of(tensor), declared.get(tensor))
    for op in recorder.ops[node.begin : node.end]:
        inputs = [number_of(tensor) for tensor in op.inputs]
        outputs = [number_of(tensor) for tensor in op.outputs]
        trace.add_op(*op._replace(inputs=inputs, outputs=outputs))
    for name, tensor in node.outputs:
        trace.outputs.append({"name": name, "tensor": number_of(tensor)})
    for tensor, name, argument in recorder.names:
        if tensor in numbers:
            trace.add_name(numbers[tensor], name, argument)
