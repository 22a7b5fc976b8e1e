"""
What TensorRT refuses, checked before a program runs without it: a script must not work here and fail on a GPU.

The data types are those of the operands in the TensorRT dialect of MLIR and in TensorRT's own list of operators. The
frontend checks most of them already, unless the user switched that off (nvtripy.config.enable_input_validation).
"""

from typing import Any, Callable, Dict, FrozenSet, Optional

_FLOATS = frozenset({"float32", "float16", "bfloat16"})
_WIDE_INTEGERS = frozenset({"int32", "int64"})
_NUMBERS = _FLOATS | _WIDE_INTEGERS | {"int8"}
_PLAIN = _NUMBERS | {"bool"}

Rule = Callable[[Any], Optional[str]]


def refusal(op: Any) -> Optional[str]:
    """Why TensorRT refuses the data types of an op of a Trace; None where it takes them."""
    kind = type(op).__name__
    if kind in ("Max", "Min") and hasattr(op, "keepdim"):
        kind = "Reduce"
    rule = _RULES.get(kind)
    return None if rule is None else rule(op)


def _name(tensor: Any) -> str:
    return tensor.dtype.name


def _inputs_of(types: FrozenSet[str], count: Optional[int] = None) -> Rule:
    """The first `count` inputs have one and the same of these types."""

    def rule(op: Any) -> Optional[str]:
        names = [_name(tensor) for tensor in op.inputs[:count]]
        for name in names:
            if name not in types:
                return f"{type(op).__name__} takes no tensor of {name}, but only {', '.join(sorted(types))}"
        if len(set(names)) > 1:
            return f"{type(op).__name__} takes tensors of one data type, not {', '.join(names)}"
        return None

    return rule


def _both(*rules: Rule) -> Rule:
    return lambda op: next((said for said in (rule(op) for rule in rules) if said is not None), None)


def _input_is(index: int, types: FrozenSet[str]) -> Rule:
    def rule(op: Any) -> Optional[str]:
        name = _name(op.inputs[index])
        return None if name in types else f"input {index} of {type(op).__name__} cannot be a tensor of {name}"

    return rule


def _output_is(types: FrozenSet[str]) -> Rule:
    def rule(op: Any) -> Optional[str]:
        name = _name(op.outputs[0])
        return None if name in types else f"{type(op).__name__} makes no tensor of {name}"

    return rule


def _where(op: Any) -> Optional[str]:
    return _input_is(0, frozenset({"bool"}))(op) or _same(op.inputs[1:], _PLAIN, "Where")


def _same(tensors: Any, types: FrozenSet[str], kind: str) -> Optional[str]:
    names = [_name(tensor) for tensor in tensors]
    if len(set(names)) > 1 or names[0] not in types:
        return f"{kind} cannot choose between tensors of {' and '.join(names)}"
    return None


def _has_axes(op: Any) -> Optional[str]:
    return f"{type(op).__name__} takes no tensor without axes" if op.inputs[0].rank == 0 else None


def _no_float8_to_int8(op: Any) -> Optional[str]:
    """Values cannot go from float8 to int8 or back, although each of the two steps between them exists."""
    made, before = op.outputs[0].dtype.name, op.inputs[0].producer
    kind = type(before).__name__
    if kind in ("Dequantize", "Cast") and {made, _name(before.inputs[0])} == {"float8", "int8"}:
        return f"there is no conversion from {_name(before.inputs[0])} to {made}"
    return None


_SCALED = frozenset({"int8", "float8", "int4"})
_ARITHMETIC = _inputs_of(_NUMBERS)
_FLOAT = _inputs_of(_FLOATS)
_ACTIVATION = _inputs_of(_FLOATS | {"int8"})
_REDUCTION = _inputs_of(_FLOATS | _WIDE_INTEGERS)
_RESIZE = _inputs_of(frozenset({"float32", "float16", "int8"}), 1)
_RULES: Dict[str, Rule] = {
    **{kind: _ARITHMETIC for kind in ("Add", "Sub", "Mul", "Div", "FloorDiv", "Max", "Min", "Abs", "Neg")},
    **{kind: _ARITHMETIC for kind in ("Less", "Greater", "Equal", "Relu")},
    **{kind: _FLOAT for kind in ("Exp", "Log", "Sin", "Cos", "Sqrt", "Recip")},
    **{kind: _FLOAT for kind in ("MatrixMultiply", "Softmax", "LayerNorm", "InstanceNorm", "Convolution")},
    **{kind: _ACTIVATION for kind in ("Tanh", "Sigmoid", "GeluErf", "MaxPooling", "AvgPooling")},
    **{kind: _REDUCTION for kind in ("Reduce", "Sum", "Prod", "Avg", "TopKMax", "TopKMin")},
    **{kind: _RESIZE for kind in ("ResizeNearest", "ResizeLinear", "ResizeCubic")},
    "Pow": _inputs_of(_FLOATS | {"int8", "int64"}),
    "LogicalOr": _inputs_of(frozenset({"bool"})),
    "Not": _inputs_of(frozenset({"bool"})),
    "Deconvolution": _inputs_of(frozenset({"float32", "float16"})),
    "Linspace": _output_is(frozenset({"float32", "int32", "int64"})),
    "Concatenate": _inputs_of(_PLAIN | {"float8", "int4"}),
    "Gather": _both(_inputs_of(_PLAIN | {"int4"}, 1), _input_is(1, _WIDE_INTEGERS)),
    "Slice": _inputs_of(_PLAIN | {"int4"}, 1),
    "SliceFill": _inputs_of(frozenset({"float32", "float16", "bool", "int32", "int64"}), 1),
    "SliceReflect": _inputs_of(frozenset({"float32", "float16", "bool", "int32", "int64"}), 1),
    "Broadcast": _inputs_of(_PLAIN - {"int8"}, 1),
    "Permute": _inputs_of(_PLAIN | {"int4"}, 1),
    "Reshape": _inputs_of(_PLAIN | {"int4"}, 1),
    "Where": _where,
    "Cast": _both(_inputs_of(_PLAIN), _output_is(_PLAIN), _no_float8_to_int8),
    "Quantize": _both(_inputs_of(_FLOATS), _output_is(_SCALED), _has_axes, _no_float8_to_int8),
    "Dequantize": _both(_input_is(0, _SCALED), _input_is(1, _FLOATS), _output_is(_FLOATS), _has_axes),
}  # fmt: skip
