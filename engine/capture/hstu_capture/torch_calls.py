"""
Later calls of what was recorded already: they are counted, and compared with the recorded one where the same inputs
and parameters make a difference in the results a finding.
"""

import json
import os
import struct
import time
import zlib
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .arguments import named_tensors
from .identity_map import IdentityMap
from .session import Session
from .torch_recorder import reference_to
from .torch_values import raw_values, rel_l2
from .trace_builder import TraceBuilder
from .wire import to_wire

# Comparing costs a pass over inputs and outputs: these calls are all compared, afterwards the 32nd, 64th, ….
_ALWAYS_COMPARED = 16
_INDEX_INTERVAL = 0.5
# A function that gets new parameters in each step of a training loop is recorded with that many sets of them.
MAX_PARAMETER_SETS = 4
# Calls of one shape whose inputs or parameters have other values are recorded too, so many of them: what the first
# batch cannot show, a later one may.
MAX_VALUE_SETS = 4

Named = Sequence[Tuple[str, Any]]


class Call:
    """What a call got: compared before it runs, because it may write into its inputs."""

    def __init__(self, torch: Any, inputs: Named, parameters: Named, values: Tuple[Any, ...]) -> None:
        self._torch = torch
        self.inputs = tuple((id(tensor), version_of(tensor)) for _, tensor in inputs)
        self.parameters = tuple((id(tensor), version_of(tensor)) for _, tensor in parameters)
        self.values = values
        # Held so that no other tensor gets their identity.
        self.held = [tensor for _, tensor in inputs]
        self.checksums = [checksum(torch, tensor) for _, tensor in inputs]

    def equals(self, other: "Call") -> bool:
        if self.parameters != other.parameters or self.values != other.values:
            return False
        return self.checksums == other.checksums


class Recorded:
    """One recorded call, and the calls after it with inputs of the same shapes and types."""

    def __init__(self, torch: Any, session: Session, call: Call, inputs: Named, parameters: Named) -> None:
        self._torch = torch
        self._session = session
        self._call = call
        call.held = []
        self._inputs = [_Held(torch, tensor) for _, tensor in inputs]
        self._learned = _learned(torch, parameters)
        # What the call read from outside besides: the layers and globals of a function.
        self._outside: List[_Held] = []
        self.with_gradients: bool = torch.is_grad_enabled()
        self._parameters = [checksum(torch, tensor) for _, tensor in parameters]
        self._outputs: List[Tuple[int, Optional[int], Optional[str], str]] = []
        self._path: Optional[str] = None
        self.entry: Dict[str, Any] = {"calls": 1}
        self.file: Optional[str] = None
        self._written = time.monotonic()

    def finish(self, trace: TraceBuilder, entry: Dict[str, Any], outputs: Named) -> None:
        entry.update(self.entry)
        self.entry = entry
        self.file = os.path.basename(trace.path)
        self._path = os.path.join(trace.folder, trace.name + ".safetensors")
        ids = [port["tensor"] for port in trace.outputs]
        for tensor, (_, value) in zip(ids, outputs):
            described = trace.tensor(tensor)
            self._outputs.append(
                (tensor, checksum(self._torch, value), described.get("key"), described["dtype"])
            )

    def count(self) -> bool:
        """Counts one more call; tells whether it is one to compare."""
        calls = self.entry["calls"] = self.entry["calls"] + 1
        now = time.monotonic()
        if now - self._written > _INDEX_INTERVAL:
            self._written = now
            self._session.write_index()
        return self.file is not None and (calls <= _ALWAYS_COMPARED or calls & (calls - 1) == 0)

    def read_outside(self, tensor: Any) -> None:
        self._outside.append(_Held(self._torch, tensor))

    def count_other(self) -> None:
        """Counts a call on other values that there is no room for."""
        self.entry["otherValues"] = self.entry.get("otherValues", 0) + 1

    def is_like(self, other: "Recorded") -> bool:
        """Whether another call of the same, recorded or not, got the same."""
        return self._learned == other._learned and self._call.checksums == other._call.checksums

    def got(self, inputs: Named, parameters: Named, values: Tuple[Any, ...]) -> bool:
        """Whether a call on these has nothing to show that the recorded one does not."""
        call = self._call
        if call.values != values or len(inputs) != len(self._inputs):
            return False
        if self._learned != _learned(self._torch, parameters) or any(held.was_written() for held in self._outside):
            return False
        return all(
            held.is_still(tensor) or checksum(self._torch, tensor) == known
            for held, (_, tensor), known in zip(self._inputs, inputs, call.checksums)
        )

    def compare(self, call: Call, parameters: Named, outputs: Named) -> None:
        if not self._call.equals(call) or len(outputs) != len(self._outputs):
            return
        worst = 0.0
        for (_, value), (_, recorded, key, dtype) in zip(outputs, self._outputs):
            if key is None or recorded is None or checksum(self._torch, value) in (recorded, None):
                continue
            # Writes through `.data` count no versions.
            if [checksum(self._torch, tensor) for _, tensor in parameters] != self._parameters:
                return
            before = _read_tensor(self._path or "", key)
            after = raw_values(self._torch, value)[2]
            if before is None or after is None or len(before) != len(after):
                continue
            worst = max(worst, rel_l2(self._torch, dtype, before, after))
        if worst > float(self.entry.get("differing", 0.0)):
            self.entry["differing"] = to_wire(worst)
            self._session.write_index()


