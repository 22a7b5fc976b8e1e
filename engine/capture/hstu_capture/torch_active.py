"""A call that is being observed: what it is a call of, and which module instances it is in."""

import contextlib
import gc
import sys
import threading
from types import FrameType
from typing import Any, Dict, Iterator, List, Optional

from .source_frames import SourceFrame, is_user_file
from .tensor_names import Instances, NameTracker
from .torch_arguments import Named
from .torch_calls import Call, Recorded
from .torch_functions import CallTree
from .torch_recorder import TorchRecorder


class ActiveCall:
    def __init__(self, root: Any, kind: str, label: str) -> None:
        # The module whose call this is, None for a function.
        self.root = root
        self.kind = kind
        self.label = label
        self.instances = Instances()
        # None where the call is only counted.
        self.recorder: Optional[TorchRecorder] = None
        self.recorded: Optional[Recorded] = None
        # What it got, where its results are to be compared with those of the recorded call.
        self.call: Optional[Call] = None
        self.parameters: Named = []
        self.inputs: Named = []
        self.names: Optional[NameTracker] = None
        self.tree: Optional[CallTree] = None
        # Of a function: the call ends when this frame does.
        self.frame: Optional[FrameType] = None
        self.previous_tracer: Any = None
        self.object = 0
        self.device = "cpu"
        self.is_check = False
        # Where what comes in from outside was made, by its number in the trace.
        self.declared: Dict[int, SourceFrame] = {}
        self._paths: Dict[int, str] = {}
        if root is not None:
            for name, module in root.named_modules():
                self._paths.setdefault(id(module), name)

    @contextlib.contextmanager
    def inside(self, module: Any, constructed: Optional[SourceFrame]) -> Iterator[None]:
        path = self._paths.get(id(module))
        if path is None:
            # The module is held by no attribute of the model: the user's own are told apart by their class.
            path = self.instances.child_path(type(module).__name__) if is_users(module) else self.instances.path
        already = self.instances.depth > 0 and module is self.root
        if not already:
            self.instances.enter(path)
        try:
            with self.instances.made_at(constructed):
                yield
        finally:
            if not already:
                self.instances.leave()


def is_users(module: Any) -> bool:
    return is_user_file(getattr(sys.modules.get(type(module).__module__), "__file__", None) or "<")


class ThreadState(threading.local):
    """What is observed differs from thread to thread."""

    def __init__(self) -> None:
        self.call: Optional[ActiveCall] = None
        # Within what is not looked into, and within the observer itself.
        self.paused = 0
        self.modes: List[Any] = []


class OldObjects:
    """
    While a call is recorded, Python's search for garbage leaves out what was there before: what is recorded makes it
    search often, and each time through everything that torch consists of.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = 0
        self._is_ours = False

    def hold(self) -> None:
        with self._lock:
            self._held += 1
            # A script that froze objects itself would find them thawed.
            if self._held == 1 and gc.get_freeze_count() == 0:
                gc.freeze()
                self._is_ours = True

    def release(self) -> None:
        with self._lock:
            self._held -= 1
            if self._held == 0 and self._is_ours:
                gc.unfreeze()
                self._is_ours = False
