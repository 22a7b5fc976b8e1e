"""Builds one trace and writes it as `NAME.trace.json` beside `NAME.safetensors` (engine/protocol/trace.ts)."""

import json
import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .byte_budget import ByteBudget, Summary, summarise
from .safetensors_file import Buffer, SafetensorsWriter, remove_quietly
from .source_frames import SourceFrame

FORMAT_VERSION = 1
# Of results whose values the budget has no room for, so many bytes wait in case they are the model's outputs.
_RECENT = 32 * 1024 * 1024


class TraceBuilder:
    def __init__(
        self,
        folder: str,
        name: str,
        label: str,
        framework: str,
        roots: Sequence[str],
        *,
        order: int = 0,
        budget: Optional[ByteBudget] = None,
    ) -> None:
        """`roots` are the folders whose files the trace names relatively; all others are outside."""
        self.folder = folder
        self.name = name
        self.label = label
        self.framework = framework
        self.order = order
        self.ran_on: Dict[str, Any] = {}
        self.parameters: List[Dict[str, Any]] = []
        self.inputs: List[Dict[str, Any]] = []
        self.outputs: List[Dict[str, Any]] = []
        self.roots = roots
        self._ops: List[Dict[str, Any]] = []
        self._tensors: List[Dict[str, Any]] = []
        self._argument_names: Dict[int, List[str]] = {}
        self._sources: Dict[str, int] = {}
        self._source_entries: List[Dict[str, Any]] = []
        self._frames: Dict[SourceFrame, int] = {}
        self._values = SafetensorsWriter(os.path.join(folder, name + ".safetensors"))
        # Tensors that look alike, by what a glance at them shows.
        self._alike: Dict[Tuple[Any, ...], List[str]] = {}
        # A Tripy program is executed from its trace: all its values are constants, and all are needed.
        self._budget = budget if framework == "torch" else None
        # Values over the budget: of tensors that no op has been recorded for, and of results.
        self._undecided: Dict[int, bytes] = {}
        self._recent: Dict[int, bytes] = {}
        self._reduced: Dict[int, Summary] = {}
        self._is_abandoned = False
        # Why the values could not be written; nothing more is then.
        self.failure: Optional[OSError] = None

    @property
    def path(self) -> str:
        return os.path.join(self.folder, self.name + ".trace.json")

    @property
    def op_count(self) -> int:
        return len(self._ops)

    @property
    def tensor_count(self) -> int:
        return len(self._tensors)

    def add_tensor(self, dtype: str, shape: Sequence[int], values: Optional[Buffer] = None) -> int:
        tensor = len(self._tensors)
        self._tensors.append({"id": tensor, "names": [], "dtype": dtype, "shape": list(shape)})
        if values is not None:
            self.set_value(tensor, values)
        return tensor

    def set_value(self, tensor: int, values: Buffer, shape: Optional[Sequence[int]] = None) -> None:
        """
        Takes the values over before it returns. Tensors of equal type, shape and content share one entry of the file.
        Over the byte budget, results of operations are kept as statistics and some rows.
        """
        entry = self._tensors[tensor]
        if shape is not None:
            entry["shape"] = list(shape)
        if self._is_abandoned:
            return
        # Before the first operation come parameters and inputs only.
        if self._budget is None or not self._ops or not self._budget.is_spent or "float" not in entry["dtype"]:
            self._store(tensor, values)
        else:
            self._undecided[tensor] = bytes(values)

    def keep_value(self, tensor: int, values: Buffer) -> None:
        """For outputs of the model: the values are written whatever the budget says."""
        if "key" in self._tensors[tensor] or self._is_abandoned:
            return
        for waiting in (self._undecided, self._recent, self._reduced):
            waiting.pop(tensor, None)  # type: ignore[attr-defined]
        self._store(tensor, values)

    def value(self, tensor: int) -> Optional[bytes]:
        key = self._tensors[tensor].get("key")
        return None if key is None or self._is_abandoned else self._values.read(key)

    def reduced(self) -> Optional[Dict[str, int]]:
        """What the byte budget left out."""
        if not self._reduced:
            return None
        return {
            "tensors": len(self._reduced),
            "bytes": sum(summary.bytes_saved for summary in self._reduced.values()),
        }

    def tensor(self, tensor: int) -> Dict[str, Any]:
        return self._tensors[tensor]

    def add_name(self, tensor: int, name: str, argument: bool = False) -> None:
        """A name under which a function receives the tensor stands after those that it was made under."""
        created = self._tensors[tensor]["names"]
        received = self._argument_names.setdefault(tensor, [])
        if name not in created and name not in received:
            (received if argument else created).append(name)

    def add_op(
        self,
        kind: str,
        inputs: Sequence[Optional[int]],
        outputs: Sequence[int],
        attributes: Dict[str, Any],
        frames: Sequence[SourceFrame],
        instance: str,
        call: int,
        constructed: Optional[SourceFrame] = None,
    ) -> int:
        op = {
            "id": len(self._ops),
            "kind": kind,
            "inputs": list(inputs),
            "outputs": list(outputs),
            "attributes": attributes,
            "stack": [self.frame(frame) for frame in frames],
            "instance": instance,
        }
        if call:
            op["call"] = call
        if constructed is not None:
            op["constructedAt"] = self.frame(constructed)
        self._ops.append(op)
        if self._undecided:
            self._decide(op["inputs"], op["outputs"])
        return op["id"]

    def add_parameter(
        self, name: str, tensor: int, declared: Optional[SourceFrame], buffer: bool = False
    ) -> None:
        parameter: Dict[str, Any] = {"name": name, "tensor": tensor}
        if declared is not None:
            parameter["declaredAt"] = self.frame(declared)
        if buffer:
            parameter["buffer"] = True
        self.parameters.append(parameter)

    def frame(self, frame: SourceFrame) -> int:
        index = self._frames.get(frame)
        if index is None:
            self._source(frame.file)
            index = self._frames[frame] = len(self._frames)
        return index

    def write(self) -> None:
        if self._is_abandoned:
            return
        self._settle()
        trace: Dict[str, Any] = {
            "formatVersion": FORMAT_VERSION,
            "label": self.label,
            "framework": self.framework,
            "ranOn": self.ran_on,
        }
        if len(self._values):
            trace["tensorsFile"] = self.name + ".safetensors"
            self._values.write()
        trace["sources"] = self._source_entries
        trace["frames"] = [self._frame_entry(frame) for frame in self._frames]
        trace["ops"] = self._ops
        trace["tensors"] = [
            {**tensor, "names": tensor["names"] + self._argument_names.get(tensor["id"], [])}
            for tensor in self._tensors
        ]
        trace["parameters"] = self.parameters
        trace["inputs"] = self.inputs
        trace["outputs"] = self.outputs
        try:
            write_json(self.path, trace)
        except OSError:
            remove_quietly(os.path.join(self.folder, self.name + ".safetensors"))
            raise

    def close(self) -> None:
        self._undecided.clear()
        self._recent.clear()
        self._values.close()

    def abandon(self) -> None:
        """In a forked child the trace goes on as if it was recorded, but nothing is written."""
        self._is_abandoned = True
        self._values.abandon()

    def _store(self, tensor: int, values: Buffer) -> None:
        entry = self._tensors[tensor]
        glance = (entry["dtype"], *entry["shape"], _glance(values))
        alike = self._alike.setdefault(glance, [])
        key = next((key for key in alike if self._values.holds(key, values)), None)
        if key is None:
            key = str(tensor)
            alike.append(key)
            try:
                self._values.add(key, entry["dtype"], entry["shape"], values)
            except OSError as error:
                # The script goes on, and so does its call: only the trace ends here.
                self.failure = error
                self._is_abandoned = True
                self.close()
                return
            if self._budget is not None:
                self._budget.spend(memoryview(values).nbytes)
        entry["key"] = key

    def _decide(self, inputs: Sequence[Optional[int]], outputs: Sequence[int]) -> None:
        """What an operation reads without any having made it came from outside, and its values are needed."""
        for tensor in outputs:
            values = self._undecided.pop(tensor, None)
            if values is not None:
                self._reduce(tensor, values)
        for tensor in inputs:
            values = self._undecided.pop(tensor, None) if tensor is not None else None
            if values is not None:
                self._store(tensor, values)  # type: ignore[arg-type]

    def _reduce(self, tensor: int, values: bytes) -> None:
        entry = self._tensors[tensor]
        summary = summarise(entry["dtype"], entry["shape"], values)
        if summary is None:
            self._store(tensor, values)
            return
        self._reduced[tensor] = summary
        self._recent[tensor] = values
        while len(self._recent) > 1 and sum(map(len, self._recent.values())) > _RECENT:
            del self._recent[next(iter(self._recent))]

    def _settle(self) -> None:
        """At the end it is known which results are outputs. Those and what no operation made keep their values."""
        for tensor in {port["tensor"] for port in self.outputs}.intersection(self._recent):
            self.keep_value(tensor, self._recent[tensor])
        for tensor, values in list(self._undecided.items()):
            self.keep_value(tensor, values)
        for tensor, summary in self._reduced.items():
            entry = self._tensors[tensor]
            entry["statistics"] = summary.statistics
            if summary.rows:
                key = f"{tensor}.rows"
                self._values.add(key, entry["dtype"], summary.sample_shape, summary.sample)
                entry["sample"] = {"rows": summary.rows, "key": key}

    def _frame_entry(self, frame: SourceFrame) -> Dict[str, Any]:
        entry: Dict[str, Any] = {"source": self._source(frame.file), "line": frame.line}
        if frame.column is not None:
            entry["column"] = frame.column
        if frame.end_column is not None:
            entry["endColumn"] = frame.end_column
        entry["function"] = frame.function
        return entry

    def _source(self, file: str) -> int:
        index = self._sources.get(file)
        if index is None:
            index = self._sources[file] = len(self._source_entries)
            self._source_entries.append(self._source_entry(file))
        return index

    def _source_entry(self, file: str) -> Dict[str, Any]:
        # A script without models does not pay for it.
        import hashlib

        path = os.path.realpath(file)
        try:
            with open(path, "rb") as content:
                digest = hashlib.sha256(content.read()).hexdigest()
        except OSError:
            digest = ""
        if any(path.startswith(os.path.join(root, "")) for root in self.roots):
            relative = os.path.relpath(path, os.path.realpath(self.folder))
            return {"file": relative.replace(os.sep, "/"), "sha256": digest}
        return {"file": path.replace(os.sep, "/"), "outside": True, "sha256": digest}


