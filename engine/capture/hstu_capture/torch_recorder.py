"""Records one call of a torch model: its operations in execution order and the values of all tensors."""

import weakref
from types import FrameType
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from .source_frames import SourceFrame, user_frames
from .tensor_names import Instances
from .torch_operations import Operation, describe
from .torch_values import raw_values, rel_l2
from .trace_builder import TraceBuilder
from .wire import to_wire

try:
    from torch.utils.weak import TensorWeakRef as _reference
except ImportError:
    _reference = weakref.ref

# An operation of our own: a view of, or the base of, a tensor that was written in place holds other values than before.
ALIAS = "hstu_capture.alias"


# Called with each tensor that comes in from outside, its number in the trace, and the frame that reads it.
Arrival = Callable[[Any, int, FrameType], None]


class RecordedOp(NamedTuple):
    """An operation as it was added to the trace, for those who cut a trace out of another."""

    kind: str
    inputs: List[int]
    outputs: List[int]
    attributes: Dict[str, Any]
    frames: Tuple[SourceFrame, ...]
    instance: str
    call: int
    constructed: Optional[SourceFrame]


class TorchRecorder:
    def __init__(
        self, torch: Any, trace: TraceBuilder, instances: Instances, arrived: Optional[Arrival] = None
    ) -> None:
        self.trace = trace
        # Why the recording ended before the call did: an error of ours, which the script never sees.
        self.failure: Optional[str] = None
        self.ops: List[RecordedOp] = []
        self.names: List[Tuple[int, str, bool]] = []
        self._arrived = arrived
        self._torch = torch
        self.instances = instances
        # Tensors by the identity of their object, valid while the weak reference is alive; a write in place moves the
        # version on and makes another tensor of the trace.
        self._known: Dict[int, Tuple[Any, int, int]] = {}
        # Storages that were written in place: the written tensor, the frames of the write.
        self._written: Dict[int, Tuple[int, Tuple[SourceFrame, ...]]] = {}
        self._writes: Dict[int, int] = {}
        self._dtypes: Dict[str, int] = {}

    def call(self, func: Any, args: Any, kwargs: Any, frame: FrameType) -> Any:
        if self.failure is not None:
            return func(*args, **kwargs)
        begun = self._begin(lambda: describe(self._torch, func, args, kwargs), frame)
        result = func(*args, **kwargs)
        if begun is not None:
            self._end(begun, result, kwargs.get("out"), frame)
        return result

    def opaque(self, kind: str, tensors: List[Any], attributes: Dict[str, Any], run: Any, frame: FrameType) -> Any:
        """Something that is not looked into, as one operation."""
        begun = None
        if self.failure is None:
            begun = self._begin(lambda: Operation(kind, tensors, {"opaque": True, **attributes}, [], False), frame)
        result = run()
        if begun is not None:
            self._end(begun, result, None, frame)
        return result

    def _begin(self, describe_it: Callable[[], Optional[Operation]], frame: FrameType) -> "Optional[_Begun]":
        try:
            with self._torch._C.DisableTorchFunction():
                operation = describe_it()
                if operation is None:
                    return None
                inputs = [self.tensor_of(tensor, frame) for tensor in operation.tensors]
                versions = [self._version(tensor) for tensor in operation.tensors]
                self._add_values(operation)
                return _Begun(operation, inputs, versions)
        except Exception as error:  # noqa: BLE001: the script must not see our errors
            self.fail(error)
            return None

    def _end(self, begun: "_Begun", result: Any, out: Any, frame: FrameType) -> None:
        try:
            with self._torch._C.DisableTorchFunction():
                operation = begun.operation
                written = [
                    tensor
                    for tensor, version in zip(operation.tensors, begun.versions)
                    if self._was_written(operation, tensor, version, out)
                ]
                results = _tensors_in(self._torch.Tensor, result)
                self._record(operation, begun.inputs, results, written, frame)
        except Exception as error:  # noqa: BLE001: as above
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = f"recording stopped: {type(error).__name__}: {error}"[:500]

    def tensor_of(self, tensor: Any, frame: Optional[FrameType] = None) -> int:
        """
        The trace's tensor for a torch tensor. One that was never seen comes in from outside the call; `frame` is the
        one that reads it.
        """
        known = self.resolve(tensor)
        if known is not None:
            return known[0]
        older = self._known.get(id(tensor))
        source = self._written.get(self._storage(tensor)) if self._version(tensor) > 0 else None
        fresh = self._add(tensor)
        if source is not None:
            before = [older[2]] if older is not None and older[0]() is tensor else []
            self._add_op(ALIAS, [source[0], *before], [fresh], {}, source[1])
        elif frame is not None and self._arrived is not None:
            self._arrived(tensor, fresh, frame)
        return fresh

    def keep_output(self, tensor: Any) -> int:
        """An output's values are written in full whatever there is room for."""
        number = self.tensor_of(tensor)
        keep = getattr(self.trace, "keep_value", None)
        if keep is not None and "key" not in self.trace.tensor(number):
            values = raw_values(self._torch, tensor)[2]
            if values is not None:
                keep(number, values)
        return number

    def made_floats(self, begin: int = 0, end: Optional[int] = None) -> bool:
        return any(
            "float" in self.trace.tensor(tensor)["dtype"] for op in self.ops[begin:end] for tensor in op.outputs
        )

    def resolve(self, tensor: Any) -> Optional[Tuple[int, int]]:
        """For the names: identity and handle of a tensor that is known in its present version."""
        known = self._known.get(id(tensor))
        if known is None or known[0]() is not tensor:
            return None
        with self._torch._C.DisableTorchFunction():
            return (known[2], known[2]) if known[1] == self._version(tensor) else None

    def bind(self, tensor: int, name: str, argument: bool) -> None:
        self.names.append((tensor, name, argument))
        self.trace.add_name(tensor, name, argument)

    def precision(self) -> str:
        """The float type of most values that were computed."""
        floats = {name: count for name, count in self._dtypes.items() if "float" in name}
        return max(floats, key=lambda name: floats[name]) if floats else "float32"

    def comparing(self) -> "TorchRecorder":
        """A recorder for a second run of the same call, whose trace is never written."""
        twin = TraceBuilder(self.trace.folder, self.trace.name, self.trace.label, "torch", ())
        return TorchRecorder(self._torch, twin, Instances())

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
        self._add_op(operation.kind, inputs, outputs, operation.attributes, frames)

    def _add_op(
        self, kind: str, inputs: List[int], outputs: List[int], attributes: Dict[str, Any], frames: Any
    ) -> None:
        inside = self.instances
        op = RecordedOp(kind, inputs, outputs, attributes, frames, inside.path, inside.call, inside.constructed)
        self.ops.append(op)
        self.trace.add_op(*op)

    def _add(self, tensor: Any) -> int:
        # The values are the tensor's own memory, and the trace takes them over before anything else runs.
        dtype, shape, values = raw_values(self._torch, tensor)
        self._dtypes[dtype] = self._dtypes.get(dtype, 0) + 1
        fresh = self.trace.add_tensor(dtype, shape, values)
        self._known[id(tensor)] = (_reference(tensor), self._version(tensor), fresh)
        return fresh

    def _add_values(self, operation: Operation) -> None:
        """Offsets of jagged tensors are part of what the operation means: they go into the attributes."""
        if operation.offsets:
            readable = [raw_values(self._torch, tensor)[2] is not None for tensor in operation.offsets]
            if not all(readable):
                return
            lists = [[int(value) for value in tensor.detach().cpu().tolist()] for tensor in operation.offsets]
            operation.attributes["offsets"] = lists[0] if len(lists) == 1 else lists

    def _was_written(self, operation: Operation, tensor: Any, version: int, out: Any) -> bool:
        if not tensor.is_inference():
            return self._version(tensor) != version
        if operation.writes_first and tensor is operation.tensors[0]:
            return True
        return out is not None and any(tensor is item for item in _tensors_in(self._torch.Tensor, out))

    def _version(self, tensor: Any) -> int:
        # Tensors of inference mode count no versions: the writes seen here stand for them.
        if tensor.is_inference():
            return self._writes.get(self._storage(tensor), 0)
        try:
            return int(tensor._version)
        except (RuntimeError, AttributeError):
            return 0

    def _storage(self, tensor: Any) -> int:
        try:
            return tensor.untyped_storage()._cdata
        except (RuntimeError, NotImplementedError, AttributeError):
            return -id(tensor)


class _Begun(NamedTuple):
    operation: Operation
    inputs: List[int]
    versions: List[int]


def reference_to(torch: Any, value: Any) -> Any:
    """A weak reference that outlives the Python object of a tensor that torch still holds."""
    return _reference(value) if isinstance(value, torch.Tensor) else weakref.ref(value)


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
