"""
Evaluates small Tripy programs without an engine: integer and boolean arithmetic, and the moving of floats.

Shapes of floating-point results are followed without their values: a frontend asks for sizes all the time. What needs
the value of a floating-point computation is not for here; `evaluate` then gives None.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    # numpy has none: its bits are moved as they are, and only a cast looks into them.
    "bfloat16": np.dtype(np.uint16),
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int8": np.dtype(np.int8),
    "bool": np.dtype(np.bool_),
}

Shape = Tuple[int, ...]


class NotForHost(Exception):
    """The program needs an engine."""


class Misfit(Exception):
    """The shapes of an op's operands do not go together; the message is in TensorRT's words."""


def evaluate(trace: Any, inputs: Sequence[np.ndarray]) -> Optional[List[np.ndarray]]:
    """The outputs of an nvtripy Trace, or None where only an engine can compute them. Raises Misfit."""
    try:
        evaluation = _Evaluation(trace, inputs, _demand(trace))
        evaluation.run()
        return evaluation.outputs()
    except NotForHost:
        return None


def shapes_misfit(trace: Any, inputs: Sequence[np.ndarray]) -> Optional[str]:
    """What is wrong with the shapes of a program's operands, as far as they can be followed; None where nothing is."""
    try:
        _Evaluation(trace, inputs, _demand(trace, values=False)).run()
    except Misfit as error:
        return str(error)
    except NotForHost:
        pass
    return None


class _Evaluation:
    def __init__(self, trace: Any, inputs: Sequence[np.ndarray], demand: Tuple[Set[int], Set[int]]) -> None:
        self._trace = trace
        self._values: Dict[int, np.ndarray] = {id(t): array for t, array in zip(trace.inputs, inputs)}
        self._shapes: Dict[int, Shape] = {key: array.shape for key, array in self._values.items()}
        self._wanted, self._shape_wanted = demand

    def run(self) -> None:
        for op in self._trace.ops:
            try:
                # Integers divide by zero and overflow in silence, as they do on a GPU.
                with np.errstate(all="ignore"):
                    if any(id(output) in self._wanted for output in op.outputs):
                        self._compute(op)
                    elif any(id(output) in self._shape_wanted for output in op.outputs):
                        self._shapes[id(op.outputs[0])] = self._shape_of(op)
            except (ValueError, IndexError) as error:
                raise _misfit(type(op).__name__, error) from None

    def outputs(self) -> List[np.ndarray]:
        return [self._values[id(output)] for output in self._trace.outputs]

    def _compute(self, op: Any) -> None:
        kind = type(op).__name__
        output = op.outputs[0]
        dtype = DTYPES.get(output.dtype.name)
        if dtype is None or len(op.outputs) != 1:
            raise NotForHost(kind)
        if kind == "Constant":
            value = op.data.array
        elif kind == "Shape":
            value = np.array(self._shapes[id(op.inputs[0])], np.int32)
        else:
            inputs = [self._values[id(tensor)] for tensor in op.inputs]
            if kind in _MOVES:
                value = _MOVES[kind](op, inputs)
            elif kind == "Linspace":
                value = _linspace(op, inputs)
            elif kind in _INTEGER_OPS and all(array.dtype.kind in "ib" for array in inputs):
                value = _INTEGER_OPS[kind](op, inputs)
            else:
                raise NotForHost(kind)
        value = np.asarray(value).astype(dtype, copy=False)
        self._values[id(output)] = value
        self._shapes[id(output)] = value.shape

    def _shape_of(self, op: Any) -> Shape:
        kind = type(op).__name__
        shapes = [self._shapes.get(id(tensor)) for tensor in op.inputs]
        if kind == "Constant":
            return tuple(op.data.array.shape)
        if len(op.outputs) != 1:
            raise NotForHost(kind)
        if kind in _SHAPED_BY:
            sizes = [int(size) for size in self._values[id(op.inputs[_SHAPED_BY[kind]])]]
            return _filled(sizes, shapes[0]) if kind == "Reshape" else tuple(sizes)
        if kind == "Concatenate":
            sizes = list(shapes[0] or ())
            _refuse_unlike(shapes, op.dim)
            sizes[op.dim] = sum((shape or ())[op.dim] for shape in shapes)
            return tuple(sizes)
        if kind == "Permute":
            return tuple((shapes[0] or ())[axis] for axis in op.permutation)
        if kind == "Gather":
            data, index = shapes[0] or (), shapes[1] or ()
            return (*data[: op.dim], *index, *data[op.dim + 1 :])
        if kind == "MatrixMultiply":
            return _matmul_shape(shapes[0] or (), shapes[1] or ())
        if hasattr(op, "keepdim"):
            return _reduced(op, shapes[0] or ())
        if kind in _LIKE_FIRST:
            return shapes[0] or ()
        if kind in _ELEMENTWISE:
            return np.broadcast_shapes(*(shape for shape in shapes if shape is not None))
        raise NotForHost(kind)


