"""The raw values of torch tensors, as the trace stores them."""

import ctypes
import hashlib
from typing import Any, Optional, Tuple

_NAMES = {
    "torch.float64": "float64",
    "torch.float32": "float32",
    "torch.float16": "float16",
    "torch.bfloat16": "bfloat16",
    "torch.int64": "int64",
    "torch.int32": "int32",
    "torch.int16": "int16",
    "torch.int8": "int8",
    "torch.uint64": "uint64",
    "torch.uint32": "uint32",
    "torch.uint16": "uint16",
    "torch.uint8": "uint8",
    "torch.bool": "bool",
}


def dtype_name(torch: Any, dtype: Any) -> str:
    """The trace's name of a dtype. What it has no word for is recorded as a wider float that holds every value."""
    name = _NAMES.get(str(dtype))
    if name is not None:
        return name
    return "float64" if dtype == torch.complex128 else "float32"


def has_name(dtype: Any) -> bool:
    return str(dtype) in _NAMES


def snapshot(torch: Any, tensor: Any) -> Tuple[str, Tuple[int, ...], Optional[bytes]]:
    """
    Type, shape and a copy of the values as little-endian bytes in C order. Complex numbers get a last axis of 2.
    The values are None where there are none to read (meta, sparse and nested tensors).
    """
    dtype = dtype_name(torch, tensor.dtype)
    if tensor.layout is not torch.strided or tensor.device.type == "meta" or getattr(tensor, "is_nested", False):
        shape = () if getattr(tensor, "is_nested", False) else tuple(tensor.shape)
        return dtype, shape, None
    values = dense(torch, tensor)
    shape = tuple(values.shape)
    size = values.numel() * values.element_size()
    return dtype, shape, ctypes.string_at(values.data_ptr(), size) if size else b""


def dense(torch: Any, tensor: Any) -> Any:
    """The values in C order on the CPU, in a type that the trace has a name for; complex numbers get a last axis of 2."""
    values = tensor.detach()
    if values.is_quantized:
        values = values.dequantize()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    elif not has_name(tensor.dtype):
        values = values.to(torch.float32)
    return values.resolve_neg().cpu().contiguous()


def content_hash(torch: Any, tensor: Any) -> Tuple[Any, ...]:
    dtype, shape, values = snapshot(torch, tensor)
    return dtype, shape, None if values is None else hashlib.blake2b(values, digest_size=16).digest()


def rel_l2(torch: Any, dtype: str, first: bytes, second: bytes) -> float:
    """‖second − first‖₂ / ‖first‖₂ in float64; of integers and booleans the same of their numbers."""
    a, b = (_as_float64(torch, dtype, values) for values in (first, second))
    norm = float(torch.linalg.vector_norm(a))
    difference = float(torch.linalg.vector_norm(b - a))
    if norm == 0:
        return float("inf") if difference else 0.0
    return difference / norm


def _as_float64(torch: Any, dtype: str, values: bytes) -> Any:
    return torch.frombuffer(bytearray(values), dtype=getattr(torch, dtype)).to(torch.float64)
