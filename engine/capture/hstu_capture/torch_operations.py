"""What an operation of torch is called and which attributes it was called with."""

import inspect
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .torch_call_encoding import encode_call, rebuild_call, same_value, structure
from .torch_values import dtype_name, has_name
from .wire import to_json


class Operation(NamedTuple):
    kind: str
    # All tensors among the arguments, in their order.
    tensors: List[Any]
    attributes: Dict[str, Any]
    # Tensors that hold the offsets of jagged tensors.
    offsets: List[Any]
    # Whether the first tensor is written in place, by the operation's name or by its argument `inplace`.
    writes_first: bool


# What these give is no tensor, and they are called often.
_SILENT = {
    "size", "dim", "ndimension", "numel", "nelement", "__len__", "item", "tolist", "numpy", "__bool__", "__int__",
    "__float__", "__index__", "__array__", "is_contiguous", "is_floating_point", "is_complex", "stride",
    "element_size", "data_ptr", "storage_offset", "untyped_storage", "__format__", "__repr__", "__hash__",
    "requires_grad_", "get_device", "is_inference", "is_pinned", "backward", "register_hook", "__dlpack__",
    "__dlpack_device__", "__contains__", "is_same_size", "__reduce_ex__", "__deepcopy__",
}  # fmt: skip
_TENSOR_PROPERTIES = {"T", "mT", "H", "mH", "data", "real", "imag", "grad"}
_IN_PLACE_OPERATORS = {
    "__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__imod__", "__ipow__",
    "__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__", "__imatmul__",
}  # fmt: skip
_OFFSET_ARGUMENTS = {"offsets", "x_offsets", "y_offsets", "a_offsets", "b_offsets"}

_kinds: Dict[Any, Optional[str]] = {}
_signatures: Dict[Any, Optional[inspect.Signature]] = {}
# Whether the attributes by name say all of a call, by function and by the structure of its arguments.
_sufficient: Dict[Any, bool] = {}


