"""One run of one script: where traces go, what is listed of them, and what all observers share."""

import os
import platform
import re
import sys
import threading
import time
from typing import Any, Dict, List, Optional, Sequence, Union

from . import __version__
from .byte_budget import ByteBudget
from .engine_link import EngineLink
from .file_watch import FileWatch
from .process_watch import ProcessWatch
from .randomness_watch import RandomnessWatch
from .source_frames import SourceFrame
from .trace_builder import TraceBuilder, write_json

_PACKAGES = {
    "torch": "torch",
    "fbgemm_gpu": "fbgemm-gpu",
    "numpy": "numpy",
    "nvtripy": "nvtripy",
}
# The index is written at most so often, in seconds, and takes at most this part of the time.
_PAUSE = 0.25
_SHARE = 0.05
_MAX_COMPARISONS = 1000
_MAX_MESSAGE = 10_000

DEFAULT_BYTE_BUDGET = 4 * 1024**3


class Session:
    def __init__(
        self,
        folder: str,
        script: str,
        arguments: Sequence[str],
        *,
        emulate_cuda: bool = False,
        stand_ins: bool = False,
        repeat_reference: bool = False,
        max_traces: int = 64,
        byte_budget: int = DEFAULT_BYTE_BUDGET,
        engine: Optional[EngineLink] = None,
        as_module: bool = False,
    ) -> None:
        self.folder = os.path.abspath(folder)
        self.script = script
        self.arguments = list(arguments)
        self.cwd = os.getcwd()
        self.emulate_cuda = emulate_cuda
        self.stand_ins = stand_ins
        self.repeat_reference = repeat_reference
        self.max_traces = max_traces
        self.engine = engine
        # Null while the script runs.
        self.exit_code: Optional[int] = None
        # What was emulated so far, in words: "cuda on cpu".
        self.emulated: List[str] = []
        self.files = FileWatch(self.folder)
        self.randomness = RandomnessWatch()
        self.processes = ProcessWatch(self)
        self._budget = ByteBudget(byte_budget)
        self._script_file = None if as_module else os.path.abspath(script)
        self._traces: List[Dict[str, Any]] = []
        self._open: List[TraceBuilder] = []
        self._order = 0
        self._skipped: Dict[str, int] = {}
        self._names: Dict[str, int] = {}
        self._error: Optional[Dict[str, Any]] = None
        self._comparisons: List[Dict[str, Any]] = []
        self._problems: List[str] = []
        self._versions: Dict[str, str] = {}
        self._lock = threading.RLock()
        self._is_changed = False
        self._last_write = 0.0
        self._last_cost = 0.0
        # A forked child is not observed: it must neither write here nor talk to the engine.
        self._is_child = False
        self._is_full = False
        script_folder = os.path.dirname(self._script_file) if self._script_file is not None else self.cwd
        self._roots = sorted({os.path.realpath(self.cwd), os.path.realpath(script_folder)})
        os.makedirs(self.folder, exist_ok=True)

    def new_trace(self, framework: str, label: str) -> TraceBuilder:
        with self._lock:
            name = self._unique_name(framework, label)
            trace = TraceBuilder(
                self.folder, name, label, framework, self._roots, order=self._order, budget=self._budget
            )
            self._order += 1
            if self._is_child or self._is_full:
                trace.abandon()
            else:
                self._open.append(trace)
            return trace

    def finish_trace(self, trace: TraceBuilder, **details: Any) -> Dict[str, Any]:
        """
        Writes the trace and lists it at once: what was observed survives whatever happens to the script. `details` are
        fields of its entry in capture.json (engine/protocol/capture.ts); the entry is returned, and whoever changes it
        later calls `write_index`.
        """
        entry = self._entry(trace, details)
        with self._lock:
            if trace not in self._open:
                # Abandoned, or kept already while the process was about to end.
                trace.close()
                return entry
            self._open.remove(trace)
        try:
            trace.write()
        except OSError as error:
            trace.failure = error
        finally:
            trace.close()
        if trace.failure is not None:
            self._stop_recording(trace.failure)
            return entry
        reduced = trace.reduced()
        if reduced is not None:
            entry["reduced"] = reduced
        self._list(entry)
        return entry

    def add_written(self, trace: TraceBuilder, content: Dict[str, Any], **details: Any) -> Dict[str, Any]:
        """Lists a trace that was made elsewhere, such as a program that the script loads from a file."""
        entry = self._entry(trace, {"kind": "loaded", **details})
        with self._lock:
            if trace not in self._open:
                return entry
            self._open.remove(trace)
        trace.close()
        write_json(trace.path, content)
        self._list(entry)
        return entry

    def may_record(self, framework: str) -> bool:
        """A training loop must not fill the disk: beyond the limit calls are counted only."""
        if self._is_child or self._is_full:
            return False
        with self._lock:
            if self._recorded(framework) < self.max_traces:
                return True
            self._skipped[framework] = self._skipped.get(framework, 0) + 1
            self._is_changed = True
            return False

    def may_record_again(self, framework: str) -> bool:
        """Whether what is recorded already may be once more, on other values: half of the limit is for what is not."""
        if self._is_child or self._is_full:
            return False
        with self._lock:
            return self._recorded(framework) < self.max_traces // 2

    def _recorded(self, framework: str) -> int:
        return sum(trace["framework"] == framework for trace in self._traces)

    def note_emulation(self, what: str) -> None:
        if what not in self.emulated:
            self.emulated.append(what)

    def note_comparison(
        self,
        first: Union[str, Dict[str, Any]],
        second: Union[str, Dict[str, Any]],
        op: str,
        frame: Optional[SourceFrame] = None,
    ) -> None:
        """An operation brought results of two recorded calls together, given by their entries or trace files."""
        files = [trace if isinstance(trace, str) else trace["file"] for trace in (first, second)]
        comparison: Dict[str, Any] = {"traces": files, "op": op}
        if frame is not None:
            comparison["frame"] = frame_entry(frame)
        with self._lock:
            if comparison in self._comparisons or len(self._comparisons) >= _MAX_COMPARISONS:
                return
            self._comparisons.append(comparison)
        self.write_index()

    def note_problem(self, problem: str) -> None:
        """Why something was not observed. The script itself never learns of it."""
        with self._lock:
            if problem not in self._problems:
                self._problems.append(problem)
        self.write_index()

    def note_error(self, error: BaseException, frames: Sequence[Dict[str, Any]]) -> None:
        """The exception that ended the script."""
        try:
            message = str(error)
        except Exception:
            message = ""
        self._error = {
            "type": type(error).__qualname__,
            "message": message.encode("utf-8", "replace").decode()[:_MAX_MESSAGE],
            "frames": list(frames),
        }

    def versions(self) -> Dict[str, str]:
        versions = self._versions
        if not versions:
            versions.update({"python": platform.python_version(), "hstu_capture": __version__})
        for module, distribution in _PACKAGES.items():
            loaded = sys.modules.get(module)
            if loaded is None or module in versions:
                continue
            version = getattr(loaded, "__version__", None) or _distribution_version(distribution)
            if version:
                versions[module] = str(version)
        return dict(versions)

    def write_index(self, now: bool = False) -> None:
        """Cheap enough for every call of a training loop: unless it must be `now`, it may wait for a later one."""
        if self._is_child:
            return
        self._is_changed = True
        pause = max(_PAUSE, self._last_cost / _SHARE)
        if not now and time.monotonic() - self._last_write < pause:
            return
        with self._lock:
            started = time.monotonic()
            try:
                write_json(os.path.join(self.folder, "capture.json"), self._index())
            except OSError:
                # The disk is full or the folder gone: no reason to disturb the script.
                return
            self._is_changed = False
            self._last_write = time.monotonic()
            self._last_cost = self._last_write - started

    def before_end(self) -> None:
        """The process may be gone after this: calls under way are kept as they are, and the index is up to date."""
        if self._is_child:
            return
        for trace in list(self._open):
            try:
                trace.ran_on = trace.ran_on or self._unknown_run(trace.framework)
                self.finish_trace(trace, incomplete=True)
            except Exception:
                # Another thread is at work in it. What is whole was written before.
                continue
        self.write_index(now=True)

    def end(self, exit_code: int) -> None:
        """The last word, after the script's own functions for exit."""
        if self._is_child:
            return
        self.exit_code = exit_code
        self.before_end()

    def become_child(self) -> None:
        """In a process that the script forked: from here on nothing is written, and nothing is asked of the engine."""
        self._is_child = True
        self._lock = threading.RLock()
        for trace in self._open:
            trace.abandon()
        self._open.clear()
        if self.engine is not None:
            self.engine.abandon()

    def _index(self) -> Dict[str, Any]:
        index: Dict[str, Any] = {
            "formatVersion": 1,
            "script": self.script,
            "args": self.arguments,
            "cwd": self.cwd,
            "exitCode": self.exit_code,
        }
        if self._error is not None:
            index["error"] = self._error
        index["traces"] = self._traces
        if self._skipped:
            index["skipped"] = self._skipped
        index["versions"] = self.versions()
        index["emulated"] = self.emulated
        index["comparisons"] = self._comparisons
        index.update(self.files.report(self._script_file))
        index["randomness"] = self.randomness.report()
        index["childProcesses"] = self.processes.count
        if self._problems:
            index["problems"] = self._problems
        return index

    def _entry(self, trace: TraceBuilder, details: Dict[str, Any]) -> Dict[str, Any]:
        return {
            "file": os.path.basename(trace.path),
            "framework": trace.framework,
            "label": trace.label,
            "kind": details.get("program") or ("module" if trace.framework == "torch" else "compile"),
            "order": trace.order,
            "calls": 1,
            **details,
        }

    def _list(self, entry: Dict[str, Any]) -> None:
        with self._lock:
            self._traces.append(entry)
        self.write_index(now=True)

    def _stop_recording(self, error: OSError) -> None:
        self._is_full = True
        with self._lock:
            for trace in self._open:
                trace.close()
            self._open.clear()
        self.note_problem(f"Nothing more was recorded, because the traces could not be written: {error}")

    def _unknown_run(self, framework: str) -> Dict[str, Any]:
        return {
            "executor": framework,
            "provider": "cpu",
            "device": "cpu",
            "precision": "float32",
            "versions": self.versions(),
            "standIns": [],
            "emulated": list(self.emulated),
        }

    def _unique_name(self, framework: str, label: str) -> str:
        base = f"{framework}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', label).strip('-.')[:80] or 'model'}"
        count = self._names[base] = self._names.get(base, 0) + 1
        return base if count == 1 else f"{base}-{count}"


def frame_entry(frame: SourceFrame) -> Dict[str, Any]:
    """As `CapturedFrame` in engine/protocol/capture.ts."""
    return {"file": os.path.abspath(frame.file), "line": frame.line, "function": frame.function}


def _distribution_version(name: str) -> Optional[str]:
    # Costly to import, and needed for few packages.
    import importlib.metadata

    for candidate in (name, f"{name}-cpu"):
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
