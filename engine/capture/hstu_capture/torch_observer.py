"""
Watches torch: every outermost call of a module, and of a user's function outside modules, becomes a trace, once for
each shape of its inputs. See torch_recorder for what one call records, torch_functions for how functions are found.
"""

import contextlib
import functools
import os
import sys
import threading
import warnings
from types import FrameType
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from torch.overrides import TorchFunctionMode

from . import torch_operations
from .arguments import bound_arguments, named_tensors
from .cuda_emulation import emulate_cuda
from .session import Session
from .source_frames import SourceFrame, first_user_frame, is_own_file, treat_as_library
from .tensor_names import NameTracker
from .torch_active import ActiveCall, OldObjects, ThreadState
from .torch_arguments import ArgumentRule, Named, Outside
from .torch_calls import MAX_PARAMETER_SETS, Call, CallLog, Recorded, outputs_of, plain_values, shapes_of
from .torch_comparisons import Comparisons
from .torch_declarations import Declarations
from .torch_functions import Candidate, Candidates, CallTree, cut_out, identities, qualifies
from .torch_kinds import add_kinds
from .torch_opaque import OpaqueCalls, opaque_kind
from .torch_recorder import TorchRecorder
from .torch_repeat import prepare_repeat, repeat

# Where tensors were made outside any recorded call, for so many of them.
_MAX_CREATED = 20000


class ObservingMode(TorchFunctionMode):
    def __init__(self, observer: "TorchObserver") -> None:
        super().__init__()
        self._observer = observer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._observer.on_op(func, args, kwargs or {}, sys._getframe(1))


