"""The agent's way to ask the engine for the execution of a program: JSON lines over two pipes."""

import json
import os
import signal
import sys
import threading
from typing import Any, Dict


class EngineFailure(Exception):
    """The engine is absent, has gone, or says that it cannot run the program."""


class EngineLink:
    def __init__(self, read_descriptor: int, write_descriptor: int) -> None:
        # Processes that the user's script starts must not hold the pipes open.
        os.set_inheritable(read_descriptor, False)
        os.set_inheritable(write_descriptor, False)
        _end_with_parent()
        self._answers = os.fdopen(read_descriptor, "r", encoding="utf-8")
        self._requests = os.fdopen(write_descriptor, "w", encoding="utf-8")
        self._last_id = 0
        self._lock = threading.Lock()
        self._is_abandoned = False

    def execute(self, trace: str, inputs: str) -> str:
        """
        Runs the program of a trace file on a safetensors file of inputs, named as the trace's input ports.
        Returns the path of a safetensors file with the outputs, named as its output ports.
        """
        if self._is_abandoned:
            raise EngineFailure("the engine runs programs of the script's own process only, and this one was forked")
        with self._lock:
            self._last_id += 1
            answer = self._ask({"id": self._last_id, "trace": trace, "inputs": inputs})
        if answer.get("error"):
            raise EngineFailure(str(answer["error"]))
        if not isinstance(answer.get("outputs"), str):
            raise EngineFailure(f"the engine gave an answer that does not fit the request: {answer}")
        return answer["outputs"]

    def abandon(self) -> None:
        """In a forked child: the pipes are its parent's."""
        self._is_abandoned = True
        self._lock = threading.Lock()
        for pipe in (self._answers, self._requests):
            try:
                pipe.close()
            except (OSError, RuntimeError):
                # The parent's thread was in the middle of a request.
                continue

    def _ask(self, request: Dict[str, Any]) -> Dict[str, Any]:
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
            while True:
                answer = self._read()
                # An interrupt may have left the answer to an earlier request unread.
                number = answer.get("id")
                if not (isinstance(number, int) and number < request["id"]):
                    break
        except (OSError, ValueError) as error:
            raise EngineFailure(f"the engine cannot be reached: {error}") from error
        if number != request["id"]:
            raise EngineFailure(f"the engine gave an answer that does not fit the request: {answer}")
        return answer

    def _read(self) -> Dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise EngineFailure("the engine closed the connection")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise EngineFailure(f"the engine gave an answer that is no JSON: {line[:200]!r}") from error
        if not isinstance(answer, dict):
            raise EngineFailure(f"the engine gave an answer that does not fit the request: {answer}")
        return answer


def _end_with_parent() -> None:
    """An engine that is killed leaves no script behind. A thread that watches the pipe would show in the script."""
    if sys.platform != "linux":
        return
    before = set(sys.modules)
    try:
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGKILL))
    except (ImportError, OSError, AttributeError):
        return
    finally:
        # The script must not find modules that plain Python would not have imported.
        for name in set(sys.modules) - before:
            del sys.modules[name]
