"""A trace on disk for its replay: which op makes which tensor, and recorded values, read when they are needed."""

import ctypes
import json
import os
import struct
from collections import OrderedDict
from typing import Any, BinaryIO, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from .safetensors_file import dtype_of_code, header_of
from .torch_operations import writes_first

ALIAS = "hstu_capture.alias"
# These write into tensors that their names do not speak of: running means and variances.
_WRITE_STATISTICS = ("batch_norm", "instance_norm")


class UnreadableTrace(Exception):
    pass


class RecordedTrace:
    """Values stay in memory after their first use; `held` counts their bytes."""

    def __init__(self, torch: Any, path: str) -> None:
        self._torch = torch
        self.path = path
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            self.ops: List[Dict[str, Any]] = content["ops"]
            self.tensors: Dict[int, Dict[str, Any]] = {tensor["id"]: tensor for tensor in content["tensors"]}
            self.ran_on: Dict[str, Any] = content["ranOn"]
            self.framework: str = content["framework"]
            self._values = None
            if "tensorsFile" in content:
                self._values = _Values(os.path.join(os.path.dirname(path), content["tensorsFile"]))
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise UnreadableTrace(f"{path} cannot be read: {type(error).__name__}: {error}") from error
        self.producer = {tensor: index for index, op in enumerate(self.ops) for tensor in op["outputs"]}
        self.writers = self._find_writers()
        self.held = 0
        self._loaded: Dict[str, Any] = {}

    def needed_ops(self, outputs: Iterable[int], given: Iterable[int] = ()) -> List[int]:
        """Indices of the ops behind the outputs and not behind what is given, in execution order."""
        needed: Set[int] = set()
        waiting = list(outputs)
        known = set(given)
        while waiting:
            tensor = waiting.pop()
            index = None if tensor in known else self.producer.get(tensor)
            if index is None or index in needed:
                continue
            needed.add(index)
            waiting += [tensor for tensor in self.ops[index]["inputs"] if tensor is not None]
            if self.ops[index]["kind"] == ALIAS:
                # It names the last write alone: what was written before through other views is part of it too.
                for writer in self.writers:
                    if writer < index and writer not in needed:
                        waiting += self.ops[writer]["outputs"]
        return sorted(needed)

    def value(self, tensor: int) -> Optional[Any]:
        """The recorded value, to be read only; None where none was recorded."""
        key = self.tensors[tensor].get("key")
        if key is None or self._values is None:
            return None
        if key not in self._loaded:
            self._loaded[key] = self._values.read(self._torch, key)
            self.held += self._loaded[key].numel() * self._loaded[key].element_size()
        return self._loaded[key]

    def forget(self) -> None:
        self._loaded.clear()
        self.held = 0

    def close(self) -> None:
        self.forget()
        if self._values is not None:
            self._values.close()

    def _find_writers(self) -> List[int]:
        """Ops that write, or may write, into tensors that were there before."""
        sources = {op["inputs"][0] for op in self.ops if op["kind"] == ALIAS}
        return [
            index
            for index, op in enumerate(self.ops)
            if writes_first(op["kind"])
            or "out" in op["attributes"].get("operands", ())
            or op["attributes"].get("inplace") is True
            or op["kind"].endswith(_WRITE_STATISTICS)
            or (op["kind"] != ALIAS and not sources.isdisjoint(op["outputs"]))
        ]


class TraceCache:
    """The traces that were used last, as long as they are the files that were read, within a budget of bytes."""

    def __init__(self, torch: Any, budget: int) -> None:
        self._torch = torch
        self._budget = budget
        self._traces: "OrderedDict[str, Tuple[Any, RecordedTrace]]" = OrderedDict()

    def get(self, path: str) -> RecordedTrace:
        identity = _identity(path)
        known = self._traces.pop(path, None)
        if known is not None and (known[0] != identity or identity is None):
            known[1].close()
            known = None
        trace = known[1] if known is not None else RecordedTrace(self._torch, path)
        self._traces[path] = (identity, trace)
        return trace

    def trim(self) -> None:
        """Lets go of what was used longest ago."""
        while len(self._traces) > 8 or (len(self._traces) > 1 and self._held() > self._budget):
            _, (_, trace) = self._traces.popitem(last=False)
            trace.close()
        if self._held() > self._budget:
            next(iter(self._traces.values()))[1].forget()

    def drop(self, path: str) -> None:
        known = self._traces.pop(path, None)
        if known is not None:
            known[1].close()

    def close(self) -> None:
        for path in list(self._traces):
            self.drop(path)

    def _held(self) -> int:
        return sum(trace.held for _, trace in self._traces.values())


class _Values:
    """A safetensors file that is read by range."""

    def __init__(self, path: str) -> None:
        self._file: BinaryIO = open(path, "rb")
        self._header, self._start = header_of(self._file, path)
        self._path = path

    def read(self, torch: Any, key: str) -> Any:
        entry = self._header.get(key)
        if entry is None:
            raise UnreadableTrace(f"{self._path} has no tensor {key}")
        begin, end = entry["data_offsets"]
        content = bytearray(end - begin)
        self._file.seek(self._start + begin)
        if self._file.readinto(content) != end - begin:  # type: ignore[attr-defined]
            raise UnreadableTrace(f"{self._path} ends within tensor {key}")
        dtype = getattr(torch, dtype_of_code(entry["dtype"]))
        if not content:
            return torch.empty(entry["shape"], dtype=dtype)
        return torch.frombuffer(content, dtype=dtype).reshape(entry["shape"])

    def close(self) -> None:
        self._file.close()


def read_values(torch: Any, path: str) -> Dict[int, Any]:
    """All tensors of a safetensors file that is keyed by tensor ids."""
    try:
        values = _Values(path)
        try:
            return {int(key): values.read(torch, key) for key in values._header if key != "__metadata__"}
        finally:
            values.close()
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableTrace(f"{path} cannot be read: {error}") from error


def write_values(path: str, values: Sequence[Tuple[str, str, Any]]) -> None:
    """Writes (key, code of the type, dense tensor) without another copy in memory."""
    ordered = sorted(values, key=lambda value: -value[2].element_size())
    header: Dict[str, Any] = {}
    offset = 0
    for key, code, tensor in ordered:
        size = tensor.numel() * tensor.element_size()
        header[key] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    partial = path + ".partial"
    with open(partial, "wb", buffering=1 << 20) as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for _, _, tensor in ordered:
            size = tensor.numel() * tensor.element_size()
            if size:
                file.write((ctypes.c_char * size).from_address(tensor.data_ptr()))
    os.replace(partial, path)


def _identity(path: str) -> Optional[Tuple[Any, ...]]:
    """Changes when the trace is written anew. The values' file is named as the trace is."""
    found: List[Any] = []
    for name in (path, path[: -len(".trace.json")] + ".safetensors"):
        try:
            status = os.stat(name)
        except OSError:
            found.append(None)
            continue
        found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
