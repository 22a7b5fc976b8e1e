"""Processes that the script starts, and the ways in which its own can end without a word."""

import functools
import os
import sys
from types import FrameType, ModuleType
from typing import Any, Callable, Dict, Optional, Tuple

from .import_hooks import after_import

_START = ("os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen", "os.exec")


class ProcessWatch:
    def __init__(self, session: Any) -> None:
        self._session = session
        # What the script started; what these compute is not seen.
        self.count = 0

    def install(self) -> None:
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._session.become_child)
        self._announce_exit()
        # Its processes are forked in C, which raises no event.
        for name in ("popen_spawn_posix", "popen_forkserver", "popen_spawn_win32"):
            after_import(f"multiprocessing.{name}", self._watch_launch)

    def events(self) -> "Dict[str, Callable[[Tuple[Any, ...]], None]]":
        handlers: Dict[str, Callable[[Tuple[Any, ...]], None]] = {name: self._started for name in _START}
        handlers["os.posix_spawn"] = self._spawned
        handlers["os.exec"] = self._replaced
        return handlers

    def _started(self, arguments: Tuple[Any, ...]) -> None:
        self.count += 1

    def _spawned(self, arguments: Tuple[Any, ...]) -> None:
        # subprocess.Popen has been counted, and may start its process in this way.
        frame: Optional[FrameType] = sys._getframe(2)
        if frame is None or frame.f_globals.get("__name__") != "subprocess":
            self.count += 1

    def _replaced(self, arguments: Tuple[Any, ...]) -> None:
        self.count += 1
        self._session.before_end()

    def _announce_exit(self) -> None:
        leave = os._exit
        session = self._session

        @functools.wraps(leave)
        def _exit(status: int) -> None:
            try:
                session.before_end()
            finally:
                leave(status)

        os._exit = _exit  # type: ignore[assignment]

    def _watch_launch(self, module: ModuleType) -> None:
        popen = module.Popen  # type: ignore[attr-defined]
        original = getattr(popen, "_launch", None)
        if original is None:
            return

        @functools.wraps(original)
        def launch(this: Any, *args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return original(this, *args, **kwargs)

        popen._launch = launch
