"""Runs the user's script as Python itself would: as `__main__`, with its arguments, path, exit code and traceback."""

import os
import runpy
import sys
import types
from importlib.machinery import SourceFileLoader
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .source_frames import is_own_file, is_user_file, treat_as_user

# Of a recursion without end, the innermost frames say enough.
_MAX_FRAMES = 64


class Ending:
    """How the script ended, as far as it has."""

    def __init__(self) -> None:
        self.code = 0
        self.is_interrupt = False
        # The exception that nobody caught, and the user's frames of it, innermost first.
        self.error: Optional[Tuple[BaseException, List[Dict[str, Any]]]] = None


def run_script(path: str, arguments: Sequence[str], ending: Ending) -> None:
    """Runs a file as `python path arguments…` does."""
    absolute = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    treat_as_user(os.path.abspath(absolute))
    main = _fresh_main()
    main.__file__ = absolute
    main.__loader__ = SourceFileLoader("__main__", absolute)
    main.__dict__["__cached__"] = None
    sys.argv = [path, *arguments]
    _start_path_with(os.path.dirname(os.path.realpath(absolute)))

    def run() -> None:
        with open(absolute, "rb") as file:
            source = file.read()
        exec(compile(source, absolute, "exec", dont_inherit=True), main.__dict__)

    _run(run, ending)


def run_folder(path: str, arguments: Sequence[str], ending: Ending) -> None:
    """Runs the `__main__.py` of a folder as `python path arguments…` does."""
    _fresh_main()
    sys.argv = [path, *arguments]
    _start_path_with(os.path.abspath(path), even_if_safe=True)
    _run(lambda: runpy._run_module_as_main("__main__", False), ending)  # type: ignore[attr-defined]


def run_module(name: str, arguments: Sequence[str], ending: Ending) -> None:
    """Runs a module as `python -m name arguments…` does."""
    _fresh_main()
    sys.argv = ["-m", *arguments]
    _start_path_with(os.getcwd())
    _run(lambda: runpy._run_module_as_main(name), ending)  # type: ignore[attr-defined]


def _fresh_main() -> types.ModuleType:
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    main.__dict__["__annotations__"] = {}
    sys.modules["__main__"] = main
    return main


def _start_path_with(folder: str, even_if_safe: bool = False) -> None:
    """The agent was started with `-m`, for which Python puts the working directory first, unless told not to."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder
    elif even_if_safe:
        sys.path.insert(0, folder)


def _run(run: Callable[[], None], ending: Ending) -> None:
    uncaught: Optional[BaseException] = None
    try:
        run()
    except SystemExit as request:
        ending.code = _code_of(request)
    except BaseException as error:
        uncaught = error
    if uncaught is not None:
        # Not within the clause above: what fails while the error is shown did not come from it.
        ending.is_interrupt = isinstance(uncaught, KeyboardInterrupt)
        ending.code = 130 if ending.is_interrupt else 1
        _hide_own_frames(uncaught)
        ending.error = (uncaught, _user_frames(uncaught))
        _show(uncaught, ending)


def _code_of(request: SystemExit) -> int:
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code & 0xFF
    print(request.code, file=sys.stderr)
    return 1


def _show(error: BaseException, ending: Ending) -> None:
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except SystemExit as request:
        ending.code = _code_of(request)
    except BaseException as second:
        print("Error in sys.excepthook:", file=sys.stderr)
        _hide_own_frames(second)
        sys.__excepthook__(type(second), second, second.__traceback__)
        print("\nOriginal exception was:", file=sys.stderr)
        sys.__excepthook__(type(error), error, error.__traceback__)


def _user_frames(error: BaseException) -> List[Dict[str, Any]]:
    frames: List[Dict[str, Any]] = []
    if isinstance(error, SyntaxError) and error.filename and is_user_file(error.filename):
        frames.append({"file": os.path.abspath(error.filename), "line": error.lineno or 1, "function": "<module>"})
    traceback, found = error.__traceback__, []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if is_user_file(code.co_filename):
            file = os.path.abspath(code.co_filename)
            found.append({"file": file, "line": traceback.tb_lineno, "function": code.co_name})
        traceback = traceback.tb_next
    return (frames + found[::-1])[:_MAX_FRAMES]


def _hide_own_frames(error: Optional[BaseException]) -> None:
    """The user's traceback is about the user's code: frames of the agent and of runpy before it say nothing."""
    waiting, seen = [error], set()
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        error.__traceback__ = _without_own_frames(error.__traceback__)
        waiting += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]


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
