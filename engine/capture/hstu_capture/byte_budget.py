"""How many bytes of tensors one run may write, and what is kept of those that are over it."""

import math
import sys
import warnings
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .wire import to_wire

# Of a tensor seen as rows of its last axis, so many are kept: the first, the last, and some evenly between them.
SAMPLED_ROWS = 16
# Elements that are turned into float64 at once.
_PIECE = 256 * 1024


class ByteBudget:
    """Counts what all traces of one run write. No limit where it is 0."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0

    @property
    def is_spent(self) -> bool:
        return 0 < self.limit <= self.spent

    def spend(self, count: int) -> None:
        self.spent += count


class Summary(NamedTuple):
    """What is kept of a float tensor: statistics of all its elements, and some rows [rows, last axis]."""

    # As in engine/protocol/tensor.ts.
    statistics: Dict[str, Any]
    rows: List[int]
    sample: bytes
    sample_shape: Tuple[int, int]
    bytes_saved: int


def summarise(dtype: str, shape: Sequence[int], values: bytes) -> Optional[Summary]:
    """None where neither numpy nor torch is there to read the numbers, or where little would be saved."""
    width = shape[-1] if shape else 1
    count = math.prod(shape)
    if count == 0 or width == 0:
        return None
    height = count // width
    rows = sampled_rows(height)
    if len(rows) == height:
        return None
    statistics = _statistics(dtype, values, count)
    if statistics is None:
        return None
    row_bytes = len(values) // height
    sample = b"".join(values[row * row_bytes : (row + 1) * row_bytes] for row in rows)
    return Summary(statistics, rows, sample, (len(rows), width), len(values) - len(sample))


def sampled_rows(height: int) -> List[int]:
    if height <= SAMPLED_ROWS:
        return list(range(height))
    return [index * (height - 1) // (SAMPLED_ROWS - 1) for index in range(SAMPLED_ROWS)]


def _statistics(dtype: str, values: bytes, count: int) -> Optional[Dict[str, Any]]:
    size = len(values) // count
    pieces = (values[begin : begin + _PIECE * size] for begin in range(0, len(values), _PIECE * size))
    if "numpy" in sys.modules:
        parts = [_by_numpy(dtype, piece) for piece in pieces]
    elif "torch" in sys.modules:
        parts = [_by_torch(dtype, piece) for piece in pieces]
    else:
        return None
    nan, inf, zeros, finite = (sum(part[index] for part in parts) for index in range(4))
    mean = math.fsum(part[6] for part in parts) / finite if finite else math.nan
    mean_square = math.fsum(part[7] for part in parts) / finite if finite else math.nan
    return {
        "min": to_wire(min((part[4] for part in parts if part[3]), default=math.nan)),
        "max": to_wire(max((part[5] for part in parts if part[3]), default=math.nan)),
        "mean": to_wire(mean),
        "rms": to_wire(math.sqrt(mean_square)),
        "nan": nan,
        "inf": inf,
        "zeros": zeros,
    }


# NaNs, infinities, zeros, finite ones; minimum, maximum, sum and sum of squares of the finite ones.
_Part = Tuple[int, int, int, int, float, float, float, float]


def _by_numpy(dtype: str, values: bytes) -> _Part:
    np = sys.modules["numpy"]
    if dtype == "bfloat16":
        # Its bits are the upper half of those of a float32.
        wide = (np.frombuffer(values, np.uint16).astype(np.uint32) << 16).view(np.float32)
        numbers = wide.astype(np.float64)
    else:
        numbers = np.frombuffer(values, dtype).astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    counts = (
        int(np.isnan(numbers).sum()),
        int(np.isinf(numbers).sum()),
        int((numbers == 0).sum()),
        int(finite.size),
    )
    if not finite.size:
        return (*counts, 0.0, 0.0, 0.0, 0.0)
    with np.errstate(over="ignore"):
        return (*counts, float(finite.min()), float(finite.max()), float(finite.sum()), float(np.dot(finite, finite)))


def _by_torch(dtype: str, values: bytes) -> _Part:
    torch = sys.modules["torch"]
    with torch._C.DisableTorchFunction(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers = torch.frombuffer(values, dtype=getattr(torch, dtype)).to(torch.float64)
        finite = numbers[torch.isfinite(numbers)]
        counts = (
            int(torch.isnan(numbers).sum()),
            int(torch.isinf(numbers).sum()),
            int((numbers == 0).sum()),
            int(finite.numel()),
        )
        if not finite.numel():
            return (*counts, 0.0, 0.0, 0.0, 0.0)
        return (*counts, float(finite.min()), float(finite.max()), float(finite.sum()), float(finite.dot(finite)))
