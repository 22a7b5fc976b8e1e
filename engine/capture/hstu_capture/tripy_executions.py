"""Runs Tripy programs in the engine and lists what went in and came out (engine/protocol/capture.ts: executions)."""

import hashlib
import os
import shutil
import tempfile
from typing import Any, Dict, List, Optional, Sequence

from .engine_link import EngineFailure
from .safetensors_file import read_safetensors, write_safetensors
from .session import Session
from .tripy_programs import write_program, write_unlisted
from .tripy_values import Feeds, as_feed, value_of

# A benchmark must not fill the disk: further executions of the same program are counted only.
_MOST_LISTED = 16


class TripyExecutions:
    def __init__(self, session: Session, runtime: Any) -> None:
        self._session = session
        self._runtime = runtime

    def run(self, program: Any, arguments: Sequence[Any], on_host: Optional[List[Any]]) -> List[Any]:
        """
        The program's outputs; `on_host` are their values where they were computed here already.
        Raises MTRTException where the engine cannot run it.
        """
        if program.entry is None:
            if not self._session.may_record("tripy"):
                return self._run_unlisted(program, arguments, written=False)
            write_program(program)
        entry = program.entry
        entry["calls"] = entry.get("calls", 0) + 1
        feeds = program.feeds(arguments)
        # On equal inputs a program gives what it gave before: warm-ups and benchmarks cost nothing.
        key = _digest(feeds)
        known = program.results.get(key)
        if known is not None:
            self._session.write_index()
            return self._values(program, known)
        executions = entry.setdefault("executions", [])
        if len(executions) >= _MOST_LISTED:
            self._session.write_index()
            if on_host is not None:
                return program.values(self._runtime, on_host)
            return self._run_unlisted(program, arguments, written=True)
        name = f"{program.name}.run-{len(executions)}"
        inputs, outputs = (self._path(f"{name}.{role}.safetensors") for role in ("inputs", "outputs"))
        write_safetensors(inputs, feeds)
        execution: Dict[str, Any] = {"inputs": os.path.basename(inputs)}
        executions.append(execution)
        try:
            if on_host is not None:
                given = program.values(self._runtime, on_host)
                write_safetensors(outputs, dict(zip(program.output_names, map(as_feed, given))))
            else:
                self._execute(program, arguments, inputs, outputs)
            execution["outputs"] = os.path.basename(outputs)
        except Exception as error:
            execution["error"] = str(error)
            raise
        finally:
            self._session.write_index()
        program.results[key] = outputs
        return self._values(program, outputs)

    def _run_unlisted(self, program: Any, arguments: Sequence[Any], written: bool) -> List[Any]:
        folder = tempfile.mkdtemp(prefix="unlisted-", dir=self._session.folder)
        try:
            if not written:
                write_unlisted(program, folder)
            inputs, outputs = (os.path.join(folder, f"{role}.safetensors") for role in ("inputs", "outputs"))
            write_safetensors(inputs, program.feeds(arguments))
            self._execute(program, arguments, inputs, outputs)
            return self._values(program, outputs)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _execute(self, program: Any, arguments: Sequence[Any], inputs: str, outputs: str) -> None:
        """Writes the file `outputs`. The engine's own file may lie anywhere."""
        try:
            produced = self._session.engine.execute(program.path, inputs)  # type: ignore[union-attr]
            if os.path.abspath(produced) != outputs:
                shutil.move(produced, outputs)
        except (EngineFailure, OSError) as error:
            reason = program.diagnose([argument.array for argument in arguments])
            said = f"{reason} ({error})" if reason else str(error)
            raise self._runtime.MTRTException(f"the engine could not run {program.label}: {said}") from None

    def _values(self, program: Any, outputs: str) -> List[Any]:
        try:
            tensors = read_safetensors(outputs)
            pairs = zip(program.output_names, program.output_dtypes)
            return [value_of(self._runtime, dtype, *tensors[name]) for name, dtype in pairs]
        except (OSError, ValueError, KeyError) as error:
            raise self._runtime.MTRTException(f"the engine's answer for {program.label} lacks {error}") from None

    def _path(self, name: str) -> str:
        return os.path.join(self._session.folder, name)


def _digest(feeds: Feeds) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name, (dtype, shape, values) in feeds.items():
        digest.update(repr((name, dtype, tuple(shape), len(values))).encode())
        digest.update(values)
    return digest.digest()