def _learned(torch: Any, parameters: Named) -> Tuple[Tuple[int, int], ...]:
    """What training changes. Buffers are left out: a model may write into them each time it is called."""
    learned = [t for _, t in parameters if t.requires_grad or isinstance(t, torch.nn.Parameter)]
    return tuple((id(tensor), version_of(tensor)) for tensor in learned)


class _Held:
    """A tensor as it was: its object, without holding it, and how often it had been written."""

    def __init__(self, torch: Any, tensor: Any) -> None:
        self._version = version_of(tensor)
        try:
            self._reference = reference_to(torch, tensor)
        except TypeError:
            self._reference = lambda: None

    def was_written(self) -> bool:
        """What is gone, or counts no versions, is taken to have stayed as it was."""
        tensor = self._reference()
        return tensor is not None and self._version >= 0 and version_of(tensor) != self._version

    def is_still(self, tensor: Any) -> bool:
        """Known without a look at the values; False where only they can tell."""
        return self._version >= 0 and self._reference() is tensor and version_of(tensor) == self._version


class CallLog:
    """All recorded calls, by what was called and the shapes of its inputs; in order, those of one shape together."""

    def __init__(self) -> None:
        self._by_object: IdentityMap[Dict[Any, List[Recorded]]] = IdentityMap(dict)
        self._numbers: IdentityMap[Dict[Any, int]] = IdentityMap(dict)
        self._count = 0

    def of(self, called: Any) -> Dict[Any, List[Recorded]]:
        return self._by_object.of(called)

    def number_of(self, called: Any, parameters: Any) -> int:
        """One number for each object, and for each set of parameters that a function works with."""
        numbers = self._numbers.of(called)
        if parameters not in numbers:
            numbers[parameters] = self._count
            self._count += 1
        return numbers[parameters]


def shapes_of(torch: Any, arguments: Dict[str, Any], inputs: Named) -> Tuple[Any, ...]:
    """What makes a call another one to record: its inputs' names, shapes and types, and its switches."""
    switches = tuple(
        (name, value) for name, value in arguments.items() if value is None or isinstance(value, (bool, str))
    )
    return tuple((name, tensor.dtype, _shape(tensor)) for name, tensor in inputs), switches


def plain_values(arguments: Dict[str, Any]) -> Tuple[Any, ...]:
    return tuple((name, value) for name, value in arguments.items() if isinstance(value, (int, float, str)))


def outputs_of(torch: Any, result: Any) -> List[Tuple[str, Any]]:
    return list(named_tensors(torch.Tensor, {"output": result}))


def version_of(tensor: Any) -> int:
    try:
        return tensor._version
    except (RuntimeError, AttributeError):
        return -1


def checksum(torch: Any, tensor: Any) -> Optional[int]:
    """None where there are no values to read."""
    dtype, shape, values = raw_values(torch, tensor)
    return None if values is None else zlib.crc32(values, hash((dtype, shape)) & 0xFFFFFFFF)


def _shape(tensor: Any) -> Tuple[int, ...]:
    return () if getattr(tensor, "is_nested", False) else tuple(tensor.shape)


def _read_tensor(path: str, key: str) -> Optional[bytes]:
    """The values of one tensor of a safetensors file, without reading the others."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            entry = json.loads(file.read(length)).get(key)
            if entry is None:
                return None
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin)
            return file.read(end - begin)
    except (OSError, ValueError, struct.error):
        return None
