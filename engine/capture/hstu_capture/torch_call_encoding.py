"""
Makes the call of a recorded operation again, from its named attributes where these suffice and otherwise from the
exact call that is recorded beside them.

The exact call is the attribute "call": `args` and `kwargs` with a tensor as {"operand": its position among the op's
inputs}, and with a word for everything that JSON does not tell apart: {"tuple": [...]}, {"slice": [...]},
{"ellipsis": true}, {"float": "nan"}, {"complex": [re, im]}, {"dtype": ...}, {"device": ...}, {"layout": ...},
{"memory_format": ...}, {"array": [dtype, lists]}, {"dict": [[key, value], ...]}. {"opaque": type} cannot be made
again. Beside them stands the state that the result depends on, where it is not the usual one: `autocast`,
`defaultDtype`, and `stored`, the types of operands that the trace has no word for.
"""

import inspect
import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

Call = Tuple[List[Any], Dict[str, Any]]

_DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16",
    "uint8", "bool",
)  # fmt: skip
_EINSUM = ("torch.einsum", "torch.functional.einsum")
_FLOAT_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, "-0": -0.0}


class NotReplayable(Exception):
    """The operation cannot be called again; the message says why."""


def encode_call(torch: Any, args: Sequence[Any], kwargs: Dict[str, Any], tensors: Sequence[Any]) -> Dict[str, Any]:
    """The exact call as JSON. `tensors` are the op's inputs in their order."""

    def encode(value: Any) -> Any:
        if value is None or type(value) in (bool, str, int):
            return value
        if isinstance(value, torch.Tensor):
            for index, tensor in enumerate(tensors):
                if tensor is value:
                    return {"operand": index}
            return {"opaque": "a tensor that is no operand"}
        if type(value) is float:
            ordinary = math.isfinite(value) and (value != 0 or math.copysign(1.0, value) > 0)
            return value if ordinary else {"float": repr(value)}
        if value is Ellipsis:
            return {"ellipsis": True}
        if isinstance(value, slice):
            return {"slice": [encode(part) for part in (value.start, value.stop, value.step)]}
        if isinstance(value, tuple):
            return {"tuple": [encode(item) for item in value]}
        if isinstance(value, list):
            return [encode(item) for item in value]
        if isinstance(value, dict):
            return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
        if isinstance(value, complex):
            return {"complex": [repr(value.real), repr(value.imag)]}
        for kind in ("dtype", "device", "layout", "memory_format"):
            if isinstance(value, getattr(torch, kind)):
                return {kind: str(value).rpartition("torch.")[2]}
        # A number of numpy, and whatever else calls itself a whole number.
        if getattr(value, "shape", None) == () and hasattr(value, "item"):
            return encode(value.item())
        if hasattr(value, "__array_interface__") and hasattr(value, "tolist"):
            return {"array": [str(value.dtype), value.tolist()]}
        if isinstance(value, (int, float)):
            return encode(value.__float__() if isinstance(value, float) else value.__int__())
        return {"opaque": type(value).__name__}

    return {"args": [encode(value) for value in args], "kwargs": {name: encode(v) for name, v in kwargs.items()}}


def decode_call(torch: Any, call: Dict[str, Any], tensors: Sequence[Any]) -> Call:
    """Raises NotReplayable where an argument cannot be made again."""

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((word, content),) = value.items()
        if word == "operand":
            return tensors[content]
        if word == "float":
            return float(content)
        if word == "ellipsis":
            return Ellipsis
        if word == "slice":
            return slice(*(decode(part) for part in content))
        if word == "tuple":
            return tuple(decode(item) for item in content)
        if word == "dict":
            return {decode(key): decode(item) for key, item in content}
        if word == "complex":
            return complex(*(float(part) for part in content))
        if word == "array":
            return torch.tensor(content[1], dtype=getattr(torch, content[0], None))
        if word == "device":
            return torch.device(content)
        if word in ("dtype", "layout", "memory_format"):
            found = getattr(torch, content, None)
            if found is not None:
                return found
        raise NotReplayable(f"an argument of type {content} cannot be made again")

    return [decode(value) for value in call["args"]], {name: decode(v) for name, v in call["kwargs"].items()}


def rebuild_call(
    torch: Any,
    func: Callable[..., Any],
    kind: str,
    attributes: Dict[str, Any],
    tensors: Sequence[Any],
    schemas: Callable[[], Sequence[Any]],
) -> Call:
    """
    The call from the attributes by name. What they lose is known when the operation is recorded, which then records
    the exact call. Raises NotReplayable where they do not fit the function.
    """
    values = _values(torch, attributes, tensors)
    if kind in _EINSUM:
        operands = values["operands"] if isinstance(values["operands"], list) else [values["operands"]]
        return [values["equation"], *operands], {}
    if kind.endswith(("__getitem__", "__setitem__")):
        # Without an index there are no attributes for it: None, which adds an axis.
        index = values.get("index")
        args = [values["input"], tuple(index) if isinstance(index, list) else index]
        return [*args, values.get("value")] if kind.endswith("__setitem__") else args, {}
    by_signature = _by_signature(func, values)
    if by_signature is not None:
        return by_signature
    for schema in schemas():
        found = _by_schema(schema, values)
        if found is not None:
            return found
    return _by_position(values)


