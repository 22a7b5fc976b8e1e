"""Tells the user's own code from libraries and says where in it something happened."""

import linecache
import os
import site
import sys
import sysconfig
from types import CodeType, FrameType
from typing import Dict, List, NamedTuple, Optional, Set, Tuple


class SourceFrame(NamedTuple):
    """A place in the user's code. Line and columns are 1-based; `end_column` is the one after the last character."""

    file: str
    line: int
    column: Optional[int]
    end_column: Optional[int]
    function: str


_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
# Deep recursion says nothing more than its innermost frames do.
_MAX_FRAMES = 64


def _library_folders() -> List[str]:
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += getattr(site, "getsitepackages", lambda: [])()
    folders.append(site.getusersitepackages() if hasattr(site, "getusersitepackages") else "")
    return sorted({os.path.abspath(folder) + os.sep for folder in folders if folder})


_libraries = _library_folders()
_scripts: Set[str] = set()
_is_user_file: Dict[str, bool] = {}
# By the identity of the code object, which is safe while it is kept: hashing one goes through all that is in it.
_positions: Dict[int, List[Tuple[Optional[int], ...]]] = {}
_frames: Dict[int, Tuple[CodeType, Dict[int, SourceFrame]]] = {}


def treat_as_library(folder: str) -> None:
    """For packages that are observed and may be installed in place, outside site-packages."""
    _libraries.append(os.path.abspath(folder) + os.sep)
    _is_user_file.clear()


def treat_as_user(file: str) -> None:
    """The script is the user's wherever it lies."""
    _scripts.add(file)
    _is_user_file.pop(file, None)


def is_own_file(file: str) -> bool:
    """Whether the file belongs to this package."""
    return file.startswith(_OWN_FOLDER)


def is_user_file(file: str) -> bool:
    known = _is_user_file.get(file)
    if known is None:
        known = _is_user_file[file] = _classify(file)
    return known


def _classify(file: str) -> bool:
    if file.startswith("<"):
        return False
    path = os.path.abspath(file)
    if path in _scripts:
        return True
    if path.startswith(_OWN_FOLDER) or any(path.startswith(folder) for folder in _libraries):
        return False
    parts = path.split(os.sep)
    return "site-packages" not in parts and "dist-packages" not in parts


def user_frames(frame: Optional[FrameType]) -> Tuple[SourceFrame, ...]:
    """The user's frames from `frame` outwards, innermost first."""
    found: List[SourceFrame] = []
    known = _is_user_file
    while frame is not None and len(found) < _MAX_FRAMES:
        file = frame.f_code.co_filename
        if known.get(file) or (file not in known and is_user_file(file)):
            found.append(source_frame(frame))
        frame = frame.f_back
    return tuple(found)


def first_user_frame(frame: Optional[FrameType]) -> Optional[SourceFrame]:
    while frame is not None:
        if is_user_file(frame.f_code.co_filename):
            return source_frame(frame)
        frame = frame.f_back
    return None


def source_frame(frame: FrameType) -> SourceFrame:
    code = frame.f_code
    known = _frames.get(id(code))
    if known is None:
        known = _frames[id(code)] = (code, {})
    place = known[1].get(frame.f_lasti)
    if place is None:
        line, column, end_column = _locate(code, frame.f_lasti, frame.f_lineno or code.co_firstlineno)
        place = known[1][frame.f_lasti] = SourceFrame(code.co_filename, line, column, end_column, code.co_name)
    return place


def _locate(code: CodeType, instruction: int, line: int) -> Tuple[int, Optional[int], Optional[int]]:
    if sys.version_info < (3, 11):
        return line, None, None
    positions = _positions.get(id(code))
    if positions is None:
        positions = _positions[id(code)] = list(code.co_positions())
    index = instruction // 2
    if not 0 <= index < len(positions):
        return line, None, None
    start, end, column, end_column = positions[index]
    if start is None or column is None or end_column is None:
        return line, None, None
    begin = _characters(code.co_filename, start, column) + 1
    # An expression over several lines has no end column on its first line.
    finish = _characters(code.co_filename, start, end_column) + 1 if end == start else None
    return start, begin, finish


def _characters(file: str, line: int, offset: int) -> int:
    """Python counts columns in UTF-8 bytes; editors count characters."""
    text = linecache.getline(file, line)
    if text.isascii():
        return offset
    return len(text.encode("utf-8")[:offset].decode("utf-8", "replace"))
