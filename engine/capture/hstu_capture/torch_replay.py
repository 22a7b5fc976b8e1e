"""
Evaluates the ops of recorded torch traces again, on other values.

`python -m hstu_capture.torch_replay --engine-fd R,W` answers requests, one JSON object a line, over two pipes. It
imports torch once and ends when the pipe closes.

First it says {"ready": true, "torch": version} or {"ready": false, "code", "error"}. A request:
  {id, trace, outputs: [tensor…], replace?, correct?, parameters?: {tensors: [tensor…], file}, operands?: {tensors: [0, 1…], slots: [[reader, position]…], file}, double, trial?, to, verify?}
where each `file` is a safetensors file keyed by tensor ids, as is the file `to` that the answer names:
  {id, file, unavailable: {tensor: reason}, mismatches?, recorded?} or {id, code, error}.
"""

import argparse
import json
import os
import queue
import shutil
import sys
import threading
import traceback
from typing import Any, Dict, Optional, Sequence, TextIO, Tuple

from .evaluation_request import BadRequest, Request
from .recorded_trace import TraceCache, UnreadableTrace, read_values, write_values
from .torch_evaluation import Evaluation

_CACHE_BYTES = 512 * 1024 * 1024


class Replayer:
    """Answers requests; keeps the last traces in memory."""

    def __init__(self, torch: Any, threads: Optional[int] = None, cache_bytes: int = _CACHE_BYTES) -> None:
        self._torch = torch
        self._threads = threads
        self._own_threads = torch.get_num_threads()
        self._traces = TraceCache(torch, cache_bytes)

    def answer(self, message: Dict[str, Any]) -> Dict[str, Any]:
        number = message.get("id")
        try:
            return {"id": number, **self._evaluate(message)}
        except UnreadableTrace as error:
            return {"id": number, "code": "model-refused", "error": str(error)}
        except (BadRequest, KeyError, TypeError, ValueError) as error:
            return {"id": number, "code": "bad-feeds", "error": f"{type(error).__name__}: {error}"}
        except Exception as error:
            if is_out_of_memory(error):
                return {"id": number, "code": "out-of-memory", "error": f"torch ran out of memory: {error}"}
            traceback.print_exc()
            return {"id": number, "code": "runner-crashed", "error": f"{type(error).__name__}: {error}"}
        finally:
            self._traces.trim()

    def close(self) -> None:
        self._traces.close()

    def _evaluate(self, message: Dict[str, Any]) -> Dict[str, Any]:
        torch = self._torch
        trace = self._traces.get(message["trace"])
        if trace.framework != "torch":
            raise UnreadableTrace(f"{trace.path} is a trace of {trace.framework}, not of torch")
        # Threads cut sums into parts: with another number of them the last bits differ.
        torch.set_num_threads(self._threads or trace.ran_on.get("threads") or self._own_threads)
        request = Request(
            outputs=[int(tensor) for tensor in message["outputs"]],
            replace=self._given(message.get("replace")),
            correct=self._given(message.get("correct")),
            parameters=self._given(message.get("parameters")),
            operands=self._operands(message.get("operands")),
            double=bool(message.get("double", False)),
            trial=bool(message.get("trial", False)),
            verify=bool(message.get("verify", False)),
        )
        evaluation = Evaluation(torch, trace, request)
        try:
            evaluation.run()
        finally:
            if evaluation.wrote_into_recorded:
                self._traces.drop(trace.path)
        write_values(message["to"], evaluation.values)
        answer: Dict[str, Any] = {"file": message["to"], "unavailable": evaluation.unavailable}
        if request.verify:
            answer["mismatches"] = evaluation.mismatches
            answer["recorded"] = evaluation.recorded
        return answer

    def _given(self, entry: Optional[Dict[str, Any]]) -> Dict[int, Any]:
        if not entry or not entry["tensors"]:
            return {}
        values = read_values(self._torch, entry["file"])
        missing = [tensor for tensor in entry["tensors"] if int(tensor) not in values]
        if missing:
            raise BadRequest(f"{entry['file']} has no value for {missing}")
        return {int(tensor): values[int(tensor)] for tensor in entry["tensors"]}

    def _operands(self, entry: Optional[Dict[str, Any]]) -> Dict[Tuple[int, int], Any]:
        values = self._given(entry)
        return {(entry["slots"][at][0], entry["slots"][at][1]): value for at, value in values.items()} if entry else {}


def is_out_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError) or "not enough memory" in words or "out of memory" in words


def serve(requests: TextIO, answers: TextIO, threads: Optional[int], folder: Optional[str]) -> int:
    lines: "queue.Queue[str]" = queue.Queue()

    def read() -> None:
        for line in requests:
            lines.put(line)
        # The engine is gone: nobody waits for what is under way, nor cleans up.
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()

    def say(message: Dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        import torch
    except Exception as error:
        say({"ready": False, "code": "provider-unavailable", "error": f"{type(error).__name__}: {error}"})
        return 2
    replayer = Replayer(torch, threads)
    say({"ready": True, "torch": str(torch.__version__)})
    while True:
        say(replayer.answer(json.loads(lines.get())))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m hstu_capture.torch_replay", description=__doc__.splitlines()[1])
    parser.add_argument(
        "--engine-fd", required=True, metavar="R,W", help="descriptors of the pipes from and to the engine"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch (default: as the trace says)")
    parser.add_argument("--folder", metavar="DIR", help="folder of its own, removed when the pipe closes")
    options = parser.parse_args(arguments)
    read_descriptor, write_descriptor = (int(part) for part in options.engine_fd.split(","))
    for descriptor in (read_descriptor, write_descriptor):
        os.set_inheritable(descriptor, False)
    requests = os.fdopen(read_descriptor, "r", encoding="utf-8")
    answers = os.fdopen(write_descriptor, "w", encoding="utf-8")
    try:
        return serve(requests, answers, options.threads, options.folder)
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