def same_value(torch: Any, first: Any, second: Any) -> bool:
    """Whether two arguments say the same: tensors by identity, types of torch by their names."""
    if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
        return first is second
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(same_value(torch, a, b) for a, b in zip(first, second))
    if isinstance(first, (torch.device, torch.memory_format, torch.layout)):
        return str(first) == str(second)
    if isinstance(first, slice) and isinstance(second, slice):
        parts = ("start", "stop", "step")
        return all(same_value(torch, getattr(first, part), getattr(second, part)) for part in parts)
    if type(first) is not type(second):
        return False
    return first is second or bool(first == second) or (first != first and second != second)


def structure(torch: Any, value: Any) -> Any:
    """What decides how a call is rebuilt: types and nesting, and words, which could be taken for something else."""
    if isinstance(value, (list, tuple)):
        items = tuple(structure(torch, item) for item in value)
        return type(value), items if len(set(items)) > 1 else (len(items), items[:1])
    if isinstance(value, slice):
        return slice, structure(torch, (value.start, value.stop, value.step))
    if isinstance(value, dict):
        return dict, tuple((key, structure(torch, item)) for key, item in value.items())
    if isinstance(value, str):
        return value
    if hasattr(value, "__array_interface__"):
        return type(value), getattr(value, "shape", ())
    if type(value) is float and not (math.isfinite(value) and value):
        return repr(value)
    return torch.Tensor if isinstance(value, torch.Tensor) else type(value)


def _values(torch: Any, attributes: Dict[str, Any], tensors: Sequence[Any]) -> Dict[str, Any]:
    """Arguments by name: tensors where the operands say so, all others from the attributes."""
    values: Dict[str, Any] = {}
    operands = attributes.get("operands", [])
    for position, name in enumerate(operands):
        attribute = attributes.get(name) if name != "operands" else None
        if attribute is not None and _has_operand(attribute):
            continue
        if name not in values:
            values[name] = tensors[position]
        elif isinstance(values[name], list):
            values[name].append(tensors[position])
        else:
            values[name] = [values[name], tensors[position]]
    for name, attribute in attributes.items():
        if name not in ("operands", "call") and name not in values:
            values[name] = _decoded(torch, attribute, tensors)
    return values


def _has_operand(value: Any) -> bool:
    if isinstance(value, list):
        return any(_has_operand(item) for item in value)
    if isinstance(value, dict):
        return "operand" in value or any(_has_operand(item) for item in value.values())
    return False


def _decoded(torch: Any, value: Any, tensors: Sequence[Any]) -> Any:
    if isinstance(value, list):
        return [_decoded(torch, item, tensors) for item in value]
    if isinstance(value, dict):
        if "operand" in value:
            return tensors[value["operand"]]
        if "slice" in value:
            return slice(*(_decoded(torch, part, tensors) for part in value["slice"]))
        return {key: _decoded(torch, item, tensors) for key, item in value.items()}
    if isinstance(value, str):
        if value == "...":
            return Ellipsis
        if value in _DTYPES:
            return getattr(torch, value)
        if value.startswith("torch."):
            return getattr(torch, value[len("torch.") :], value)
        return _FLOAT_WORDS.get(value, value)
    return value


def _by_signature(func: Callable[..., Any], values: Dict[str, Any]) -> Optional[Call]:
    if not inspect.isfunction(func):
        return None
    args: List[Any] = []
    kwargs: Dict[str, Any] = {}
    rest = dict(values)
    in_order = True
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return None
    takes_more = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return None
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            takes_more = True
            continue
        positional = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        if name in rest:
            value = rest.pop(name)
        elif parameter.default is inspect.Parameter.empty:
            value = None
        else:
            in_order = False
            continue
        if positional and (in_order or parameter.kind is inspect.Parameter.POSITIONAL_ONLY):
            args.append(value)
        else:
            kwargs[name] = value
    if rest and not takes_more:
        return None
    return args, {**kwargs, **rest}


def _by_schema(schema: Any, values: Dict[str, Any]) -> Optional[Call]:
    names = {parameter.name for parameter in schema.arguments}
    if any(name not in names and name not in ("device", "out", "requires_grad", "offsets") for name in values):
        return None
    args: List[Any] = []
    kwargs: Dict[str, Any] = {}
    in_order = True
    for parameter in schema.arguments:
        if parameter.name not in values:
            if not parameter.has_default_value():
                return None
            in_order = False
            continue
        value = values[parameter.name]
        is_list = str(parameter.type).startswith("List[") and "int" not in str(parameter.type)
        if is_list and not isinstance(value, list):
            value = [value]
        if parameter.has_default_value() and _is_default(parameter.default_value, value):
            in_order = False
        elif in_order and not parameter.kwarg_only:
            args.append(value)
        else:
            kwargs[parameter.name] = value
    # Offsets of jagged tensors are written down as numbers too, which no function takes by this name.
    extra = {name: value for name, value in values.items() if name not in names and name != "offsets"}
    if isinstance(extra.get("out"), list):
        extra["out"] = tuple(extra["out"])
    return args, {**kwargs, **extra}


def _is_default(default: Any, value: Any) -> bool:
    return type(default) is type(value) and type(value) in (bool, int, float, str) and default == value


def _by_position(values: Dict[str, Any]) -> Call:
    args: List[Any] = []
    kwargs: Dict[str, Any] = {}
    for name, value in values.items():
        if name == "input" and not args:
            args.insert(0, value)
        elif name == f"arg{len(args)}":
            args.append(value)
        else:
            kwargs[name] = value
    return args, kwargs