class TorchObserver:
    def __init__(self, session: Session, torch: Any) -> None:
        self._session = session
        self._torch = torch
        self._state = ThreadState()
        self._lock = threading.RLock()
        self._declarations = Declarations()
        self._log = CallLog()
        add_kinds(torch, torch_operations._kinds)
        self._comparisons = Comparisons(torch, getattr(session, "note_comparison", None))
        self._rule = ArgumentRule(torch, lambda tensor: bool(self._comparisons.origins_of(tensor)))
        self._candidates = Candidates(torch, self._rule)
        self._created: Dict[int, SourceFrame] = {}
        self._modes: List[Any] = []
        self._collector = OldObjects()
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
        for step in (self._enter_threads, _place_warnings, self._comparisons.install, OpaqueCalls(torch, self).install):
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
                storage = _storage(result)
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
        if active is not None and active.kind == "function" and active.recorder is not None:
            # A function that calls modules is no implementation: they are.
            self._guarded(self._give_up, active)
            active = state.call
        if active is None:
            active = self._guarded(self._begin_method, frame, module)
        if active is not None:
            with active.inside(module):
                return run()
        self._candidates.note_wrappers(frame)
        active = self._guarded(self._begin_module, module, args, kwargs)
        if active is None:
            return run()
        again = None
        if self._session.repeat_reference and active.recorder is not None:
            again = self._guarded(prepare_repeat, self._torch, module, args, kwargs)
        try:
            with active.inside(module):
                result = run()
        except BaseException:
            self._guarded(self._finish, active, None, True)
            raise
        repeated = functools.partial(self._repeat, active, again) if again is not None else None
        self._guarded(self._finish, active, result, False, repeated)
        return result

    def _begin_module(self, module: Any, args: Any, kwargs: Any) -> Optional[ActiveCall]:
        torch = self._torch
        with torch._C.DisableTorchFunction():
            target = getattr(module, "_orig_mod", module)
            forward = getattr(target, "forward", None)
            arguments = bound_arguments(forward, args, kwargs)
            inputs = list(named_tensors(torch.Tensor, arguments))
            active = ActiveCall(target, "module", _class_name(target))
            return self._begin(active, target, (target.training,), arguments, inputs, _state_of(target))

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
                parameters = _state_of(found.module)
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

    # Any call

    def _begin(
        self,
        active: ActiveCall,
        called: Any,
        switches: Tuple[Any, ...],
        arguments: Dict[str, Any],
        inputs: Named,
        parameters: Named,
        innermost: Optional[FrameType] = None,
    ) -> Optional[ActiveCall]:
        torch = self._torch
        active.inputs, active.parameters = inputs, parameters
        values = plain_values(arguments)
        with self._lock:
            calls = self._log.of(called)
            shapes = (switches, shapes_of(torch, arguments, inputs))
            recorded, key = self._find(calls, shapes, active)
            if recorded is not None:
                active.recorded = recorded
                if recorded.count():
                    active.call = Call(torch, inputs, parameters, values)
            elif self._session.may_record("torch"):
                call = Call(torch, inputs, parameters, values)
                active.recorded = calls[key] = Recorded(torch, self._session, call, parameters)
                active.object = self._log.number_of(called, key[0])
                self._start_recording(active)
        self._state.call = active
        try:
            self._watch(active, innermost)
        except Exception:
            # Without the event of its end the call would be under way for ever.
            self._stop(active)
            active.frame = None
            if active.recorder is not None:
                self._discard(active.recorder.trace)
            raise
        return active

    def _find(self, calls: Dict[Any, Recorded], shapes: Any, active: ActiveCall) -> Tuple[Optional[Recorded], Any]:
        if active.root is not None:
            return calls.get((None, shapes)), (None, shapes)
        given = tuple(id(tensor) for _, tensor in active.parameters)
        key = (given, shapes)
        same = [known for known in calls if known[1] == shapes]
        if key not in calls and len(same) >= MAX_PARAMETER_SETS:
            key = same[-1]
        return calls.get(key), key

    def _start_recording(self, active: ActiveCall) -> None:
        torch = self._torch
        trace = self._session.new_trace("torch", active.label)
        outside = Outside(self._rule)
        last = active.frame

        def arrived(tensor: Any, number: int, frame: FrameType) -> None:
            name = outside.name_of(tensor, frame, last)
            if name is not None and all(name != parameter["name"] for parameter in trace.parameters):
                trace.add_parameter(name, number, self._created.get(_storage(tensor) or 0))

        recorder = active.recorder = TorchRecorder(torch, trace, active.instances, arrived)
        if active.root is not None:
            self._add_parameters(active.root, recorder)
        else:
            for name, tensor in active.parameters:
                trace.add_parameter(name, recorder.tensor_of(tensor), self._created.get(_storage(tensor) or 0))
        for name, tensor in active.inputs:
            trace.inputs.append({"name": name, "tensor": recorder.tensor_of(tensor)})
        active.device = next((str(tensor.device) for _, tensor in active.inputs), "cpu")

    def _watch(self, active: ActiveCall, innermost: Optional[FrameType]) -> None:
        """Names for what is recorded, and for a function the event of its return."""
        recorder, outer = active.recorder, active.frame
        scopes: Dict[int, Callable[..., Any]] = {}
        if recorder is not None:
            self._collector.hold()
            names = NameTracker(self._torch.Tensor, recorder.resolve, recorder.bind, active.instances)
            active.names = names
            names.start()
            if active.kind == "function" and outer is not None:
                active.tree = CallTree(self._torch, self._rule, recorder, names)
            if outer is not None:
                scopes = names.enter_all(innermost, outer)
        elif outer is not None:
            active.previous_tracer = sys.gettrace()
            sys.settrace(_ignore_calls)
            outer.f_trace_lines = False
        if outer is not None:
            outer.f_trace = self._returning(active, scopes.get(id(outer)))

    def _returning(self, active: ActiveCall, scope: Any) -> Callable[..., Any]:
        raised = False

        def on_event(frame: FrameType, event: str, value: Any) -> Any:
            nonlocal raised
            if self._state.call is not active:
                frame.f_trace = None
                return None
            if scope is not None:
                scope(frame, event, value)
                frame.f_trace = on_event
            if event == "exception":
                raised = True
            elif event == "line":
                raised = False
            elif event == "return":
                self._guarded(self._finish, active, value, raised and value is None)
            return on_event

        return on_event

    def _stop(self, active: ActiveCall) -> None:
        self._state.call = None
        if active.names is not None:
            active.names.stop()
            self._collector.release()
        elif active.frame is not None:
            active.frame.f_trace_lines = True
            sys.settrace(active.previous_tracer)

    def _finish(
        self, active: ActiveCall, result: Any, raised: bool, repeated: Optional[Callable[[], None]] = None
    ) -> None:
        self._stop(active)
        code = active.frame.f_code if active.frame is not None else None
        active.frame = None
        recorded, recorder = active.recorded, active.recorder
        with self._torch._C.DisableTorchFunction():
            outputs = [] if raised else outputs_of(self._torch, result)
            if recorded is None:
                return
            if recorder is None:
                if active.call is not None and not raised:
                    recorded.compare(active.call, active.parameters, outputs)
            else:
                ports = [(name, recorder.keep_output(tensor)) for name, tensor in outputs]
                is_function = active.kind == "function" and code is not None
                if is_function and not self._is_implementation(active, outputs, ports, raised):
                    self._candidates.failed(code)
                    self._drop(active)
                    return
                recorder.trace.outputs += [{"name": name, "tensor": number} for name, number in ports]
        if recorder is not None:
            if repeated is not None:
                repeated()
            with self._lock:
                self._close(active, recorder, recorded, outputs, raised)
        if recorded.file is not None:
            for _, tensor in outputs:
                self._comparisons.came_from(tensor, recorded.file)

    def _is_implementation(self, active: ActiveCall, outputs: Named, ports: List[Tuple[str, int]], raised: bool) -> bool:
        recorder = active.recorder
        if recorder is None or active.is_check:
            return False
        if raised:
            return recorder.made_floats() and not (active.tree and active.tree.implementations())
        given = identities(active.inputs, active.parameters)
        if not any(id(tensor) not in given for _, tensor in outputs):
            return False
        return qualifies(recorder, 0, len(recorder.ops), ports)

    def _close(
        self, active: ActiveCall, recorder: TorchRecorder, recorded: Recorded, outputs: Named, raised: bool
    ) -> None:
        trace = recorder.trace
        trace.ran_on = self._ran_on(recorder, active.device)
        details: Dict[str, Any] = {"kind": active.kind, "object": active.object, "calls": 1}
        if raised or recorder.failure is not None:
            details["incomplete"] = True
        if recorder.failure is not None:
            details["note"] = recorder.failure
        recorded.finish(trace, self._session.finish_trace(trace, **details), outputs)

    def _give_up(self, active: ActiveCall) -> None:
        """What was recorded of a function that calls a module; what it called before may be of use."""
        self._stop(active)
        active.frame = None
        with self._torch._C.DisableTorchFunction():
            self._drop(active)

    def _drop(self, active: ActiveCall) -> None:
        recorder, tree = active.recorder, active.tree
        if recorder is None:
            return
        with self._lock:
            if active.recorded is not None:
                active.recorded.is_void = True
            if tree is not None and not active.is_check and recorder.failure is None:
                for node in tree.implementations():
                    if not self._session.may_record("torch"):
                        break
                    trace = self._session.new_trace("torch", node.label)
                    cut_out(recorder, node, trace, {})
                    trace.ran_on = self._ran_on(recorder, active.device)
                    number = self._log.number_of(node.code, ())
                    entry = self._session.finish_trace(trace, kind="function", object=number, calls=1)
                    for tensor in node.alive():
                        self._comparisons.came_from(tensor, entry["file"])
            self._discard(recorder.trace)

    def _discard(self, trace: Any) -> None:
        """A trace that nobody will see."""
        discard = getattr(self._session, "discard_trace", None)
        if discard is not None:
            discard(trace)
        else:
            trace.close()

    def _repeat(self, active: ActiveCall, again: Any) -> None:
        recorder = active.recorder
        if recorder is None:
            return

        @contextlib.contextmanager
        def observed(second: TorchRecorder) -> Iterator[None]:
            twin = ActiveCall(active.root, "module", active.label)
            twin.instances = second.instances
            twin.recorder = second
            paused, self._state.paused = self._state.paused, 0
            self._state.call = twin
            try:
                yield
            finally:
                self._state.call = None
                self._state.paused = paused

        repeat(self._torch, active.root, recorder, *again, observed)

    # What is not looked into

    def _run_opaque(self, kind: str, module: Any, run: Any, args: Any, kwargs: Any, frame: FrameType) -> Any:
        target = getattr(module, "_orig_mod", module)

        def tensors() -> List[Any]:
            given = [tensor for _, tensor in named_tensors(self._torch.Tensor, {"args": args, "kwargs": kwargs})]
            return given + [tensor for _, tensor in _state_of(target)]

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

    def _guarded(self, function: Callable[..., Any], *args: Any) -> Any:
        """An error of the observer must not reach the script: it goes on unobserved."""
        self._state.paused += 1
        try:
            return function(*args)
        except Exception as error:  # noqa: BLE001
            active = self._state.call
            if active is not None and active.recorder is not None:
                active.recorder.fail(error)
            if os.environ.get("HSTU_CAPTURE_DEBUG"):
                import traceback

                traceback.print_exc()
            return None
        finally:
            self._state.paused -= 1

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

    def _add_parameters(self, root: Any, recorder: TorchRecorder) -> None:
        for prefix, module in root.named_modules(remove_duplicate=False):
            for members, is_buffer in ((module._parameters, False), (module._buffers, True)):
                for name, tensor in members.items():
                    if tensor is None or not hasattr(tensor, "shape") or _is_lazy(tensor):
                        continue
                    recorder.trace.add_parameter(
                        f"{prefix}.{name}" if prefix else name,
                        recorder.tensor_of(tensor),
                        self._declarations.find(module, name),
                        is_buffer,
                    )

    def _ran_on(self, recorder: TorchRecorder, device: str) -> Dict[str, Any]:
        return {
            "executor": f"torch {self._torch.__version__}",
            "provider": device.split(":")[0],
            "device": device,
            "precision": recorder.precision(),
            "versions": self._session.versions(),
            "standIns": [],
            "emulated": list(self._session.emulated),
        }


def _state_of(module: Any) -> Named:
    members = [*module.named_parameters(), *module.named_buffers()]
    return [(name, tensor) for name, tensor in members if not _is_lazy(tensor)]


def _class_name(module: Any) -> str:
    """A scripted module has the name of the class that it was made from."""
    return str(getattr(module, "original_name", None) or type(module).__name__)


def _storage(tensor: Any) -> Optional[int]:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError, AttributeError):
        return None


def _place_warnings() -> None:
    """Warnings of torch name the Python line that called it: that must not be one of ours."""
    original = warnings.showwarning

    @functools.wraps(original)
    def showwarning(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
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


def _ignore_calls(frame: FrameType, event: str, value: Any) -> None:
    return None


def _is_lazy(tensor: Any) -> bool:
    return type(tensor).__name__.startswith("Uninitialized")
