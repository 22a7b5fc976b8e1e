"""Reads and writes safetensors files with the standard library alone, so that the user need not install anything."""

import json
import os
import struct
import tempfile
from typing import Any, BinaryIO, Dict, List, Mapping, Sequence, Tuple

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

# Values wait here until the header, which stands before them, is known. More than this goes to a temporary file.
_IN_MEMORY = 64 * 1024 * 1024


class SafetensorsWriter:
    """Collects tensors one by one and writes them as one file. `values` are little-endian bytes in C order."""

    def __init__(self) -> None:
        self._values = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)
        self._size = 0
        self._entries: Dict[str, Tuple[str, Tuple[int, ...], int, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def add(self, key: str, dtype: str, shape: Sequence[int], values: bytes) -> None:
        self._entries[key] = (_CODES[dtype], tuple(shape), self._size, len(values))
        self._values.seek(self._size)
        self._values.write(values)
        self._size += len(values)

    def read(self, key: str) -> bytes:
        _, _, offset, length = self._entries[key]
        self._values.seek(offset)
        return self._values.read(length)

    def write(self, path: str) -> None:
        """Writes the file under a temporary name first: a reader never sees half of it."""
        # Wide elements come first, so that every tensor is aligned to its own element size in the file.
        order = sorted(self._entries.items(), key=lambda item: -_ITEM_SIZES[item[1][0]])
        header: Dict[str, object] = {}
        offset = 0
        for key, (code, shape, _, length) in order:
            header[key] = {"dtype": code, "shape": shape, "data_offsets": [offset, offset + length]}
            offset += length
        partial = path + ".partial"
        with open(partial, "wb") as file:
            _write_header(file, header)
            for key, _ in order:
                file.write(self.read(key))
        os.replace(partial, path)

    def close(self) -> None:
        self._values.close()


def write_safetensors(path: str, tensors: Mapping[str, Tuple[str, Sequence[int], bytes]]) -> None:
    """Writes tensors given as name → (dtype, shape, bytes)."""
    writer = SafetensorsWriter()
    try:
        for key, (dtype, shape, values) in tensors.items():
            writer.add(key, dtype, shape, values)
        writer.write(path)
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


def _write_header(file: BinaryIO, header: Mapping[str, object]) -> None:
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)))
    file.write(text)
