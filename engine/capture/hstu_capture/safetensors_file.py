"""Reads and writes safetensors files with the standard library alone, so that the user need not install anything."""

import itertools
import json
import os
import struct
from typing import Any, BinaryIO, Dict, List, Mapping, Optional, Sequence, Tuple, Union

# What holds a tensor's bytes.
Buffer = Union[bytes, bytearray, memoryview]

_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}
_ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "BOOL": 1}
_ITEM_SIZES.update({f"{sign}{8 * size}": size for sign in "IU" for size in (1, 2, 4, 8)})

# Below this a file is held in memory, and its header gets exactly the room that it needs.
_IN_MEMORY = 1024 * 1024
# Above it values go to the file as they come, behind this much room for a header that is known at the end only.
_HEADER_ROOM = 256 * 1024
_ALIGNMENT = 8
_CHUNK = 1024 * 1024
_numbers = itertools.count()


class SafetensorsWriter:
    """
    Collects tensors one by one and writes them as one file. `values` are little-endian bytes in C order, in any object
    that offers its memory; they are taken over before `add` returns. Memory stays small whatever the tensors hold.

    The format allows no gaps. So that every tensor is aligned to its own element size, those whose length is no
    multiple of eight bytes wait for the end of the file, and the widest elements come first among them.
    """

    def __init__(self, path: str) -> None:
        """`path` is the file that `write` makes; values go to a temporary file beside it while they come."""
        self._path = path
        self._entries: Dict[str, _Entry] = {}
        # Until there is much: the values themselves, by key.
        self._held: Dict[str, bytes] = {}
        self._held_size = 0
        self._aligned: Optional[_Scratch] = None
        self._others: Optional[_Scratch] = None

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def add(self, key: str, dtype: str, shape: Sequence[int], values: Buffer) -> None:
        length = memoryview(values).nbytes
        entry = _Entry(_CODES[dtype], tuple(shape), length)
        if self._aligned is None and self._held_size + length > _IN_MEMORY:
            self._start_files()
        if self._aligned is None:
            self._held[key] = bytes(values)
            self._held_size += length
        else:
            self._put(entry, values)
        self._entries[key] = entry

    def read(self, key: str) -> bytes:
        entry = self._entries[key]
        return self._held[key] if entry.scratch is None else entry.scratch.read(entry.offset, entry.length)

    def holds(self, key: str, values: Buffer) -> bool:
        """Whether the tensor's bytes are these; they are compared in pieces."""
        entry, wanted = self._entries[key], memoryview(values)
        if entry.length != wanted.nbytes or not entry.length:
            return entry.length == wanted.nbytes
        wanted = wanted.cast("B")
        # Bytes are compared at once, views one element after the other.
        if entry.scratch is None:
            return self._held[key] == bytes(wanted)
        for begin in range(0, entry.length, _CHUNK):
            piece = bytes(wanted[begin : begin + _CHUNK])
            if entry.scratch.read(entry.offset + begin, len(piece)) != piece:
                return False
        return True

    def write(self) -> None:
        """Puts the whole file into place at once: a reader never sees half of it. Nothing can be added after this."""
        if self._aligned is None:
            self._write_held()
            return
        behind = [entry for entry in self._entries.values() if entry.scratch is self._others]
        moved = self._make_room()
        for entry in (*moved, *sorted(behind, key=lambda entry: -_ITEM_SIZES[entry.code])):
            source, offset = entry.scratch, entry.offset
            entry.scratch, entry.offset = self._aligned, self._aligned.size
            assert source is not None
            for begin in range(0, entry.length, _CHUNK):
                self._aligned.append(source.read(offset + begin, min(_CHUNK, entry.length - begin)))
        start = min((entry.offset for entry in self._entries.values()), default=self._aligned.size)
        self._aligned.put(0, _header_bytes(self._header(start), start - 8))
        self._aligned.move_to(self._path)
        self.close()

    def close(self) -> None:
        """What was not written is dropped."""
        for scratch in (self._aligned, self._others):
            if scratch is not None:
                scratch.drop()
        self._held.clear()

    def abandon(self) -> None:
        """For a forked child: the files belong to its parent, which goes on with them."""
        for scratch in (self._aligned, self._others):
            if scratch is not None:
                scratch.abandon()
        # Not even `close` may touch them now.
        self._aligned = self._others = None
        self._held.clear()

    def _start_files(self) -> None:
        base = f"{self._path}.{os.getpid()}-{next(_numbers)}"
        self._aligned = _Scratch(base + ".partial", _HEADER_ROOM)
        self._others = _Scratch(base + ".unaligned.partial", 0)
        for key, values in self._held.items():
            self._put(self._entries[key], values)
        self._held.clear()

    def _put(self, entry: "_Entry", values: Buffer) -> None:
        scratch = self._others if entry.length % _ALIGNMENT else self._aligned
        assert scratch is not None
        entry.scratch, entry.offset = scratch, scratch.size
        scratch.append(values)

    def _make_room(self) -> "List[_Entry]":
        """The aligned tensors at the start of the file that must go to its end, because the header is long."""
        aligned = sorted(
            (entry for entry in self._entries.values() if entry.scratch is self._aligned),
            key=lambda entry: entry.offset,
        )
        assert self._aligned is not None
        # Offsets have no more digits than the sum of all lengths has.
        largest = sum(entry.length for entry in self._entries.values())
        needed = len(_json({key: entry.described(largest) for key, entry in self._entries.items()})) + 16
        room, moved = _HEADER_ROOM, []
        while room < needed and aligned:
            moved.append(aligned.pop(0))
            room = aligned[0].offset if aligned else room
        if not aligned:
            self._aligned.size = max(self._aligned.size, -(-needed // _ALIGNMENT) * _ALIGNMENT)
        return moved

    def _header(self, start: int) -> Dict[str, object]:
        entries = sorted(self._entries.items(), key=lambda item: item[1].offset)
        return {key: entry.described(entry.offset - start) for key, entry in entries}

    def _write_held(self) -> None:
        order = sorted(self._entries, key=lambda key: -_ITEM_SIZES[self._entries[key].code])
        header: Dict[str, object] = {}
        offset = 0
        for key in order:
            header[key] = self._entries[key].described(offset)
            offset += self._entries[key].length
        partial = f"{self._path}.{os.getpid()}-{next(_numbers)}.partial"
        try:
            with open(partial, "wb") as file:
                file.write(_header_bytes(header))
                for key in order:
                    file.write(self._held[key])
            os.replace(partial, self._path)
        except OSError:
            remove_quietly(partial)
            raise


class _Entry:
    __slots__ = ("code", "shape", "length", "scratch", "offset")

    def __init__(self, code: str, shape: Tuple[int, ...], length: int) -> None:
        self.code = code
        self.shape = shape
        self.length = length
        self.scratch: Optional[_Scratch] = None
        # From the start of the scratch file.
        self.offset = 0

    def described(self, offset: int) -> Dict[str, object]:
        return {"dtype": self.code, "shape": self.shape, "data_offsets": [offset, offset + self.length]}


class _Scratch:
    """A file that grows at its end, unbuffered: what was handed to it is in no memory of this process any more."""

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.size = size
        self._file: Optional[BinaryIO] = open(path, "w+b", buffering=0)  # type: ignore[assignment]

    def append(self, values: Buffer) -> None:
        self.put(self.size, values)
        self.size += memoryview(values).nbytes

    def put(self, offset: int, values: Buffer) -> None:
        rest = memoryview(values)
        if rest.nbytes == 0 or self._file is None:
            return
        rest = rest.cast("B")
        self._file.seek(offset)
        while rest.nbytes:
            # The system takes at most 2 GiB at once.
            rest = rest[self._file.write(rest) :]

    def read(self, offset: int, length: int) -> bytes:
        if self._file is None:
            return b""
        self._file.seek(offset)
        pieces = []
        while length > 0:
            piece = self._file.read(length)
            if not piece:
                break
            pieces.append(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def move_to(self, path: str) -> None:
        self.abandon()
        os.replace(self.path, path)

    def drop(self) -> None:
        self.abandon()
        remove_quietly(self.path)

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def remove_quietly(path: str) -> None:
    try:
        os.remove(path)
    except OSError:
        pass


def write_safetensors(path: str, tensors: Mapping[str, Tuple[str, Sequence[int], Buffer]]) -> None:
    """Writes tensors given as name → (dtype, shape, bytes)."""
    writer = SafetensorsWriter(path)
    try:
        for key, (dtype, shape, values) in tensors.items():
            writer.add(key, dtype, shape, values)
        writer.write()
    finally:
        writer.close()


def read_safetensors(path: str) -> Dict[str, Tuple[str, List[int], bytes]]:
    """Reads a file as name → (dtype, shape, bytes). Raises ValueError where it is not a sound safetensors file."""
    with open(path, "rb") as file:
        content = file.read()
    if len(content) < 8:
        raise ValueError(f"{path} is no safetensors file: it has {len(content)} bytes")
    (length,) = struct.unpack("<Q", content[:8])
    if length > len(content) - 8:
        raise ValueError(f"{path} is no safetensors file: its header claims {length} bytes")
    header = json.loads(content[8 : 8 + length].decode("utf-8"))
    data = content[8 + length :]
    tensors = {}
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(data):
            raise ValueError(f"{path}: the tensor {key} reaches beyond the end of the file")
        tensors[key] = (_DTYPES[entry["dtype"]], list(entry["shape"]), data[begin:end])
    return tensors


def _header_bytes(header: Mapping[str, object], room: int = 0) -> bytes:
    """The header with its length before it; spaces fill `room` bytes, or up to the next multiple of eight."""
    text = _json(header)
    text += b" " * (room - len(text) if room else -len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _json(header: Mapping[str, object]) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode("utf-8")
def header_of(file: BinaryIO, path: str) -> Tuple[Dict[str, Any], int]:
    """The header of an open file and where the values begin. Raises ValueError where it is not a safetensors file."""
    first = file.read(8)
    if len(first) < 8:
        raise ValueError(f"{path} is no safetensors file: it has {len(first)} bytes")
    (length,) = struct.unpack("<Q", first)
    if length > os.fstat(file.fileno()).st_size - 8:
        raise ValueError(f"{path} is no safetensors file: its header claims {length} bytes")
    return json.loads(file.read(length).decode("utf-8")), 8 + length


def dtype_of_code(code: str) -> str:
    return _DTYPES[code]


def code_of_dtype(dtype: str) -> str:
    return _CODES[dtype]


