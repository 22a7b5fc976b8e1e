"""Runs the user's script as Python itself would: as `__main__`, with its arguments, path, exit code and traceback."""

import os
import runpy
import sys
import types
from typing import Callable, Optional, Sequence

from .source_frames import is_own_file


def run_script(path: str, arguments: Sequence[str]) -> int:
    """Runs a file; returns the exit code that `python path arguments…` would end with."""
    absolute = os.path.abspath(path)
    main = _fresh_main()
    main.__file__ = absolute
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    main.__cached__ = None
    sys.argv = [path, *arguments]
    sys.path[0] = os.path.dirname(os.path.realpath(absolute))

    def run() -> None:
        with open(absolute, "rb") as file:
            source = file.read()
        exec(compile(source, absolute, "exec"), main.__dict__)

    return _exit_code_of(run)


def run_module(name: str, arguments: Sequence[str]) -> int:
    """Runs a module; returns the exit code that `python -m name arguments…` would end with."""
    main = _fresh_main()
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.argv = [name, *arguments]
    sys.path[0] = os.getcwd()
    return _exit_code_of(lambda: runpy._run_module_as_main(name))  # type: ignore[attr-defined]


def _fresh_main() -> types.ModuleType:
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    return main


def _exit_code_of(run: Callable[[], None]) -> int:
    try:
        run()
    except SystemExit as request:
        return _code_of(request)
    except KeyboardInterrupt as error:
        _show(error)
        return 130
    except BaseException as error:
        _show(error)
        return 1
    return 0


def _code_of(request: SystemExit) -> int:
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code & 0xFF
    print(request.code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    _hide_own_frames(error)
    sys.excepthook(type(error), error, error.__traceback__)


def _hide_own_frames(error: Optional[BaseException]) -> None:
    """The user's traceback is about the user's code: frames of the agent and of runpy before it say nothing."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = _without_own_frames(error.__traceback__)
        if error.__cause__ is not None:
            _hide_own_frames(error.__cause__)
        error = error.__context__


def _without_own_frames(traceback: Optional[types.TracebackType]) -> Optional[types.TracebackType]:
    kept = []
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not (is_own_file(file) or file == runpy.__file__ or file == "<frozen runpy>"):
            kept.append(traceback)
        traceback = traceback.tb_next
    chain = None
    for entry in reversed(kept):
        chain = types.TracebackType(chain, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return chain
