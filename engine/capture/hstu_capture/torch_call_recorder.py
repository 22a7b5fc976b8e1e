"""
What is common to all recorded calls of torch, from the first look at their inputs to the entry in the index. Which
calls are recorded is decided in torch_observer.
"""

import contextlib
import os
import sys
import threading
from types import CodeType, FrameType
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from . import torch_operations
from .session import Session
from .source_frames import SourceFrame
from .tensor_names import NameTracker
from .torch_active import ActiveCall, OldObjects, ThreadState
from .torch_arguments import ArgumentRule, Named, Outside, is_lazy
from .torch_calls import (
    MAX_PARAMETER_SETS,
    MAX_VALUE_SETS,
    Call,
    CallLog,
    Recorded,
    outputs_of,
    plain_values,
    shapes_of,
)
from .torch_comparisons import Comparisons
from .torch_declarations import Declarations
from .torch_functions import CallTree, cut_out, identities, qualifies
from .torch_kinds import add_kinds
from .torch_recorder import TorchRecorder
from .torch_repeat import repeat


class CallRecorder:
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
        self._created: Dict[int, SourceFrame] = {}
        self._collector = OldObjects()

    def turned_out_no_implementation(self, code: CodeType, for_good: bool) -> None:
        """Told of functions whose recording was dropped; `for_good` where the next call would be no other."""

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
            known, key = self._find(calls, shapes, active)
            recorded = next((one for one in known if one.got(inputs, parameters, values)), None)
            # A training loop does not use up what is left for the evaluation after it.
            alike = [one for one in known if one.with_gradients == torch.is_grad_enabled()]
            if recorded is None and known and not self._may_record_again(len(alike)):
                recorded = (alike or known)[-1]
                recorded.count_other()
            if recorded is not None:
                active.recorded = recorded
                if recorded.count():
                    active.call = Call(torch, inputs, parameters, values)
            elif self._session.may_record("torch"):
                call = Call(torch, inputs, parameters, values)
                active.recorded = Recorded(torch, self._session, call, inputs, parameters)
                calls.setdefault(key, []).append(active.recorded)
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

    def _may_record_again(self, recorded: int) -> bool:
        may = getattr(self._session, "may_record_again", self._session.may_record)
        return recorded < MAX_VALUE_SETS and bool(may("torch"))

    def _find(self, calls: Dict[Any, List[Recorded]], shapes: Any, active: ActiveCall) -> Tuple[List[Recorded], Any]:
        """What was recorded of calls of this shape, and what they are known by."""
        if active.root is not None:
            return calls.get((None, shapes), []), (None, shapes)
        given = tuple(id(tensor) for _, tensor in active.parameters)
        key = (given, shapes)
        same = [known for known in calls if known[1] == shapes]
        if key not in calls and len(same) >= MAX_PARAMETER_SETS:
            key = same[-1]
        return calls.get(key, []), key

    def _start_recording(self, active: ActiveCall) -> None:
        torch = self._torch
        trace = self._session.new_trace("torch", active.label)
        outside = Outside(self._rule)
        last = active.frame

        def arrived(tensor: Any, number: int, frame: FrameType) -> None:
            if active.recorded is not None and (tensor.requires_grad or isinstance(tensor, torch.nn.Parameter)):
                active.recorded.read_outside(tensor)
            name = outside.name_of(tensor, frame, last)
            if name is not None and all(name != parameter["name"] for parameter in trace.parameters):
                declared = self._created.get(storage_of(tensor) or 0)
                if declared is not None:
                    active.declared[number] = declared
                trace.add_parameter(name, number, declared)

        recorder = active.recorder = TorchRecorder(torch, trace, active.instances, arrived)
        if active.root is not None:
            self._add_parameters(active.root, recorder)
        else:
            for name, tensor in active.parameters:
                trace.add_parameter(name, recorder.tensor_of(tensor), self._created.get(storage_of(tensor) or 0))
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
                    self.turned_out_no_implementation(code, active.tree is not None and active.tree.has_parts)
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

    def _is_implementation(
        self, active: ActiveCall, outputs: Named, ports: List[Tuple[str, int]], raised: bool
    ) -> bool:
        recorder = active.recorder
        if recorder is None or active.is_check:
            return False
        if raised:
            return recorder.made_floats() and not (active.tree and active.tree.implementations())
        if active.tree is not None and active.tree.only_calls(ports):
            return False
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
        torch = self._torch
        recorder, tree = active.recorder, active.tree
        if recorder is None:
            return
        with self._lock:
            if tree is not None and not active.is_check and recorder.failure is None:
                for node in tree.implementations():
                    known = self._log.of(node.module).setdefault(node.key, []) if node.module is not None else []
                    twin = next((one for one in known if one.is_like(node.recorded)), None)
                    if twin is not None:
                        twin.count()
                        continue
                    if not self._session.may_record("torch"):
                        break
                    trace = self._session.new_trace("torch", node.label)
                    cut_out(recorder, node, trace, active.declared)
                    trace.ran_on = self._ran_on(recorder, active.device)
                    if node.module is None:
                        number = self._log.number_of(node.code, ())
                        entry = self._session.finish_trace(trace, kind="function", object=number, calls=1)
                    else:
                        number = self._log.number_of(node.module, None)
                        entry = self._session.finish_trace(trace, kind="module", object=number, calls=1)
                        known.append(node.recorded)
                        node.recorded.finish(trace, entry, outputs_of(torch, node.alive()))
                    for tensor in node.alive():
                        self._comparisons.came_from(tensor, entry["file"])
            self._discard(recorder.trace)

    def _discard(self, trace: Any) -> None:
        """A trace that nobody will see."""
        discard = getattr(self._session, "discard_trace", None)
        if discard is not None:
            discard(trace)
            return
        # A session without a word for it must not list the trace at its end.
        under_way = getattr(self._session, "_open", [])
        if trace in under_way:
            under_way.remove(trace)
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

    def _add_parameters(self, root: Any, recorder: TorchRecorder) -> None:
        for prefix, module in root.named_modules(remove_duplicate=False):
            for members, is_buffer in ((module._parameters, False), (module._buffers, True)):
                for name, tensor in members.items():
                    if tensor is None or not hasattr(tensor, "shape") or is_lazy(tensor):
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
            "threads": self._torch.get_num_threads(),
        }


def storage_of(tensor: Any) -> Optional[int]:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError, AttributeError):
        return None


def _ignore_calls(frame: FrameType, event: str, value: Any) -> None:
    return None
