"""The agent's way to ask the engine for the execution of a program: JSON lines over two pipes."""

import json
import os
from typing import Any, Dict


class EngineFailure(Exception):
    """The engine is absent, has gone, or says that it cannot run the program."""


class EngineLink:
    def __init__(self, read_descriptor: int, write_descriptor: int) -> None:
        # Processes that the user's script starts must not hold the pipes open.
        os.set_inheritable(read_descriptor, False)
        os.set_inheritable(write_descriptor, False)
        self._answers = os.fdopen(read_descriptor, "r", encoding="utf-8")
        self._requests = os.fdopen(write_descriptor, "w", encoding="utf-8")
        self._last_id = 0

    def execute(self, trace: str, inputs: str) -> str:
        """
        Runs the program of a trace file on a safetensors file of inputs, named as the trace's input ports.
        Returns the path of a safetensors file with the outputs, named as its output ports.
        """
        self._last_id += 1
        answer = self._ask({"id": self._last_id, "trace": trace, "inputs": inputs})
        if answer.get("error"):
            raise EngineFailure(str(answer["error"]))
        if answer.get("id") != self._last_id or not isinstance(answer.get("outputs"), str):
            raise EngineFailure(f"the engine gave an answer that does not fit the request: {answer}")
        return answer["outputs"]

    def _ask(self, request: Dict[str, Any]) -> Dict[str, Any]:
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        except (OSError, ValueError) as error:
            raise EngineFailure(f"the engine cannot be reached: {error}") from error
        if not line:
            raise EngineFailure("the engine closed the connection")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise EngineFailure(f"the engine gave an answer that is no JSON: {line[:200]!r}") from error
        if not isinstance(answer, dict):
            raise EngineFailure(f"the engine gave an answer that does not fit the request: {answer}")
        return answer
