"""Command line: `python -m hstu_capture --out DIR [options] -- script.py args…`, or `-- -m package.module args…`."""

import argparse
import os
import sys
from typing import List, Sequence

from .engine_link import EngineLink
from .import_hooks import after_import
from .script import run_module, run_script
from .session import Session


def main(arguments: Sequence[str]) -> int:
    options, command = _parse(arguments)
    engine = None
    if options.engine_fd:
        engine = EngineLink(*options.engine_fd)
    as_module = command[0] == "-m"
    target, script_arguments = (command[1], command[2:]) if as_module else (command[0], command[1:])
    try:
        session = Session(
            options.out,
            target,
            script_arguments,
            emulate_cuda=options.emulate_cuda,
            stand_ins=options.stand_ins,
            repeat_reference=options.repeat_reference,
            max_traces=options.max_traces,
            engine=engine,
        )
    except OSError as error:
        print(f"hstu_capture: cannot write to {options.out}: {error}", file=sys.stderr)
        return 2
    _observe(session)
    run = run_module if as_module else run_script
    session.exit_code = run(target, script_arguments)
    session.write_index()
    return session.exit_code


def _observe(session: Session) -> None:
    # The frameworks are imported by the user's script, if at all, and not by the agent.
    def observe_torch(torch: object) -> None:
        from .torch_observer import TorchObserver

        TorchObserver(session, torch).install()

    def stand_in() -> None:
        from .stand_ins import offer_stand_ins

        offer_stand_ins(session.stand_ins)

    def observe_tripy(nvtripy: object) -> None:
        from .tripy_observer import TripyObserver

        TripyObserver(session, nvtripy).install()

    after_import("torch", observe_torch)
    after_import("nvtripy", observe_tripy, before=stand_in)


def _parse(arguments: Sequence[str]) -> "tuple[argparse.Namespace, List[str]]":
    parser = argparse.ArgumentParser(
        prog="python -m hstu_capture",
        usage="%(prog)s --out DIR [options] -- (script.py | -m package.module) [args…]",
        description="Runs a script unchanged and writes a trace of every torch model and Tripy program in it.",
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
        "--engine-fd", type=_descriptors, metavar="R,W", help="descriptors of the pipes from and to the engine"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command or command == ["-m"]:
        parser.error("name a script, or -m and a module, after --")
    if command[0] != "-m" and not os.path.isfile(command[0]):
        parser.error(f"there is no script {command[0]}")
    return options, command


def _descriptors(text: str) -> List[int]:
    numbers = [int(part) for part in text.split(",")]
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError("two descriptors are needed: R,W")
    return numbers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
