"""
Gives tensors the names that the user's source gives them: "INSTANCE/FUNCTION.VARIABLE".

While a model is called, every line and return event in the user's files looks for local variables that hold another
tensor than before. "#k" marks the k-th reassignment of a variable within one call, "@n" the n-th call of a function
within its module instance, both from 1. Elements of a tuple, list or dict add ".INDEX" or ".KEY"; what a function
returns is called "return".
"""

import contextlib
import inspect
import sys
from types import CodeType, FrameType
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from .source_frames import SourceFrame, is_user_file

# Comprehensions are functions in some Python versions and part of their function in others.
_UNNAMED_FUNCTIONS = {"<module>", "<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}
_RESUMABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_MAX_ELEMENTS = 64

Resolve = Callable[[Any], Optional[Tuple[Any, Any]]]
Bind = Callable[[Any, str, bool], None]


class Instances:
    """The module instances whose calls are under way, innermost last."""

    def __init__(self) -> None:
        self._stack: List[Tuple[str, int]] = []
        self._calls: Dict[str, int] = {}
        self._constructed: List[Optional[SourceFrame]] = []

    @property
    def constructed(self) -> Optional[SourceFrame]:
        """Where the user made the module of a library whose own code runs; None in the user's code."""
        return self._constructed[-1] if self._constructed else None

    @contextlib.contextmanager
    def made_at(self, place: Optional[SourceFrame]) -> Iterator[None]:
        self._constructed.append(place)
        try:
            yield
        finally:
            self._constructed.pop()

    @property
    def path(self) -> str:
        return self._stack[-1][0] if self._stack else ""

    @property
    def call(self) -> int:
        """n-th call of the innermost instance, from 0."""
        return self._stack[-1][1] if self._stack else 0

    @property
    def depth(self) -> int:
        return len(self._stack)

    def enter(self, path: str) -> None:
        call = self._calls.get(path, 0)
        self._calls[path] = call + 1
        self._stack.append((path, call))

    def leave(self) -> None:
        self._stack.pop()

    def child_path(self, kind: str) -> str:
        """The path of a module that no attribute of the model holds, such as one made anew in each call."""
        return f"{self.path}.{kind}" if self.path else kind


class NameTracker:
    """
    `resolve` gives for a tensor its identity, which changes when the variable holds another tensor, and a handle;
    None for a tensor that is not observed. `bind` is called with the handle, a name and whether it is an argument.
    """

    def __init__(self, tensor_type: type, resolve: Resolve, bind: Bind, instances: Instances) -> None:
        self._tensor_type = tensor_type
        self._resolve = resolve
        self._bind = bind
        self._instances = instances
        self._calls: Dict[Tuple[str, str], int] = {}
        self._suspended: Dict[int, "_Scope"] = {}
        self._previous: Any = None
        self._libraries: Set[str] = set()
        self._stopped = False
        # Told of each user function that is entered; gives who is told what it returns.
        self.entered: Optional[Callable[[FrameType], Optional[Callable[[Any], None]]]] = None

    @property
    def stopped(self) -> bool:
        return self._stopped

    def start(self) -> None:
        self._stopped = False
        self._previous = sys.gettrace()
        sys.settrace(self._on_call)

    def stop(self) -> None:
        self._stopped = True
        sys.settrace(self._previous)
        self._suspended.clear()

    def enter_all(self, innermost: Optional[FrameType], outermost: FrameType) -> Dict[int, Callable[..., Any]]:
        """Begins to watch calls that are under way already; gives what handles the events of each frame."""
        frames: List[FrameType] = []
        frame = innermost
        while frame is not None:
            if is_user_file(frame.f_code.co_filename) and frame.f_code.co_name not in _UNNAMED_FUNCTIONS:
                frames.append(frame)
            frame = None if frame is outermost else frame.f_back
        handlers: Dict[int, Callable[..., Any]] = {}
        for frame in reversed(frames):
            scope = _Scope(self, frame, self._prefix(frame.f_code.co_name))
            scope.look(frame, frame.f_code)
            if self.entered is not None and frame is not outermost:
                scope.left = self.entered(frame)
            frame.f_trace = handlers[id(frame)] = scope.on_event
        return handlers

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Optional[Callable[..., Any]]:
        code = frame.f_code
        # Python calls this for every function of every library: what comes first here decides the cost of it all.
        if code.co_filename in self._libraries:
            return None
        if not is_user_file(code.co_filename):
            self._libraries.add(code.co_filename)
            return None
        if event != "call" or code.co_name in _UNNAMED_FUNCTIONS:
            return None
        resumable = bool(code.co_flags & _RESUMABLE)
        scope = self._suspended.get(id(frame)) if resumable else None
        if scope is None:
            scope = _Scope(self, frame, self._prefix(code.co_name))
            if resumable:
                self._suspended[id(frame)] = scope
            try:
                scope.look(frame, code)
                if self.entered is not None and not resumable:
                    scope.left = self.entered(frame)
            except Exception:  # noqa: BLE001: an error in here would be raised in the user's function
                self.stop()
                return None
        return scope.on_event

    def _prefix(self, function: str) -> str:
        instance = self._instances.path
        call = self._calls.get((instance, function), 0)
        self._calls[(instance, function)] = call + 1
        return f"{instance}/{function}" + (f"@{call}" if call else "")

    def name_tensors(self, slots: Dict[str, "_Slot"], name: str, value: Any, argument: bool) -> None:
        for element, tensor in self._tensors_of(name, value):
            resolved = self._resolve(tensor)
            if resolved is None:
                continue
            identity, handle = resolved
            slot = slots.get(element)
            if slot is None:
                slot = slots[element] = _Slot(element)
            elif slot.identity is identity or slot.identity == identity:
                if slot.handle is handle or slot.handle == handle:
                    continue
            else:
                slot.count += 1
            slot.identity = identity
            slot.handle = handle
            self._bind(handle, slot.current_name, argument)

    def _tensors_of(self, name: str, value: Any) -> Iterator[Tuple[str, Any]]:
        if isinstance(value, self._tensor_type):
            yield name, value
        elif isinstance(value, (tuple, list)):
            for index, item in enumerate(value[:_MAX_ELEMENTS]):
                if isinstance(item, self._tensor_type):
                    yield f"{name}.{index}", item
        elif type(value) is dict and len(value) <= _MAX_ELEMENTS:
            for key, item in value.items():
                if isinstance(item, self._tensor_type):
                    yield f"{name}.{key}", item


class _Slot:
    __slots__ = ("name", "count", "identity", "handle")

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.identity: Any = None
        self.handle: Any = None

    @property
    def current_name(self) -> str:
        return f"{self.name}#{self.count}" if self.count else self.name


class _Scope:
    """One call of one of the user's functions."""

    def __init__(self, tracker: NameTracker, frame: FrameType, prefix: str) -> None:
        code = frame.f_code
        # A generator's scope outlives its suspensions; holding the frame keeps its identity from being reused.
        self._frame = frame if code.co_flags & _RESUMABLE else None
        self._tracker = tracker
        self._prefix = prefix
        self._slots: Dict[str, _Slot] = {}
        self._enclosing = frozenset(code.co_freevars)
        # Told what the function returns, where somebody wants to know.
        self.left: Optional[Callable[[Any], None]] = None
        self._arguments = _argument_names(code)

    def on_event(self, frame: FrameType, event: str, value: Any) -> Optional[Callable[..., Any]]:
        tracker = self._tracker
        if tracker.stopped:
            # The frame goes on after the observed call ended.
            frame.f_trace = None
            return None
        try:
            if event == "line":
                self.look(frame, None)
            elif event == "return":
                self.look(frame, None)
                tracker.name_tensors(self._slots, f"{self._prefix}.return", value, False)
                if self.left is not None:
                    self.left(value)
        except Exception:  # noqa: BLE001: an error in here would be raised in the user's function
            tracker.stop()
            return None
        return self.on_event

    def look(self, frame: FrameType, entered: Optional[CodeType]) -> None:
        tracker = self._tracker
        for name, value in list(frame.f_locals.items()):
            if name in self._enclosing:
                continue
            argument = entered is not None and name in self._arguments
            tracker.name_tensors(self._slots, f"{self._prefix}.{name}", value, argument)


def _argument_names(code: CodeType) -> frozenset:
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return frozenset(code.co_varnames[:count])
