"""Values of Tripy programs: their types here, in traces and in the runtime, and which arguments a program takes."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

Feeds = Dict[str, Tuple[str, Sequence[int], bytes]]

# The runtime's codes of nvtripy's data types.
CODES = {
    "float32": "f32", "float16": "f16", "bfloat16": "bf16", "float8": "f8e4m3fn",
    "int64": "i64", "int32": "i32", "int8": "i8", "int4": "i4", "bool": "i1",
}  # fmt: skip
_DTYPES = {code: dtype for dtype, code in CODES.items()}
# Types that traces and numpy lack: their values are kept in one that holds them exactly.
CARRIERS = {"float8": "float32", "int4": "int8"}


def signature_of(trace: Any) -> List[Any]:
    """Data type and bounds of the shape of each input of a compiled program."""
    signature = []
    for info in (trace.input_infos or {}).values():
        bounds = getattr(info, "shape_bounds", None)
        if bounds is None:
            # A size that is an input: it has bounds for its value.
            signature.append({"dtype": "int32", "min": [], "max": []})
        else:
            lengths = {"min": [int(size) for size in bounds.min], "max": [int(size) for size in bounds.max]}
            signature.append({"dtype": info.dtype.name, **lengths})
    return signature


def arguments_misfit(signature: List[Any], arguments: Sequence[Any]) -> Optional[str]:
    """
    Why a program does not take these arguments, in the words of TensorRT's runtime, which the frontend looks for to
    say more; None where it does.
    """
    for index, (wanted, argument) in enumerate(zip(signature, arguments)):
        if CODES[wanted["dtype"]] != argument.dtype.name:
            return (
                f"InvalidArgument: Input argument {index} validation failed against corresponding function signature: "
                f"function expects a memref type with element type {CODES[wanted['dtype']]} but received "
                f"element type {argument.dtype.name}"
            )
        shape = argument.array.shape
        fits = len(shape) == len(wanted["min"]) and all(
            low <= size <= high for low, size, high in zip(wanted["min"], shape, wanted["max"])
        )
        if not fits:
            return (
                f"InvalidArgument: Input argument {index}: Runtime shape mismatch. Expected sizes from "
                f"{wanted['min']} to {wanted['max']} but received {list(shape)}"
            )
    return None


def value_of(runtime: Any, dtype: str, stored: str, shape: Sequence[int], values: bytes) -> Any:
    """A tensor of the runtime; `dtype` is what the program calls its type, `stored` the type of the bytes."""
    numpy_type = np.dtype(np.uint16 if stored == "bfloat16" else np.bool_ if stored == "bool" else stored)
    array = np.frombuffer(bytearray(values), numpy_type).reshape(tuple(shape))
    return runtime.MemRefValue(array, runtime.PointerType.device, runtime.ScalarTypeCode[CODES[dtype]])


def as_feed(value: Any) -> Tuple[str, Sequence[int], bytes]:
    dtype = CARRIERS.get(_DTYPES[value.dtype.name], _DTYPES[value.dtype.name])
    return dtype, tuple(value.array.shape), np.ascontiguousarray(value.array).tobytes()
