"""
Watches torch: every outermost call of a module, and of a user's function outside modules, becomes a trace, once for
each shape of its inputs. See torch_recorder for what one call records, torch_functions for how functions are found.
"""

import functools
import os
import sys
import threading
import warnings
from types import CodeType, FrameType
from typing import Any, Callable, Dict, List, Optional, Tuple

from torch.overrides import TorchFunctionMode

from .arguments import bound_arguments, named_tensors
from .cuda_emulation import emulate_cuda
from .session import Session
from .source_frames import first_user_frame, is_own_file, treat_as_library
from .torch_active import ActiveCall
from .torch_arguments import state_of
from .torch_call_recorder import CallRecorder, storage_of
from .torch_functions import Candidate, Candidates
from .torch_opaque import OpaqueCalls, opaque_kind
from .torch_parts import enter_part, is_part, leave_part, was_made_within
from .torch_repeat import prepare_repeat

# Where tensors were made outside any recorded call, for so many of them.
_MAX_CREATED = 20000


class ObservingMode(TorchFunctionMode):
    def __init__(self, observer: "TorchObserver") -> None:
        super().__init__()
        self._observer = observer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._observer.on_op(func, args, kwargs or {}, sys._getframe(1))


class TorchObserver(CallRecorder):
    def __init__(self, session: Session, torch: Any) -> None:
        super().__init__(session, torch)
        self._candidates = Candidates(torch, self._rule)
        self._modes: List[Any] = []
        self._disabled = False
        self._backward = getattr(torch._C, "_current_graph_task_id", lambda: -1)

    def install(self) -> None:
        torch = self._torch
        treat_as_library(torch.__path__[0])
        self._declarations.install(torch.nn)
        if self._session.emulate_cuda or not torch.cuda.is_available():
            mode = self._guarded(emulate_cuda, torch, self._session)
            if mode is not None:
                self._modes.append(mode)
        self._modes.append(ObservingMode(self))
        for mode in self._modes:
            mode.__enter__()
        self.observe_calls_of(torch.nn.Module)
        opaque = OpaqueCalls(torch, self)
        for step in (self._enter_threads, _place_warnings, self._comparisons.install, opaque.install):
            self._guarded(step)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._disable)

    # Operations

    def on_op(self, func: Any, args: Any, kwargs: Any, frame: FrameType) -> Any:
        state = self._state
        if state.paused or self._disabled:
            return func(*args, **kwargs)
        active = state.call
        if active is None:
            name = getattr(func, "__name__", "")
            if name == "__get__" or name == "__set__" or self._backward() != -1:
                return func(*args, **kwargs)
            active = self._guarded(self._begin_function, frame)
            if active is None:
                return self._outside(func, args, kwargs, frame)
        recorder = active.recorder
        if recorder is None:
            return func(*args, **kwargs)
        if active.kind == "function" and self._comparisons.compares(func):
            self._guarded(self._note_check, active, func, args, kwargs, frame)
        return recorder.call(func, args, kwargs, frame)

    def _note_check(self, active: ActiveCall, func: Any, args: Any, kwargs: Any, frame: FrameType) -> None:
        if self._comparisons.before(func, args, kwargs, frame):
            noted = self._comparisons.last_was_comparison
            active.is_check = active.is_check or noted

    def _outside(self, func: Any, args: Any, kwargs: Any, frame: FrameType) -> Any:
        origins = self._guarded(self._comparisons.before, func, args, kwargs, frame)
        result = func(*args, **kwargs)
        self._guarded(self._after_outside, func, result, origins, frame)
        return result

    def _after_outside(self, func: Any, result: Any, origins: Any, frame: FrameType) -> None:
        if origins:
            self._comparisons.after(func, result, origins)
        elif isinstance(result, self._torch.Tensor) and len(self._created) < _MAX_CREATED:
            with self._torch._C.DisableTorchFunction():
                storage = storage_of(result)
            place = first_user_frame(frame)
            if storage is not None and place is not None:
                self._created[storage] = place

    # Calls of modules

    def observe_calls_of(self, module_type: Any) -> None:
        original = module_type.__call__
        observer = self
        is_compiling = getattr(getattr(self._torch, "compiler", None), "is_compiling", lambda: False)

        @functools.wraps(original)
        def call(module: Any, *args: Any, **kwargs: Any) -> Any:
            # Dynamo reads this function too: to it the first condition is true, and it reads no further.
            if is_compiling() or observer.must_pass():
                return original(module, *args, **kwargs)
            return observer.on_module_call(module, original, args, kwargs, sys._getframe(1))

        module_type.__call__ = call

    def must_pass(self) -> bool:
        """Tracing runs modules to read them, and the backward pass to compute them once more."""
        if self._disabled or self._state.paused:
            return True
        return bool(self._torch.jit.is_tracing()) or self._backward() != -1

    def on_module_call(self, module: Any, original: Any, args: Any, kwargs: Any, frame: FrameType) -> Any:
        kind = opaque_kind(self._torch, module)

        def run() -> Any:
            return original(module, *args, **kwargs)

        if kind is not None:
            run = functools.partial(self._run_opaque, kind, module, run, args, kwargs, frame)
        state = self._state
        active = state.call
        part = kind is None and is_part(self._torch, module) and not was_made_within(active, module)
        if active is not None and active.kind == "function" and active.recorder is not None and not part:
            # A function that calls whole models is no implementation: they are.
            self._guarded(self._give_up, active)
            active = state.call
        if active is None:
            active = self._guarded(self._begin_method, frame, module)
        if active is None and part:
            active = self._guarded(self._begin_function, frame)
        if active is not None and active.kind == "function" and active.recorder is not None:
            return self._run_part(active, module, run, args, kwargs, frame)
        if active is not None:
            with active.inside(module, self._declarations.constructed(module)):
                return run()
        self._candidates.note_wrappers(frame)
        active = self._guarded(self._begin_module, module, args, kwargs)
        if active is None:
            return run()
        again = None
        if self._session.repeat_reference and active.recorder is not None:
            again = self._guarded(prepare_repeat, self._torch, module, args, kwargs)
        try:
            with active.inside(module, self._declarations.constructed(module)):
                result = run()
        except BaseException:
            self._guarded(self._finish, active, None, True)
            raise
        repeated = functools.partial(self._repeat, active, again) if again is not None else None
        self._guarded(self._finish, active, result, False, repeated)
        return result

    def _run_part(
        self, active: ActiveCall, module: Any, run: Callable[[], Any], args: Any, kwargs: Any, frame: FrameType
    ) -> Any:
        entered = self._guarded(
            enter_part, self._torch, self._session, self._declarations, active, module, args, kwargs, frame
        )
        try:
            result = run()
        except BaseException:
            if entered is not None and active.tree is not None:
                active.tree.raised(entered.node)
            raise
        if entered is not None:
            self._guarded(leave_part, active, entered, result)
        return result

    def _begin_module(self, module: Any, args: Any, kwargs: Any) -> Optional[ActiveCall]:
        torch = self._torch
        with torch._C.DisableTorchFunction():
            target = getattr(module, "_orig_mod", module)
            forward = getattr(target, "forward", None)
            arguments = bound_arguments(forward, args, kwargs)
            inputs = list(named_tensors(torch.Tensor, arguments))
            active = ActiveCall(target, "module", _class_name(target))
            return self._begin(active, target, (target.training,), arguments, inputs, state_of(target))

    def _begin_method(self, frame: FrameType, module: Any) -> Optional[ActiveCall]:
        found = self._candidates.find_method(frame, module)
        return None if found is None else self._begin_frame(found, frame)

    # Calls of functions

    def _begin_function(self, frame: FrameType) -> Optional[ActiveCall]:
        found = self._candidates.find(frame)
        return None if found is None else self._begin_frame(found, frame)

    def _begin_frame(self, found: Candidate, innermost: FrameType) -> Optional[ActiveCall]:
        with self._torch._C.DisableTorchFunction():
            kind = "function" if found.module is None else "module"
            active = ActiveCall(found.module, kind, found.label)
            parameters = found.parameters
            if found.module is not None:
                parameters = state_of(found.module)
            called = found.owner if found.owner is not None and hasattr(found.owner, "__weakref__") else found.code
            arguments = {
                name: value for name, value in found.frame.f_locals.items() if name in found.code.co_varnames
            }
            switches: Tuple[Any, ...] = (id(found.code),)
            if found.module is not None:
                switches = (*switches, found.module.training)
            active.frame = found.frame
            begun = self._begin(active, called, switches, arguments, found.inputs, parameters, innermost)
        if begun is not None and active.root is not None:
            active.instances.enter("")
        return begun

    def call_opaque_function(
        self, called: Any, label: str, args: Any, kwargs: Any, run: Callable[[], Any], frame: FrameType
    ) -> Any:
        """A compiled function: a trace of its own where it is called outside any recorded call."""
        if self._state.call is not None:
            return run()
        active = self._guarded(self._begin_function, frame)
        if active is not None:
            return run()
        active = self._guarded(self._begin_opaque_function, called, label, args, kwargs)
        if active is None:
            return run()
        try:
            result = run()
        except BaseException:
            self._guarded(self._finish, active, None, True)
            raise
        self._guarded(self._finish, active, result, False)
        return result

    def _begin_opaque_function(self, called: Any, label: str, args: Any, kwargs: Any) -> Optional[ActiveCall]:
        with self._torch._C.DisableTorchFunction():
            arguments = bound_arguments(called, args, kwargs)
            inputs, parameters = self._rule.split_arguments(arguments)
            if not inputs:
                return None
            return self._begin(ActiveCall(None, "function", label), called, (), arguments, inputs, parameters)

    # What is not looked into

    def _run_opaque(self, kind: str, module: Any, run: Any, args: Any, kwargs: Any, frame: FrameType) -> Any:
        target = getattr(module, "_orig_mod", module)

        def tensors() -> List[Any]:
            given = [tensor for _, tensor in named_tensors(self._torch.Tensor, {"args": args, "kwargs": kwargs})]
            return given + [tensor for _, tensor in state_of(target)]

        uncompiled = functools.partial(target, *args, **kwargs) if target is not module else run
        return self.run_opaque(kind, _class_name(target), tensors, run, uncompiled, frame)

    def run_opaque(
        self, kind: str, name: str, tensors: Callable[[], List[Any]], run: Any, uncompiled: Any, frame: FrameType
    ) -> Any:
        active = self._state.call
        recorder = active.recorder if active is not None else None
        attributes: Dict[str, Any] = {"name": name}
        hidden = functools.partial(self._hidden, run)
        if kind == "torch.compile" and self._session.emulated:
            # Compiled code would meet devices that are not there.
            attributes["uncompiled"] = "CUDA is emulated"
            hidden = functools.partial(self.paused, uncompiled)
        if recorder is None:
            return hidden()
        with self._torch._C.DisableTorchFunction():
            given = self._guarded(tensors) or []
        return recorder.opaque(kind, given, attributes, hidden, frame)

    def paused(self, run: Callable[[], Any]) -> Any:
        self._state.paused += 1
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return run()
        finally:
            sys.settrace(tracer)
            self._state.paused -= 1

    def _hidden(self, run: Callable[[], Any]) -> Any:
        """Compilers read the modes that they find, and compile again when others come: ours must not be there."""
        from torch.overrides import _len_torch_function_stack, _pop_mode, _push_mode  # type: ignore[attr-defined]

        stack = [_pop_mode() for _ in range(_len_torch_function_stack())][::-1]
        for mode in stack:
            if mode not in self._modes:
                _push_mode(mode)
        try:
            return self.paused(run)
        finally:
            for _ in range(_len_torch_function_stack()):
                _pop_mode()
            for mode in stack:
                _push_mode(mode)

    # The observer's own affairs

    def turned_out_no_implementation(self, code: CodeType, for_good: bool) -> None:
        self._candidates.failed(code, for_good)

    def _disable(self) -> None:
        """In a child process, whose traces nobody would read."""
        self._disabled = True

    def _enter_threads(self) -> None:
        """Modes belong to a thread: each new one gets them too."""
        bootstrap = getattr(threading.Thread, "_bootstrap_inner", None)
        if bootstrap is None:
            return
        modes = self._modes

        @functools.wraps(bootstrap)
        def observed(thread: Any) -> None:
            for mode in modes:
                mode.__enter__()
            bootstrap(thread)

        threading.Thread._bootstrap_inner = observed  # type: ignore[attr-defined]

def _class_name(module: Any) -> str:
    """A scripted module has the name of the class that it was made from."""
    return str(getattr(module, "original_name", None) or type(module).__name__)


def _place_warnings() -> None:
    """Warnings of torch name the Python line that called it: that must not be one of ours."""
    original = warnings.showwarning

    @functools.wraps(original)
    def showwarning(
        message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        if is_own_file(filename):
            frame: Optional[FrameType] = sys._getframe(1)
            while frame is not None and (
                is_own_file(frame.f_code.co_filename) or frame.f_code.co_filename == warnings.__file__
            ):
                frame = frame.f_back
            if frame is not None:
                filename, lineno, line = frame.f_code.co_filename, frame.f_lineno, None
        original(message, category, filename, lineno, file, line)

    warnings.showwarning = showwarning