def _misfit(kind: str, error: Exception) -> Exception:
    if kind == "Concatenate":
        return Misfit("all concat input tensors must have the same dimensions except on the concatenation axis")
    if kind in _ELEMENTWISE:
        return Misfit(f"broadcast dimensions must be conformable ({kind}: {error})")
    if kind in ("Reshape", "Broadcast", "MatrixMultiply"):
        return Misfit(f"{kind}: {error}")
    return NotForHost(kind)


def _demand(trace: Any, values: bool = True) -> Tuple[Set[int], Set[int]]:
    """
    Tensors whose values are needed for the outputs or, without `values`, for their shapes; and those of which the
    shape is enough.
    """
    outputs = {id(output) for output in trace.outputs}
    wanted: Set[int] = outputs if values else set()
    shape_wanted: Set[int] = set() if values else outputs
    for op in reversed(trace.ops):
        kind = type(op).__name__
        if any(id(output) in wanted for output in op.outputs):
            (shape_wanted if kind == "Shape" else wanted).update(id(tensor) for tensor in op.inputs)
        elif any(id(output) in shape_wanted for output in op.outputs):
            shape_wanted.update(id(tensor) for tensor in op.inputs)
            if kind in _SHAPED_BY:
                wanted.add(id(op.inputs[_SHAPED_BY[kind]]))
    return wanted, shape_wanted


def _refuse_unlike(shapes: Sequence[Optional[Shape]], dim: int) -> None:
    others = {(*shape[:dim], *shape[dim:][1:]) for shape in shapes if shape is not None}
    if len(others) > 1:
        raise ValueError("sizes differ")


def _filled(sizes: List[int], shape: Optional[Shape]) -> Shape:
    if -1 not in sizes:
        return tuple(sizes)
    known = int(np.prod([size for size in sizes if size != -1]))
    total = int(np.prod(shape or ()))
    return tuple(total // known if size == -1 else size for size in sizes)


def _matmul_shape(a: Shape, b: Shape) -> Shape:
    # Tripy gives both operands the same rank, but for vectors.
    if len(a) == 1 and len(b) == 1:
        return ()
    if len(a) == 1:
        return (*b[:-2], b[-1])
    if len(b) == 1:
        return a[:-1]
    return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])


def _reduced(op: Any, shape: Shape) -> Shape:
    axes = {axis % len(shape) for axis in op.dim}
    if op.keepdim:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _ints(array: np.ndarray) -> List[int]:
    return [int(value) for value in array]


def _divide(op: Any, inputs: List[np.ndarray]) -> np.ndarray:
    # TensorRT's integer division rounds towards zero.
    a, b = inputs
    _refuse_zero(b)
    # The lowest integer has no absolute value: from the floor one goes up where something was cut off below zero.
    floor = a // b
    return floor + ((floor * b != a) & ((a < 0) != (b < 0)))


def _floor_divide(op: Any, inputs: List[np.ndarray]) -> np.ndarray:
    _refuse_zero(inputs[1])
    return inputs[0] // inputs[1]


def _refuse_zero(divisor: np.ndarray) -> None:
    if np.any(divisor == 0):
        raise NotForHost("division by zero")


def _slice(op: Any, inputs: List[np.ndarray]) -> np.ndarray:
    data = inputs[0]
    for axis, (start, size, stride) in enumerate(zip(*(_ints(part) for part in inputs[1:4]))):
        data = np.take(data, start + stride * np.arange(size), axis)
    return data


def _slice_fill(op: Any, inputs: List[np.ndarray]) -> np.ndarray:
    data, starts, sizes, strides = inputs[0], *(_ints(part) for part in inputs[1:4])
    result = np.full(sizes, inputs[4] if len(inputs) > 4 else 0, data.dtype)
    places = [start + stride * np.arange(size) for start, size, stride in zip(starts, sizes, strides)]
    inside = [(place >= 0) & (place < length) for place, length in zip(places, data.shape)]
    target = np.ix_(*(np.flatnonzero(mask) for mask in inside))
    source = np.ix_(*(place[mask] for place, mask in zip(places, inside)))
    result[target] = data[source]
    return result


