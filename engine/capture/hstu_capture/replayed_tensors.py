"""What an evaluation asks of single tensors: whether they are the same, and how far they are apart."""

import math
from typing import Any, Dict, List, Sequence

from .wire import to_wire


def difference(torch: Any, value: Any, recorded: Any) -> Dict[str, Any]:
    first, second = recorded.double(), value.double()
    difference = (second - first).abs()
    norm = float(torch.linalg.vector_norm(first))
    distance = float(torch.linalg.vector_norm(difference))
    return {
        "maxAbs": to_wire(float(difference.max()) if difference.numel() else 0.0),
        "relL2": to_wire(distance / norm if norm else (math.inf if distance else 0.0)),
        "dtypes": [str(value.dtype)[6:], str(recorded.dtype)[6:]],
    }


def bits_equal(torch: Any, first: Any, second: Any) -> bool:
    if first.numel() == 0:
        return True
    return torch.equal(first.reshape(-1).view(torch.uint8), second.reshape(-1).view(torch.uint8))


def like(torch: Any, computed: Any, value: Any) -> Any:
    """The value laid out in memory as the computed tensor is: kernels add up in the order of the memory."""
    strides = computed.stride()
    if any(stride == 0 and size > 1 for stride, size in zip(strides, computed.shape)) or computed.numel() == 0:
        return value.clone(memory_format=torch.contiguous_format)
    extent = 1 + sum((size - 1) * stride for size, stride in zip(computed.shape, strides))
    if extent > 4 * computed.numel() + 1024:
        return value.clone(memory_format=torch.contiguous_format)
    made = torch.empty(extent, dtype=computed.dtype, device=computed.device).as_strided(computed.shape, strides)
    return made.copy_(value)


def storage(tensor: Any) -> int:
    try:
        return tensor.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):
        return -id(tensor)


def index_of(tensors: Sequence[Any], wanted: Any) -> int:
    return next((index for index, tensor in enumerate(tensors) if tensor is wanted), -1)


def has_type(wanted: type, args: Sequence[Any], kwargs: Dict[str, Any]) -> bool:
    return any(isinstance(value, wanted) for value in (*args, *kwargs.values()))


def tensors_in(tensor_type: type, value: Any) -> List[Any]:
    if isinstance(value, tensor_type):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in tensors_in(tensor_type, item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors_in(tensor_type, item)]
    return []