def _glance(values: Buffer) -> Tuple[int, bytes]:
    """The length and some of the bytes: what differs in it need not be compared."""
    view = memoryview(values)
    if view.nbytes <= 256:
        return view.nbytes, bytes(view)
    view = view.cast("B")
    step = view.nbytes // 4
    return view.nbytes, b"".join(view[begin : begin + 64] for begin in (0, step, 2 * step, view.nbytes - 64))


def write_json(path: str, value: Any) -> None:
    """One line for each op, tensor and frame, so that two traces can be read and compared as text."""
    # A file name that is no UTF-8 has lone surrogates in Python: as JSON's own escapes they stay readable.
    partial = f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("{\n")
            for number, (key, item) in enumerate(value.items()):
                file.write(",\n" if number else "")
                file.write(f"{json.dumps(key)}: {_json_text(item)}")
            file.write("\n}\n")
        os.replace(partial, path)
    except BaseException:
        remove_quietly(partial)
        raise


def _json_text(item: Any) -> str:
    if not isinstance(item, list) or not item:
        return _compact(item)
    return "[\n" + ",\n".join(_compact(entry) for entry in item) + "\n]"


def _compact(item: Any) -> str:
    # A raw NaN would make the file unreadable for every JSON parser: better to fail here.
    return json.dumps(item, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