def describe(torch: Any, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[Operation]:
    """None for a call that computes no tensor."""
    try:
        return _describe(torch, func, args, kwargs)
    except Exception:
        # Whatever is unusual about a call, the script must not notice that it is watched.
        return _plainly(torch, func, args, kwargs)


def _describe(torch: Any, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[Operation]:
    if func not in _kinds:
        _kinds[func] = _kind_of(torch, func)
    kind = _kinds[func]
    if kind is None or (kind == "torch.Tensor.type" and len(args) + len(kwargs) < 2):
        return None
    named = _named_arguments(torch, func, kind, args, kwargs)
    collector = _Collector(torch)
    attributes: Dict[str, Any] = {}
    offsets: List[Any] = []
    for name, value in named:
        if name in _OFFSET_ARGUMENTS and kind.startswith("fbgemm."):
            offsets += value if isinstance(value, (list, tuple)) else [value]
        before = len(collector.tensors)
        encoded = collector.encode(name, value)
        # A tensor is an operand, not an attribute; a list of tensors and a plain None say nothing more.
        only_tensors = len(collector.tensors) > before and _holds_only_tensors(torch.Tensor, value)
        if not only_tensors and encoded is not None:
            attributes[name] = encoded
    if collector.operands:
        attributes["operands"] = collector.operands
        call = _call(torch, func, kind, named, attributes, collector.tensors, args, kwargs)
        if call:
            attributes["call"] = call
    writes = writes_first(kind) or attributes.get("inplace") is True
    return Operation(kind, collector.tensors, attributes, offsets, writes)


def _plainly(torch: Any, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Operation:
    """The operation by its bare name, with its tensors and nothing else that would have to be understood."""
    tensors: List[Any] = []

    def find(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, (list, tuple)):
            for item in value:
                find(item)

    find((*args, *kwargs.values()))
    kind = f"{getattr(func, '__module__', None) or 'torch'}.{getattr(func, '__qualname__', type(func).__name__)}"
    call = {"args": [{"opaque": "an argument that could not be read"}], "kwargs": {}}
    return Operation(kind, tensors, {"operands": [""] * len(tensors), "call": call}, [], False)


def writes_first(kind: str) -> bool:
    """Whether an operation writes its first tensor in place, by its name."""
    name = kind.rpartition(".")[2]
    return name in _IN_PLACE_OPERATORS or (name.endswith("_") and not name.endswith("__"))


def schemas_of(torch: Any, func: Any, kind: str) -> List[Any]:
    """The signatures that torch's dispatcher has for an operation, in the order in which they are tried."""
    return _schemas(torch, func, kind)


def _call(
    torch: Any,
    func: Any,
    kind: str,
    named: List[Tuple[str, Any]],
    attributes: Dict[str, Any],
    tensors: List[Any],
    args: Tuple[Any, ...],
    kwargs: Dict[str, Any],
) -> Dict[str, Any]:
    """What the attributes by name do not say of a call and a replay needs (torch_call_encoding)."""
    call: Dict[str, Any] = {}
    key = (func, structure(torch, args), structure(torch, kwargs))
    if key not in _sufficient:
        _sufficient[key] = _says_all(torch, func, kind, named, attributes, tensors)
    if not _sufficient[key]:
        call = encode_call(torch, args, kwargs, tensors)
    stored = {str(i): str(t.dtype)[6:] for i, t in enumerate(tensors) if not has_name(t.dtype)}
    if stored:
        call["stored"] = stored
    if torch.get_default_dtype() is not torch.float32:
        call["defaultDtype"] = str(torch.get_default_dtype())[6:]
    autocast = _autocast(torch, tensors[0].device.type)
    if autocast is not None:
        call["autocast"] = autocast
    return call


def _says_all(
    torch: Any, func: Any, kind: str, named: List[Tuple[str, Any]], attributes: Dict[str, Any], tensors: List[Any]
) -> bool:
    """Rebuilds the call from the attributes and looks whether it means the same."""
    try:
        args, kwargs = rebuild_call(
            torch, func, kind, attributes, tensors, lambda: schemas_of(torch, func, kind)
        )
        again = _named_arguments(torch, func, kind, tuple(args), kwargs)
    except Exception:
        # What the attributes are understood wrongly by is one more reason to record the exact call.
        return False
    if kind.endswith(("__getitem__", "__setitem__")) and isinstance(args[1], tuple) and isinstance(named[1][1], list):
        # x[[0, 1]] takes two rows, x[0, 1] one element.
        return False
    return len(again) == len(named) and all(
        name == other and same_value(torch, value, copy) for (name, value), (other, copy) in zip(named, again)
    )


def _autocast(torch: Any, device: str) -> Optional[Dict[str, str]]:
    try:
        if torch.is_autocast_enabled(device):
            return {"device": device, "dtype": str(torch.get_autocast_dtype(device))[6:]}
    except (TypeError, RuntimeError, AttributeError):
        # Before torch 2.4 each device has functions of its own.
        if device == "cpu" and torch.is_autocast_cpu_enabled():
            return {"device": device, "dtype": str(torch.get_autocast_cpu_dtype())[6:]}
        if device == "cuda" and torch.is_autocast_enabled():
            return {"device": device, "dtype": str(torch.get_autocast_gpu_dtype())[6:]}
    return None


class _Collector:
    """Takes the tensors out of arguments; in nested ones each leaves its position among the operands behind."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self.tensors: List[Any] = []
        self.operands: List[str] = []
        self._name = ""

    def encode(self, name: str, value: Any) -> Any:
        self._name = name
        return to_json(value, self._own)

    def _own(self, value: Any) -> Optional[Any]:
        torch = self._torch
        if isinstance(value, torch.Tensor):
            self.tensors.append(value)
            self.operands.append(self._name)
            return {"operand": len(self.tensors) - 1}
        if isinstance(value, torch.dtype):
            return dtype_name(torch, value)
        if isinstance(value, (torch.device, torch.layout, torch.memory_format)):
            return str(value)
        return None


def _holds_only_tensors(tensor_type: type, value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(item, tensor_type) for item in value)
    return isinstance(value, tensor_type)


def _kind_of(torch: Any, func: Any) -> Optional[str]:
    name = getattr(func, "__name__", "")
    packet = getattr(func, "overloadpacket", func)
    qualified = getattr(packet, "_qualified_op_name", None)
    if qualified is not None:
        return str(qualified).replace("::", ".")
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "")
        return f"torch.Tensor.{name}" if name in _TENSOR_PROPERTIES else None
    if name in _SILENT or name in ("__set__", "__delete__"):
        return None
    # A function's own home comes first: torch's table of overridable functions knows some under a name of another.
    for holder, prefix in ((torch, "torch"), (torch.nn.functional, "torch.nn.functional"), (torch.Tensor, "torch.Tensor")):
        if name and getattr(holder, name, None) is func:
            return f"{prefix}.{name}"
    resolved = torch.overrides.resolve_name(func)
    if resolved:
        return resolved
    module = getattr(func, "__module__", None) or "torch"
    return f"{module}.{getattr(func, '__qualname__', name)}"


def _named_arguments(
    torch: Any, func: Any, kind: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]
) -> List[Tuple[str, Any]]:
    if kind in ("torch.einsum", "torch.functional.einsum") and args and isinstance(args[0], str):
        operands = args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
        return [("equation", args[0]), ("operands", list(operands))]
    if kind.endswith(("__getitem__", "__setitem__")):
        return list(zip(("input", "index", "value"), args))
    by_signature = _by_signature(func, args, kwargs)
    if by_signature is not None:
        return by_signature
    by_schema = _by_schema(torch, func, kind, args, kwargs)
    if by_schema is not None:
        return by_schema
    names = ["input" if index == 0 else f"arg{index}" for index in range(len(args))]
    return [*zip(names, args), *kwargs.items()]


def _by_signature(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[List[Tuple[str, Any]]]:
    if not inspect.isfunction(func):
        return None
    if func not in _signatures:
        _signatures[func] = _signature_of(func)
    signature = _signatures[func]
    if signature is None:
        return None
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    named: List[Tuple[str, Any]] = []
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named += value.items()
        else:
            named.append((name, value))
    return named


def _signature_of(func: Any) -> Optional[inspect.Signature]:
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        # Some of torch's Python functions wrap builtin ones, which have no signature.
        return None
    variadic = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in signature.parameters.values())
    return None if variadic else signature


def _by_schema(
    torch: Any, func: Any, kind: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]
) -> Optional[List[Tuple[str, Any]]]:
    for schema in _schemas(torch, func, kind):
        named = _fit(torch, schema, args, kwargs)
        if named is not None:
            return named
    return None


def _schemas(torch: Any, func: Any, kind: str) -> List[Any]:
    own = getattr(func, "_schema", None)
    if own is not None:
        return [own]
    packet = getattr(func, "_qualified_op_name", None)
    name = str(packet) if packet is not None else f"aten::{_aten_name(kind)}"
    return list(torch._C._jit_get_schemas_for_operator(name))


def _aten_name(kind: str) -> str:
    name = kind.rpartition(".")[2]
    if name.startswith("__") and name.endswith("__"):
        name = name.strip("_")
        # "__radd__" and "__iadd__" are "add" and "add_".
        special = {"truediv": "div", "rtruediv": "div", "rdiv": "div", "itruediv": "div_", "invert": "bitwise_not"}
        if name in special:
            return special[name]
    return name


def _takes_ints(parameter: Any) -> bool:
    return "List[int]" in str(parameter.type)


def _fit(torch: Any, schema: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[List[Tuple[str, Any]]]:
    """The arguments by the schema's names, with its defaults; None where they do not fit it."""
    parameters = schema.arguments
    positional = [parameter for parameter in parameters if not parameter.kwarg_only]
    values = list(args)
    ints = [type(value) is int for value in values]
    first = ints.index(True) if True in ints else len(values)
    if len(values) > 1 and first == len(positional) - 1 and all(ints[first:]) and _takes_ints(positional[first]):
        # Tensor.view(2, 3) is view(size=[2, 3]): torch takes loose numbers where nothing else can follow.
        values = [*values[:first], values[first:]]
    elif len(values) > 1:
        # conv2d(x, w, b, 2, 1) has stride=[2] and padding=[1].
        pairs = zip(values, positional)
        values[: len(positional)] = [[v] if type(v) is int and _takes_ints(p) else v for v, p in pairs]
    if len(values) > len(positional):
        return None
    names = {parameter.name for parameter in parameters}
    if any(name not in names for name in kwargs if name not in ("device", "out", "requires_grad")):
        return None
    named: List[Tuple[str, Any]] = []
    for index, parameter in enumerate(parameters):
        if index < len(values) and not parameter.kwarg_only:
            if not _is_of(torch, parameter.type, values[index]):
                return None
            named.append((parameter.name, values[index]))
        elif parameter.name in kwargs:
            named.append((parameter.name, kwargs[parameter.name]))
        elif parameter.has_default_value():
            named.append((parameter.name, parameter.default_value))
        else:
            return None
    return named + [(name, value) for name, value in kwargs.items() if name not in names]


def _is_of(torch: Any, wanted: Any, value: Any) -> bool:
    text = str(wanted)
    optional = text.startswith("Optional[")
    if optional:
        text = text[len("Optional[") : -1]
    if value is None:
        return optional
    if isinstance(value, torch.Tensor):
        return text == "Tensor"
    if text == "Tensor":
        return False
    if isinstance(value, (list, tuple)):
        if text.startswith("List[Tensor") or text.startswith("List[Optional[Tensor"):
            return all(item is None or isinstance(item, torch.Tensor) for item in value)
        return text.startswith("List[") and not any(isinstance(item, torch.Tensor) for item in value)
    if isinstance(value, bool):
        return text in ("bool", "number", "Scalar")
    if isinstance(value, torch.dtype):
        return text == "int"
    if isinstance(value, int):
        return text in ("int", "number", "Scalar", "float", "SymInt") or text in ("List[int]", "List[SymInt]")
    if isinstance(value, float):
        return text in ("float", "number", "Scalar")
    if isinstance(value, str):
        return text == "str"
    return text not in ("int", "float", "bool", "number", "Scalar")
