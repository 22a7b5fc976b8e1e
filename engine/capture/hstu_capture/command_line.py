"""Reads the command line, puts all watchers into place and runs the script between them."""

import argparse
import atexit
import os
import sys
from typing import Any, Callable, Collection, List, Optional, Sequence, Tuple

from .audit import listen
from .engine_link import EngineLink
from .import_hooks import after_import
from .script import Ending, run_folder, run_module, run_script
from .session import DEFAULT_BYTE_BUDGET, Session


def main(arguments: Sequence[str], own_modules: Collection[str] = ()) -> int:
    """`own_modules` are those that were imported for the agent and that plain Python would not have imported."""
    options, command = _parse(arguments)
    as_module = command[0] == "-m"
    target, script_arguments = (command[1], command[2:]) if as_module else (command[0], command[1:])
    problem = None if as_module else _problem_with(target)
    if problem is not None:
        print(f"hstu_capture: {problem}", file=sys.stderr)
        return 2
    try:
        engine = EngineLink(*options.engine_fd) if options.engine_fd else None
    except OSError as error:
        print(f"hstu_capture: the engine's pipes {options.engine_fd} are not there: {error}", file=sys.stderr)
        return 2
    try:
        session = Session(
            options.out,
            target,
            script_arguments,
            emulate_cuda=options.emulate_cuda,
            stand_ins=options.stand_ins,
            repeat_reference=options.repeat_reference,
            max_traces=options.max_traces,
            byte_budget=options.byte_budget,
            engine=engine,
            as_module=as_module,
        )
    except OSError as error:
        print(f"hstu_capture: cannot write to {options.out}: {error}", file=sys.stderr)
        return 2
    _leave_no_sign(own_modules, command)
    ending = Ending()
    # Registered first, so that it is called after all that the script registers, and after its threads.
    atexit.register(lambda: session.end(ending.code))
    _observe(session)
    session.write_index(now=True)
    run = run_module if as_module else run_folder if os.path.isdir(target) else run_script
    run(target, script_arguments, ending)
    if ending.error is not None:
        session.note_error(*ending.error)
    session.write_index(now=True)
    if ending.is_interrupt:
        # Python ends itself with the signal, for the shell to see; the traceback has been shown.
        sys.excepthook = lambda *error: None
        raise KeyboardInterrupt
    return ending.code


def _observe(session: Session) -> None:
    # The frameworks are imported by the user's script, if at all, and not by the agent.
    def observe_torch(torch: Any) -> None:
        from .torch_observer import TorchObserver

        TorchObserver(session, torch).install()

    def stand_in() -> None:
        from .stand_ins import offer_stand_ins

        offer_stand_ins(session.stand_ins)

    def observe_tripy(nvtripy: Any) -> None:
        from .tripy_observer import TripyObserver

        TripyObserver(session, nvtripy).install()

    after_import("torch", _guarded(session, observe_torch))
    after_import("nvtripy", _guarded(session, observe_tripy), before=stand_in)
    session.files.install()
    session.randomness.install()
    session.processes.install()
    listen(session.files.events(), session.processes.events())


def _guarded(session: Session, observe: Callable[[Any], None]) -> Callable[[Any], None]:
    """A version that cannot be observed still works for the script."""

    def run(module: Any) -> None:
        try:
            observe(module)
        except Exception as error:
            name, version = module.__name__, getattr(module, "__version__", "of unknown version")
            session.note_problem(f"{name} {version} could not be observed: {type(error).__name__}: {error}")

    return run


def _leave_no_sign(own_modules: Collection[str], command: Sequence[str]) -> None:
    """The script finds the path, the environment and the modules that it would find without the agent."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # The first entry is the one that `-m` put there: the script's own folder will replace it.
    start = 0 if getattr(sys.flags, "safe_path", False) else 1
    sys.path[start:] = [entry for entry in sys.path[start:] if os.path.abspath(entry or ".") != folder]
    search_path = os.environ.get("PYTHONPATH")
    if search_path is not None:
        entries = [entry for entry in search_path.split(os.pathsep) if os.path.abspath(entry or ".") != folder]
        if entries:
            os.environ["PYTHONPATH"] = os.pathsep.join(entries)
        else:
            del os.environ["PYTHONPATH"]
    started_as = getattr(sys, "orig_argv", None)
    if started_as is not None and "-m" in started_as:
        sys.orig_argv = [*started_as[: started_as.index("-m")], *command]  # type: ignore[attr-defined]
    _uncover(own_modules, os.getcwd() if command[0] == "-m" else _folder_of(command[0]))


def _uncover(own_modules: Collection[str], folder: str) -> None:
    """Where the user has a module of the same name as one that only the agent imported, the script gets the user's."""
    try:
        beside = {os.path.splitext(name)[0].split(".")[0] for name in os.listdir(folder)}
    except OSError:
        return
    for name in own_modules:
        top = name.partition(".")[0]
        if top in beside and top != __package__:
            sys.modules.pop(name, None)


def _folder_of(script: str) -> str:
    return script if os.path.isdir(script) else os.path.dirname(os.path.realpath(script))


def _problem_with(script: str) -> Optional[str]:
    if os.path.isdir(script):
        if os.path.isfile(os.path.join(script, "__main__.py")):
            return None
        return f"the folder {script} has no __main__.py to run"
    if not os.path.exists(script):
        return f"there is no script {script}"
    try:
        with open(script, "rb"):
            return None
    except OSError as error:
        return f"the script {script} cannot be read: {error.strerror}"


def _parse(arguments: Sequence[str]) -> Tuple[argparse.Namespace, List[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m hstu_capture",
        usage="%(prog)s --out DIR [options] -- (script.py | -m package.module) [args…]",
        description="Runs a script unchanged and writes a trace of every torch model and Tripy program in it.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the traces and capture.json")
    parser.add_argument(
        "--emulate-cuda", action="store_true", help="let CUDA requests land on the CPU, and say that CUDA is there"
    )
    parser.add_argument(
        "--stand-ins", action="store_true", help="stand in for mlir_tensorrt and tensorrt although they are installed"
    )
    parser.add_argument(
        "--repeat-reference", action="store_true", help="call each torch model twice to measure its non-determinism"
    )
    parser.add_argument(
        "--max-traces", type=int, default=64, metavar="N", help="traces for each framework (default: %(default)s)"
    )
    parser.add_argument(
        "--byte-budget",
        type=_byte_count,
        default=DEFAULT_BYTE_BUDGET,
        metavar="BYTES",
        help="beyond so many bytes results are kept as statistics and some rows; 0: no limit (default: %(default)s)",
    )
    parser.add_argument(
        "--engine-fd", type=_descriptors, metavar="R,W", help="descriptors of the pipes from and to the engine"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command or command == ["-m"]:
        parser.error("name a script, or -m and a module, after --")
    return options, command


def _descriptors(text: str) -> List[int]:
    numbers = [int(part) for part in text.split(",")]
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError("two descriptors are needed: R,W")
    return numbers


def _byte_count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError("a number of bytes is needed, or 0")
    return count
