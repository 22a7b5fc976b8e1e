"""The raw values of torch tensors, as the trace stores them."""

import ctypes
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
_names_of: dict = {}


def dtype_name(torch: Any, dtype: Any) -> str:
    """The trace's name of a dtype. What it has no word for is recorded as a wider float that holds every value."""
    name = _names_of.get(dtype)
    if name is None:
        name = _NAMES.get(str(dtype)) or ("float64" if dtype == torch.complex128 else "float32")
        _names_of[dtype] = name
    return name


def has_name(dtype: Any) -> bool:
    return str(dtype) in _NAMES


def snapshot(torch: Any, tensor: Any) -> Tuple[str, Tuple[int, ...], Optional[bytes]]:
    """
    Type, shape and a copy of the values as little-endian bytes in C order. Complex numbers get a last axis of 2.
    The values are None where there are none to read (meta, sparse, nested and fake tensors, those inside vmap).
    """
    dtype, shape, values = raw_values(torch, tensor)
    return dtype, shape, None if values is None else bytes(values)


def raw_values(torch: Any, tensor: Any) -> Tuple[str, Tuple[int, ...], Any]:
    """As snapshot, but the values are the tensor's own memory where that is dense: for immediate use only."""
    dtype = dtype_name(torch, tensor.dtype)
    try:
        dense = dense_values(torch, tensor)
        if dense is not None:
            shape = tuple(dense.shape)
            return dtype, shape, _memory(dense)
    except Exception:  # noqa: BLE001: what cannot be read has no values, whatever its type thinks of being asked
        pass
    return dtype, _shape_of(tensor), None


def dense_values(torch: Any, tensor: Any) -> Any:
    """The values as a contiguous tensor on the CPU, None where there are none."""
    if tensor.layout is not torch.strided or tensor.device.type == "meta" or getattr(tensor, "is_nested", False):
        return None
    functorch = torch._C._functorch
    if functorch.is_functorch_wrapped_tensor(tensor):
        while functorch.is_functorch_wrapped_tensor(tensor):
            if functorch.is_batchedtensor(tensor):
                return None
            tensor = functorch.get_unwrapped(tensor)
        # Within a transform, whatever is done to the tensor inside would be wrapped again.
        with torch._functorch.pyfunctorch.temporarily_clear_interpreter_stack():
            return dense_values(torch, tensor)
    dense = tensor.detach()
    if dense.is_quantized:
        dense = dense.dequantize()
    if dense.is_complex():
        dense = torch.view_as_real(dense.resolve_conj())
    elif str(dense.dtype) not in _NAMES:
        dense = dense.to(torch.float32)
    return dense.resolve_neg().cpu().contiguous()


def _memory(dense: Any) -> Any:
    size = dense.numel() * dense.element_size()
    if not size:
        return b""
    address = dense.data_ptr()
    if not address:
        return None
    array = (ctypes.c_ubyte * size).from_address(address)
    array.owner = dense
    return memoryview(array).cast("B")


def _shape_of(tensor: Any) -> Tuple[int, ...]:
    try:
        return () if getattr(tensor, "is_nested", False) else tuple(int(size) for size in tensor.shape)
    except Exception:  # noqa: BLE001: symbolic sizes and the like
        return ()


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
