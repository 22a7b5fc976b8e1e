"""Which tensors that a function works on are its inputs and which are its parameters."""

from types import CodeType, FrameType, ModuleType
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .arguments import children, named_tensors
from .identity_map import IdentityMap

_PARAMETER_NAMES = {
    "param", "params", "parameter", "parameters", "weight", "weights", "bias", "state", "state_dict", "sd", "theta",
    "w", "model", "module", "net", "self",
}  # fmt: skip
_PARAMETER_ENDINGS = ("_param", "_params", "_parameters", "_weight", "_weights", "_bias", "_state_dict", "_model")

Named = List[Tuple[str, Any]]


class ArgumentRule:
    """
    The rule for functions outside modules:

    1. Attributes of `self`, closures and globals are parameters; so are the parameters and buffers of modules.
    2. A tensor that was judged before keeps its part: one batch that two functions get is input of both, one set of
       weights that two functions share is a parameter of both.
    3. What a recorded call made is an input.
    4. A tensor is a parameter where it is an `nn.Parameter` or a leaf that requires a gradient, or where its argument
       or any key or attribute on the way to it has the name of parameters ("params", "weights", "state_dict", "w",
       "decoder_weights"; see `_PARAMETER_NAMES`).
    5. Everything else is an input. Where that leaves no input, the function's bare tensor arguments are its inputs
       (`scale(w)`).
    """

    def __init__(self, torch: Any, is_result: Any) -> None:
        self._torch = torch
        self._is_result = is_result
        self._judged: IdentityMap[List[bool]] = IdentityMap(list)

    def split(self, frame: FrameType) -> Tuple[Named, Named]:
        """Inputs and parameters of the call that `frame` is, in the order of its arguments; closures come last."""
        code = frame.f_code
        values = frame.f_locals
        inputs: Named = []
        parameters: Named = []
        for index, name in enumerate(argument_names(code)):
            if name in values:
                owner = index == 0 and name == "self"
                self._sort(name, values[name], owner, inputs, parameters)
        bare = [(name, tensor) for name, tensor in parameters if "." not in name]
        if not inputs and bare:
            inputs, parameters = bare, [entry for entry in parameters if entry not in bare]
        if inputs:
            for name in code.co_freevars:
                if name in values:
                    parameters += self.tensors_in(name, values[name])
        return inputs, parameters

    def split_arguments(self, arguments: Dict[str, Any]) -> Tuple[Named, Named]:
        """The same for a call whose frame is not to be seen."""
        inputs: Named = []
        parameters: Named = []
        for name, value in arguments.items():
            self._sort(name, value, False, inputs, parameters)
        return inputs, parameters

    def tensors_in(self, name: str, value: Any) -> Named:
        torch = self._torch
        if isinstance(value, torch.nn.Module):
            members = [*value.named_parameters(), *value.named_buffers()]
            return [(f"{name}.{path}", tensor) for path, tensor in members]
        found: Named = list(named_tensors(torch.Tensor, {name: value}))
        items = None if isinstance(value, torch.Tensor) else children(value)
        for key, item in items or ():
            if isinstance(item, torch.nn.Module):
                found += self.tensors_in(f"{name}.{key}", item)
        return found

    def _sort(self, name: str, value: Any, owner: bool, inputs: Named, parameters: Named) -> None:
        if value is None or isinstance(value, (bool, int, float, str)):
            return
        module = isinstance(value, self._torch.nn.Module)
        for path, tensor in self.tensors_in(name, value):
            if owner or module or self._is_parameter(path, tensor):
                parameters.append((path, tensor))
            else:
                inputs.append((path, tensor))

    def _is_parameter(self, path: str, tensor: Any) -> bool:
        judged = self._judged.of(tensor)
        if not judged:
            judged.append(self._judge(path, tensor))
        return judged[0]

    def _judge(self, path: str, tensor: Any) -> bool:
        if self._is_result(tensor):
            return False
        if isinstance(tensor, self._torch.nn.Parameter) or (tensor.requires_grad and tensor.is_leaf):
            return True
        return any(_names_parameters(part) for part in path.lower().split("."))


class Outside:
    """Names for tensors that come into a call from neither its arguments nor its parameters."""

    def __init__(self, rule: ArgumentRule) -> None:
        self._rule = rule
        self._searched: Dict[int, CodeType] = {}
        self._names: Dict[int, Tuple[Any, str]] = {}

    def name_of(self, tensor: Any, frame: FrameType, last: Optional[FrameType]) -> Optional[str]:
        """The path of a tensor in what the functions from `frame` out to `last` can reach from outside."""
        current: Optional[FrameType] = frame
        while current is not None:
            self._search(current)
            known = self._names.get(id(tensor))
            if known is not None and known[0] is tensor:
                return known[1]
            if current is last:
                break
            current = current.f_back
        return None

    def _search(self, frame: FrameType) -> None:
        code = frame.f_code
        if id(code) in self._searched:
            return
        self._searched[id(code)] = code
        for name, value in self._reachable(frame, code):
            for path, tensor in self._rule.tensors_in(name, value):
                self._names.setdefault(id(tensor), (tensor, path))

    def _reachable(self, frame: FrameType, code: CodeType) -> Iterator[Tuple[str, Any]]:
        values = frame.f_locals
        if code.co_argcount and code.co_varnames[0] == "self" and "self" in values:
            yield "self", values["self"]
        for name in code.co_freevars:
            if name in values:
                yield name, values[name]
        if "site-packages" in code.co_filename:
            return
        for name in code.co_names:
            value = frame.f_globals.get(name)
            if value is not None and not isinstance(value, (ModuleType, type)):
                yield name, value


def argument_names(code: CodeType) -> Tuple[str, ...]:
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)
    return code.co_varnames[:count]


def state_of(module: Any) -> Named:
    members = [*module.named_parameters(), *module.named_buffers()]
    return [(name, tensor) for name, tensor in members if not is_lazy(tensor)]


def is_lazy(tensor: Any) -> bool:
    return type(tensor).__name__.startswith("Uninitialized")


def _names_parameters(part: str) -> bool:
    return part in _PARAMETER_NAMES or part.endswith(_PARAMETER_ENDINGS)
