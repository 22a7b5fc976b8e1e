"""Which files and environment variables the script's outcome may depend on."""

import functools
import os
import stat
import sys
from types import CodeType
from typing import Any, Callable, Dict, Optional, Tuple

from .import_hooks import after_import
from .source_frames import is_own_file, is_user_file

# What stands in these is no input of a computation, and is different every time.
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/run/")
_ACCESS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR


class FileWatch:
    def __init__(self, folder: str) -> None:
        """`folder` is the capture's own."""
        self._own = os.path.join(folder, "")
        # Sets in the order in which names came.
        self._sources: Dict[str, None] = {}
        self._opened: Dict[str, None] = {}
        self._written: Dict[str, None] = {}
        self._environment: Dict[str, None] = {}
        self._set: Dict[str, None] = {}

    def install(self) -> None:
        self._watch_environment()
        after_import("safetensors", self._watch_safetensors)

    def events(self) -> "Dict[str, Callable[[Tuple[Any, ...]], None]]":
        return {"open": self._on_open, "exec": self._on_exec, "os.rename": self._on_rename}

    def report(self, script: Optional[str]) -> Dict[str, Any]:
        """The fields of the index. The script is the first of the sources."""
        self._look_at_modules()
        main = script or getattr(sys.modules.get("__main__"), "__file__", None)
        names = [os.path.abspath(main), *self._sources] if main else [*self._sources]
        sources = [file for file in dict.fromkeys(names) if os.path.isfile(file)]
        kinds = {file: _kind(file) for file in list(self._opened) if file not in sources}
        return {
            "sources": sources,
            "opened": [file for file, kind in kinds.items() if kind == "file"],
            "absent": [file for file, kind in kinds.items() if kind == "absent" and file not in sys.path],
            "environment": sorted(list(self._environment)),
        }

    def note_read(self, path: Any) -> None:
        name = self._name(path)
        if name is not None and name not in self._written:
            self._opened[name] = None

    def _on_open(self, arguments: Tuple[Any, ...]) -> None:
        path, mode, flags = arguments
        if isinstance(path, int):
            return
        if not isinstance(flags, int):
            flags = 0
        access = flags & _ACCESS
        fresh = flags & (os.O_TRUNC | os.O_EXCL)
        if access != os.O_WRONLY and not fresh:
            self.note_read(path)
        if access != os.O_RDONLY:
            name = self._name(path)
            if name is not None:
                self._written[name] = None

    def _on_rename(self, arguments: Tuple[Any, ...]) -> None:
        source, target = self._name(arguments[0]), self._name(arguments[1])
        if source is not None and target is not None and source in self._written:
            self._written[target] = None

    def _on_exec(self, arguments: Tuple[Any, ...]) -> None:
        code = arguments[0]
        if isinstance(code, CodeType):
            self._add_source(code.co_filename)

    def _add_source(self, file: str) -> None:
        if is_user_file(file):
            name = os.path.abspath(file)
            if name not in self._sources and name not in self._written:
                self._sources[name] = None

    def _look_at_modules(self) -> None:
        for module in list(sys.modules.values()):
            try:
                # Some modules are loaded by the first look at an attribute.
                file = object.__getattribute__(module, "__dict__").get("__file__")
            except AttributeError:
                continue
            if not isinstance(file, str) or is_own_file(file) or not is_user_file(file):
                continue
            if file.endswith(".py"):
                self._add_source(file)
            else:
                # A compiled module is read by the system, which raises no event.
                self.note_read(file)

    def _name(self, path: Any) -> Optional[str]:
        try:
            name = os.path.abspath(os.fsdecode(path))
        except (TypeError, ValueError, OSError):
            return None
        if os.path.basename(name).startswith("<"):
            # Tracebacks look for the source of code that never had a file.
            return None
        if name.startswith(self._own) or name.startswith(_SYSTEM) or is_own_file(name):
            return None
        if not is_user_file(name) or f"{os.sep}__pycache__{os.sep}" in name:
            return None
        return name

    def _watch_environment(self) -> None:
        # The class is that of os.environ and os.environb alone.
        environ_type: Any = type(os.environ)
        read, write, names = environ_type.__getitem__, environ_type.__setitem__, self._environment

        @functools.wraps(read)
        def getitem(environ: Any, key: Any) -> Any:
            if key not in names and key not in self._set:
                self._note_variable(key)
            return read(environ, key)

        @functools.wraps(write)
        def setitem(environ: Any, key: Any, value: Any) -> None:
            write(environ, key, value)
            self._set[os.fsdecode(key)] = None

        environ_type.__getitem__ = getitem
        environ_type.__setitem__ = setitem

    def _note_variable(self, key: Any) -> None:
        if isinstance(key, (str, bytes)):
            name = os.fsdecode(key)
            if name not in self._set:
                self._environment[name] = None

    def _watch_safetensors(self, module: Any) -> None:
        """Its files are opened by native code, which raises no event."""
        original = getattr(module, "safe_open", None)
        if original is None:
            return

        @functools.wraps(original, updated=())
        def safe_open(filename: Any, *args: Any, **kwargs: Any) -> Any:
            self.note_read(filename)
            return original(filename, *args, **kwargs)

        module.safe_open = safe_open


def _kind(file: str) -> str:
    try:
        return "file" if stat.S_ISREG(os.stat(file).st_mode) else "other"
    except OSError:
        return "absent"
