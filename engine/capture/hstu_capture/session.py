"""One run of one script: where traces go, what is listed of them, and what all observers share."""

import importlib.metadata
import os
import platform
import re
import sys
from typing import Any, Dict, List, Optional, Sequence

from . import __version__
from .engine_link import EngineLink
from .trace_builder import TraceBuilder, write_json

_PACKAGES = {
    "torch": "torch",
    "fbgemm_gpu": "fbgemm-gpu",
    "numpy": "numpy",
    "nvtripy": "nvtripy",
}


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
        engine: Optional[EngineLink] = None,
    ) -> None:
        self.folder = os.path.abspath(folder)
        self.script = script
        self.arguments = list(arguments)
        self.emulate_cuda = emulate_cuda
        self.stand_ins = stand_ins
        self.repeat_reference = repeat_reference
        self.max_traces = max_traces
        self.engine = engine
        self.exit_code: Optional[int] = None
        # What was emulated so far, in words: "cuda on cpu".
        self.emulated: List[str] = []
        self._traces: List[Dict[str, Any]] = []
        self._skipped: Dict[str, int] = {}
        self._names: Dict[str, int] = {}
        self._roots = sorted({os.path.realpath(os.getcwd()), os.path.realpath(self._script_folder())})
        os.makedirs(self.folder, exist_ok=True)

    def new_trace(self, framework: str, label: str) -> TraceBuilder:
        return TraceBuilder(self.folder, self._unique_name(framework, label), label, framework, self._roots)

    def finish_trace(self, trace: TraceBuilder, **details: Any) -> Dict[str, Any]:
        """Writes the trace and lists it at once: what was observed survives whatever happens to the script."""
        try:
            trace.write()
        finally:
            trace.close()
        entry = {
            "file": os.path.basename(trace.path),
            "framework": trace.framework,
            "label": trace.label,
            **details,
        }
        self._traces.append(entry)
        self.write_index()
        return entry

    def add_written(self, trace: TraceBuilder, content: Dict[str, Any]) -> Dict[str, Any]:
        """Lists a trace that was made elsewhere, such as a program that the script loads from a file."""
        write_json(trace.path, content)
        entry = {"file": os.path.basename(trace.path), "framework": trace.framework, "label": trace.label}
        self._traces.append(entry)
        self.write_index()
        return entry

    def may_record(self, framework: str) -> bool:
        """A training loop must not fill the disk: beyond the limit calls are counted only."""
        recorded = sum(trace["framework"] == framework for trace in self._traces)
        if recorded < self.max_traces:
            return True
        self._skipped[framework] = self._skipped.get(framework, 0) + 1
        return False

    def note_emulation(self, what: str) -> None:
        if what not in self.emulated:
            self.emulated.append(what)

    def versions(self) -> Dict[str, str]:
        versions = {"python": platform.python_version(), "hstu_capture": __version__}
        for module, distribution in _PACKAGES.items():
            loaded = sys.modules.get(module)
            if loaded is None:
                continue
            version = getattr(loaded, "__version__", None) or _distribution_version(distribution)
            if version:
                versions[module] = str(version)
        return versions

    def write_index(self) -> None:
        index: Dict[str, Any] = {
            "formatVersion": 1,
            "script": self.script,
            "args": self.arguments,
            "exitCode": self.exit_code,
            "traces": self._traces,
            "versions": self.versions(),
        }
        if self._skipped:
            index["skipped"] = self._skipped
        write_json(os.path.join(self.folder, "capture.json"), index)

    def _unique_name(self, framework: str, label: str) -> str:
        base = f"{framework}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', label).strip('-.') or 'model'}"
        count = self._names[base] = self._names.get(base, 0) + 1
        return base if count == 1 else f"{base}-{count}"

    def _script_folder(self) -> str:
        return os.path.dirname(os.path.abspath(self.script)) if self.script.endswith(".py") else os.getcwd()


def _distribution_version(name: str) -> Optional[str]:
    for candidate in (name, f"{name}-cpu"):
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
