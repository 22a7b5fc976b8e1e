"""Builds one trace and writes it as `NAME.trace.json` beside `NAME.safetensors` (engine/protocol/trace.ts)."""

import hashlib
import json
import os
from typing import Any, Dict, List, Optional, Sequence

from .safetensors_file import SafetensorsWriter
from .source_frames import SourceFrame

FORMAT_VERSION = 1


class TraceBuilder:
    def __init__(self, folder: str, name: str, label: str, framework: str, roots: Sequence[str]) -> None:
        """`roots` are the folders whose files the trace names relatively; all others are outside."""
        self.folder = folder
        self.name = name
        self.label = label
        self.framework = framework
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
        self._values = SafetensorsWriter()
        self._key_of_content: Dict[bytes, str] = {}

    @property
    def path(self) -> str:
        return os.path.join(self.folder, self.name + ".trace.json")

    @property
    def op_count(self) -> int:
        return len(self._ops)

    @property
    def tensor_count(self) -> int:
        return len(self._tensors)

    def add_tensor(self, dtype: str, shape: Sequence[int], values: Optional[bytes] = None) -> int:
        tensor = len(self._tensors)
        self._tensors.append({"id": tensor, "names": [], "dtype": dtype, "shape": list(shape)})
        if values is not None:
            self.set_value(tensor, values)
        return tensor

    def set_value(self, tensor: int, values: bytes, shape: Optional[Sequence[int]] = None) -> None:
        """Tensors of equal type, shape and content share one entry of the file."""
        entry = self._tensors[tensor]
        if shape is not None:
            entry["shape"] = list(shape)
        digest = hashlib.blake2b(values, digest_size=16)
        digest.update(repr((entry["dtype"], entry["shape"])).encode())
        key = self._key_of_content.get(digest.digest())
        if key is None:
            key = self._key_of_content[digest.digest()] = str(tensor)
            self._values.add(key, entry["dtype"], entry["shape"], values)
        entry["key"] = key

    def value(self, tensor: int) -> Optional[bytes]:
        key = self._tensors[tensor].get("key")
        return None if key is None else self._values.read(key)

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
        self._ops.append(op)
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
        trace: Dict[str, Any] = {
            "formatVersion": FORMAT_VERSION,
            "label": self.label,
            "framework": self.framework,
            "ranOn": self.ran_on,
        }
        if len(self._values):
            trace["tensorsFile"] = self.name + ".safetensors"
            self._values.write(os.path.join(self.folder, trace["tensorsFile"]))
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
        write_json(self.path, trace)

    def close(self) -> None:
        self._values.close()

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


def write_json(path: str, value: Any) -> None:
    """One line for each op, tensor and frame, so that two traces can be read and compared as text."""
    partial = path + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        file.write("{\n")
        for number, (key, item) in enumerate(value.items()):
            file.write(",\n" if number else "")
            file.write(f"{json.dumps(key)}: {_json_text(item)}")
        file.write("\n}\n")
    os.replace(partial, path)


def _json_text(item: Any) -> str:
    if not isinstance(item, list) or not item:
        return _compact(item)
    return "[\n" + ",\n".join(_compact(entry) for entry in item) + "\n]"


def _compact(item: Any) -> str:
    # A raw NaN would make the file unreadable for every JSON parser: better to fail here.
    return json.dumps(item, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
