"""Records one call of a torch model: its operations in execution order and the values of all tensors."""

import sys
from typing import Any, Dict, List, Optional, Tuple

from torch.overrides import TorchFunctionMode

from .source_frames import SourceFrame, user_frames
from .tensor_names import Instances
from .torch_operations import Operation, describe
from .torch_values import rel_l2, snapshot
from .trace_builder import TraceBuilder
from .wire import to_wire

try:
    from torch.utils.weak import TensorWeakRef as _reference
except ImportError:
    from weakref import ref as _reference

# An operation of our own: a view of, or the base of, a tensor that was written in place holds other values than before.
ALIAS = "hstu_capture.alias"


class RecordingMode(TorchFunctionMode):
    def __init__(self, recorder: "TorchRecorder") -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._recorder.call(func, args, kwargs or {}, sys._getframe(1))


class TorchRecorder:
    def __init__(self, torch: Any, trace: TraceBuilder, instances: Instances) -> None:
        self.trace = trace
        self._torch = torch
        self._instances = instances
        # Tensors by the identity of their object, valid while the weak reference is alive; a write in place moves the
        # version on and makes another tensor of the trace.
        self._known: Dict[int, Tuple[Any, int, int]] = {}
        # Storages that were written in place: the written tensor, the frames of the write.
        self._written: Dict[int, Tuple[int, Tuple[SourceFrame, ...]]] = {}
        self._writes: Dict[int, int] = {}
        self._dtypes: Dict[str, int] = {}

    def call(self, func: Any, args: Any, kwargs: Any, frame: Any) -> Any:
        with self._torch._C.DisableTorchFunction():
            operation = describe(self._torch, func, args, kwargs)
        if operation is None:
            return func(*args, **kwargs)
        with self._torch._C.DisableTorchFunction():
            inputs = [self.tensor_of(tensor) for tensor in operation.tensors]
            versions = [self._version(tensor) for tensor in operation.tensors]
            self._add_values(operation)
        result = func(*args, **kwargs)
        with self._torch._C.DisableTorchFunction():
            written = [
                tensor
                for tensor, version in zip(operation.tensors, versions)
                if self._was_written(operation, tensor, version)
            ]
            results = _tensors_in(self._torch.Tensor, result)
            self._record(operation, inputs, results, written, frame)
        return result

    def tensor_of(self, tensor: Any) -> int:
        """The trace's tensor for a torch tensor; one that was never seen comes in from outside the call."""
        known = self.resolve(tensor)
        if known is not None:
            return known[0]
        older = self._known.get(id(tensor))
        source = self._written.get(self._storage(tensor)) if self._version(tensor) > 0 else None
        fresh = self._add(tensor)
        if source is not None:
            before = [older[2]] if older is not None and older[0]() is tensor else []
            self.trace.add_op(
                ALIAS, [source[0], *before], [fresh], {}, source[1], self._instances.path, self._instances.call
            )
        return fresh

    def resolve(self, tensor: Any) -> Optional[Tuple[int, int]]:
        """For the names: identity and handle of a tensor that is known in its present version."""
        known = self._known.get(id(tensor))
        if known is None or known[0]() is not tensor:
            return None
        with self._torch._C.DisableTorchFunction():
            return (known[2], known[2]) if known[1] == self._version(tensor) else None

    def bind(self, tensor: int, name: str, argument: bool) -> None:
        self.trace.add_name(tensor, name, argument)

    def precision(self) -> str:
        """The float type of most values that were computed."""
        floats = {name: count for name, count in self._dtypes.items() if "float" in name}
        return max(floats, key=lambda name: floats[name]) if floats else "float32"

    def comparing(self, instances: Instances) -> "TorchRecorder":
        """A recorder for a second run of the same call, whose trace is never written."""
        twin = TraceBuilder(self.trace.folder, self.trace.name, self.trace.label, "torch", ())
        return TorchRecorder(self._torch, twin, instances)

    def rel_l2(self, tensor: int, other: "TorchRecorder") -> Optional[float]:
        first, second = self.trace.value(tensor), other.trace.value(tensor)
        if first is None or second is None or first == second or len(first) != len(second):
            return None
        return rel_l2(self._torch, self.trace.tensor(tensor)["dtype"], first, second)

    def _record(
        self, operation: Operation, inputs: List[int], results: List[Any], written: List[Any], frame: Any
    ) -> None:
        outputs: List[int] = []
        for tensor in written:
            storage = self._storage(tensor)
            self._writes[storage] = self._writes.get(storage, 0) + 1
        for tensor in (*results, *written):
            known = self.resolve(tensor)
            fresh = self._add(tensor) if known is None else known[0]
            if fresh not in outputs and fresh not in inputs:
                outputs.append(fresh)
        if not outputs:
            return
        frames = user_frames(frame)
        for tensor in written:
            known = self.resolve(tensor)
            if known is not None:
                self._written[self._storage(tensor)] = (known[0], frames)
        self.trace.add_op(
            operation.kind,
            inputs,
            outputs,
            operation.attributes,
            frames,
            self._instances.path,
            self._instances.call,
        )

    def _add(self, tensor: Any) -> int:
        dtype, shape, values = snapshot(self._torch, tensor)
        self._dtypes[dtype] = self._dtypes.get(dtype, 0) + 1
        fresh = self.trace.add_tensor(dtype, shape, values)
        self._known[id(tensor)] = (_reference(tensor), self._version(tensor), fresh)
        return fresh

    def _add_values(self, operation: Operation) -> None:
        """Offsets of jagged tensors are part of what the operation means: they go into the attributes."""
        if operation.offsets:
            lists = [[int(value) for value in tensor.detach().cpu().tolist()] for tensor in operation.offsets]
            operation.attributes["offsets"] = lists[0] if len(lists) == 1 else lists

    def _was_written(self, operation: Operation, tensor: Any, version: int) -> bool:
        if not tensor.is_inference():
            return tensor._version != version
        return operation.writes_first and tensor is operation.tensors[0]

    def _version(self, tensor: Any) -> int:
        # Tensors of inference mode count no versions: the writes seen here stand for them.
        return self._writes.get(self._storage(tensor), 0) if tensor.is_inference() else tensor._version

    def _storage(self, tensor: Any) -> int:
        try:
            return tensor.untyped_storage()._cdata
        except (RuntimeError, NotImplementedError, AttributeError):
            return -id(tensor)


def same_outcome(first: TorchRecorder, second: TorchRecorder) -> None:
    """Notes for each tensor how far a second run came from the first, as long as both did the same operations."""
    for tensor in range(min(first.trace.tensor_count, second.trace.tensor_count)):
        here, there = first.trace.tensor(tensor), second.trace.tensor(tensor)
        if here["dtype"] != there["dtype"] or here["shape"] != there["shape"]:
            break
        difference = first.rel_l2(tensor, second)
        if difference:
            here["nonDeterminism"] = to_wire(difference)
    second.trace.close()


def _tensors_in(tensor_type: type, value: Any) -> List[Any]:
    if isinstance(value, tensor_type):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in _tensors_in(tensor_type, item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors_in(tensor_type, item)]
    return []
