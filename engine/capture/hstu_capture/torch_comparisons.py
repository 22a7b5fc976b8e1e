"""
Which recorded call the tensors outside of it came from, and the operations that bring results of two calls together:
mostly the script's own check.
"""

import functools
import os
import sys
from types import FrameType
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Set, Tuple

from .source_frames import SourceFrame, first_user_frame

# The attribute that an array of another framework may carry: the file of the trace that it came from.
TRACE_OF = "_hstu_capture_trace"

_COMPARING = {
    "sub", "sub_", "subtract", "rsub", "__sub__", "__rsub__", "__isub__", "allclose", "isclose", "equal", "eq", "ne",
    "__eq__", "__ne__", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "cosine_similarity", "dist",
    "cdist", "pairwise_distance", "not_equal",
}  # fmt: skip
_NUMPY_COMPARING = (
    "allclose", "isclose", "array_equal", "array_equiv", "testing.assert_allclose", "testing.assert_array_equal",
    "testing.assert_array_almost_equal", "testing.assert_almost_equal", "testing.assert_equal",
)  # fmt: skip
_TO_NUMPY = {"numpy", "__array__"}
_MAX_DEPTH = 3
_NONE: FrozenSet[str] = frozenset()

Note = Callable[[str, str, str, Optional[SourceFrame]], None]


class Comparisons:
    def __init__(self, torch: Any, note: Optional[Note]) -> None:
        self._torch = torch
        self._note = note
        self._origins: Dict[int, Tuple[Any, FrozenSet[str]]] = {}
        self._noted: Set[Tuple[str, str, str, int]] = set()
        self._numpy_done = False
        self.last_was_comparison = False

    def install(self) -> None:
        """Arrays of other frameworks come in through DLPack."""
        if self._note is None:
            return
        torch = self._torch
        for holder in (torch, torch.utils.dlpack):
            original = getattr(holder, "from_dlpack", None)
            if original is not None:
                holder.from_dlpack = self._importing(original)

    def came_from(self, tensor: Any, file: str) -> None:
        if self._note is None:
            return
        self._set(tensor, frozenset((file,)))
        if not self._numpy_done and "numpy" in sys.modules:
            self._numpy_done = True
            self._observe_numpy(sys.modules["numpy"])

    def origins_of(self, value: Any) -> FrozenSet[str]:
        entry = self._origins.get(id(value))
        return entry[1] if entry is not None and entry[0]() is value else _NONE

    def before(self, func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any], frame: FrameType) -> FrozenSet[str]:
        """Notes a comparison; gives the traces that the results derive from."""
        if not self._origins:
            return _NONE
        found = self._argument_origins((*args, *kwargs.values()))
        if not found:
            return _NONE
        name = getattr(func, "__name__", "")
        self.last_was_comparison = False
        if len(found) > 1 and name in _COMPARING:
            self._compare(found, self._operation(func, name, frame), frame)
        return frozenset().union(*found)

    def after(self, func: Any, result: Any, origins: FrozenSet[str]) -> None:
        if not origins:
            return
        if isinstance(result, self._torch.Tensor):
            self._set(result, origins)
        elif isinstance(result, (tuple, list)):
            for item in result:
                if isinstance(item, self._torch.Tensor):
                    self._set(item, origins)
        elif getattr(func, "__name__", "") in _TO_NUMPY and result is not None:
            self._set(result, origins)

    def compares(self, func: Any) -> bool:
        return getattr(func, "__name__", "") in _COMPARING

    def _argument_origins(self, values: Any, depth: int = 0) -> List[FrozenSet[str]]:
        found: List[FrozenSet[str]] = []
        for value in values:
            if isinstance(value, (tuple, list)):
                if depth < _MAX_DEPTH:
                    found += self._argument_origins(value, depth + 1)
                continue
            origins = self.origins_of(value)
            if origins:
                found.append(origins)
        return found

    def _compare(self, found: List[FrozenSet[str]], op: str, frame: FrameType) -> None:
        place = first_user_frame(frame)
        where = (place.file, place.line) if place is not None else ("", 0)
        for index, first in enumerate(found):
            for second in found[index + 1 :]:
                # What both derive from is no side of the comparison.
                for one in sorted(first - second):
                    for other in sorted(second - first):
                        self.last_was_comparison = True
                        key = (*sorted((one, other)), *where)
                        if key not in self._noted and self._note is not None:
                            self._noted.add(key)  # type: ignore[arg-type]
                            self._note(one, other, op, place)

    def _operation(self, func: Any, name: str, frame: Optional[FrameType]) -> str:
        """`torch.testing.assert_close` is made of other operations: the user's word for it is what counts."""
        outer = frame
        testing = os.path.join("torch", "testing", "_comparison.py")
        while outer is not None and not outer.f_code.co_filename.endswith(testing):
            outer = outer.f_back
        if outer is not None:
            return "torch.testing.assert_close"
        torch = self._torch
        for holder, prefix in ((torch, "torch"), (torch.nn.functional, "torch.nn.functional")):
            if getattr(holder, name, None) is func:
                return f"{prefix}.{name}"
        return f"torch.Tensor.{name}"

    def _set(self, value: Any, origins: FrozenSet[str]) -> None:
        from .torch_recorder import reference_to

        number = id(value)
        try:
            self._origins[number] = (reference_to(self._torch, value), origins)
        except TypeError:
            return
        if len(self._origins) > 4096:
            self._origins = {key: entry for key, entry in self._origins.items() if entry[0]() is not None}

    def _importing(self, original: Any) -> Any:
        @functools.wraps(original)
        def from_dlpack(source: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(source, *args, **kwargs)
            file = getattr(source, TRACE_OF, None)
            if isinstance(file, str):
                self._set(result, frozenset((file,)))
            return result

        return from_dlpack

    def _observe_numpy(self, numpy: Any) -> None:
        for path in _NUMPY_COMPARING:
            holder = numpy.testing if path.startswith("testing.") else numpy
            name = path.rpartition(".")[2]
            original = getattr(holder, name, None)
            if original is not None:
                setattr(holder, name, self._comparing(original, f"numpy.{path}"))

    def _comparing(self, original: Any, op: str) -> Any:
        @functools.wraps(original)
        def compare(*args: Any, **kwargs: Any) -> Any:
            try:
                found = [origins for origins in map(self._array_origins, (*args, *kwargs.values())) if origins]
                if len(found) > 1:
                    self._compare(found, op, sys._getframe(1))
            except Exception:  # noqa: BLE001: the script's check goes on whatever happens to the observer
                pass
            return original(*args, **kwargs)

        return compare

    def _array_origins(self, value: Any) -> FrozenSet[str]:
        """A view of an array leads to what it is a view of."""
        for _ in range(8):
            origins = self.origins_of(value)
            if origins:
                return origins
            value = getattr(value, "base", None)
            if value is None:
                break
        return _NONE