def _linspace(op: Any, inputs: List[np.ndarray]) -> np.ndarray:
    """Start plus index times step, each operation rounded once: as the engine does it."""
    dtype = DTYPES[op.dtype.name]
    if op.dtype.name not in ("float32", "int32", "int64"):
        raise NotForHost("Linspace")
    shape = tuple(_ints(inputs[0]))
    steps = np.atleast_1d(inputs[2]).astype(dtype)
    result = np.full(shape, inputs[1], dtype)
    for axis, length in enumerate(shape):
        if steps[axis] != 0:
            offsets = np.arange(length).astype(dtype) * steps[axis]
            result = result + offsets.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return result


def _cast(op: Any, inputs: List[np.ndarray]) -> np.ndarray:
    before, after = op.inputs[0].dtype.name, op.dtype.name
    values = _from_bfloat16(inputs[0]) if before == "bfloat16" else inputs[0]
    if after == "bfloat16":
        return _to_bfloat16(values.astype(np.float32))
    # What a float beyond an integer type becomes is the engine's affair.
    if values.dtype.kind == "f" and after in ("int8", "int32", "int64"):
        limits = np.iinfo(DTYPES[after])
        if not np.all((values >= limits.min) & (values < limits.max + 1.0)):
            raise NotForHost("Cast")
    return values.astype(DTYPES[after])


def _from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    """To the nearest, halves to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values).reshape(values.shape).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def _reduction(function: Callable[..., np.ndarray]) -> Callable[[Any, List[np.ndarray]], np.ndarray]:
    return lambda op, inputs: function(inputs[0], axis=tuple(op.dim), keepdims=op.keepdim)


def _max(op: Any, inputs: List[np.ndarray]) -> np.ndarray:
    # nvtripy has two classes of this name.
    return _reduction(np.max)(op, inputs) if hasattr(op, "keepdim") else np.maximum(*inputs)


def _min(op: Any, inputs: List[np.ndarray]) -> np.ndarray:
    return _reduction(np.min)(op, inputs) if hasattr(op, "keepdim") else np.minimum(*inputs)


def _elementwise(function: Callable[..., np.ndarray]) -> Callable[[Any, List[np.ndarray]], np.ndarray]:
    return lambda op, inputs: function(*inputs)


# Values that are moved or rounded once, exactly as any engine does it; all types.
_MOVES: Dict[str, Callable[[Any, List[np.ndarray]], np.ndarray]] = {
    "GetDimensionSize": lambda op, inputs: inputs[0][op.dim],
    "Cast": _cast,
    "Reshape": lambda op, inputs: inputs[0].reshape(_ints(inputs[1])),
    "Broadcast": lambda op, inputs: np.broadcast_to(inputs[0], _ints(inputs[1])),
    "Concatenate": lambda op, inputs: np.concatenate(inputs, op.dim),
    "Permute": lambda op, inputs: np.transpose(inputs[0], op.permutation),
    "Gather": lambda op, inputs: np.take(inputs[0], inputs[1], op.dim),
    "Slice": _slice,
    "SliceFill": _slice_fill,
    "Where": lambda op, inputs: np.where(*inputs),
}
_INTEGER_OPS: Dict[str, Callable[[Any, List[np.ndarray]], np.ndarray]] = {
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _divide,
    "FloorDiv": _floor_divide,
    "Max": _max,
    "Min": _min,
    "Sum": _reduction(np.sum),
    "Prod": _reduction(np.prod),
    "Less": _elementwise(np.less),
    "Greater": _elementwise(np.greater),
    "Equal": _elementwise(np.equal),
    "LogicalOr": _elementwise(np.logical_or),
    "Not": _elementwise(np.logical_not),
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
}
# Which input holds the sizes of the result.
_SHAPED_BY = {"Reshape": 1, "Broadcast": 1, "Slice": 2, "SliceFill": 2, "SliceReflect": 2, "Linspace": 0}
_LIKE_FIRST = {
    "Cast", "Exp", "Log", "Sin", "Cos", "Sqrt", "Tanh", "Abs", "Neg", "Not", "Recip", "Relu", "Sigmoid", "GeluErf",
    "Softmax", "LayerNorm", "InstanceNorm", "Quantize", "Dequantize",
}  # fmt: skip
_ELEMENTWISE = {
    "Add", "Sub", "Mul", "Div", "FloorDiv", "Max", "Min", "Pow", "Less", "Greater", "Equal", "LogicalOr", "Where",
}  # fmt: skip
