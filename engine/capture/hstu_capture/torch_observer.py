"""Watches torch: every outermost call of a module becomes a trace. See torch_recorder for what one call records."""

import functools
import sys
import threading
from typing import Any, Dict, Optional, Tuple

from .arguments import bound_arguments, named_tensors
from .cuda_emulation import emulate_cuda
from .identity_map import IdentityMap
from .session import Session
from .source_frames import SourceFrame, first_user_frame, is_user_file, treat_as_library
from .tensor_names import Instances, NameTracker
from .torch_recorder import RecordingMode, TorchRecorder, same_outcome
from .torch_values import content_hash


class TorchObserver:
    def __init__(self, session: Session, torch: Any) -> None:
        self._session = session
        self._torch = torch
        self._active = threading.local()
        self._declarations = Declarations()
        # The last inputs and parameters of each model, so that an identical call is recorded once.
        self._seen: IdentityMap[set] = IdentityMap(set)

    def install(self) -> None:
        torch = self._torch
        treat_as_library(torch.__path__[0])
        self._declarations.install(torch.nn)
        self._observe_calls(torch.nn.Module)
        if self._session.emulate_cuda or not torch.cuda.is_available():
            emulate_cuda(torch, self._session)

    def _observe_calls(self, module_type: Any) -> None:
        original = module_type.__call__
        observer = self

        @functools.wraps(original)
        def call(module: Any, *args: Any, **kwargs: Any) -> Any:
            if observer._must_pass():
                return original(module, *args, **kwargs)
            active: Optional[_ActiveCall] = getattr(observer._active, "call", None)
            if active is not None:
                with active.inside(module):
                    return original(module, *args, **kwargs)
            if not observer._is_new(module, args, kwargs) or not observer._session.may_record("torch"):
                return original(module, *args, **kwargs)
            return observer._record(module, lambda: original(module, *args, **kwargs), args, kwargs)

        module_type.__call__ = call

    def _must_pass(self) -> bool:
        """Compilers and exporters run modules to read them, not to compute."""
        torch = self._torch
        compiler = getattr(torch, "compiler", None)
        if compiler is not None and getattr(compiler, "is_compiling", lambda: False)():
            return True
        return bool(torch.jit.is_tracing()) or getattr(self._active, "paused", False)

    def _is_new(self, module: Any, args: Any, kwargs: Any) -> bool:
        with self._torch._C.DisableTorchFunction():
            inputs = tuple(
                (name, content_hash(self._torch, tensor))
                for name, tensor in named_tensors(self._torch.Tensor, bound_arguments(module.forward, args, kwargs))
            )
            state = tuple(
                (id(tensor), _version(tensor)) for tensor in (*module.parameters(), *module.buffers())
            )
            key = (inputs, state, module.training)
        seen = self._seen.of(module)
        if key in seen:
            return False
        seen.add(key)
        return True

    def _record(self, root: Any, run: Any, args: Any, kwargs: Any) -> Any:
        torch = self._torch
        label = type(root).__name__
        trace = self._session.new_trace("torch", label)
        active = _ActiveCall(root)
        recorder = TorchRecorder(torch, trace, active.instances)
        with torch._C.DisableTorchFunction():
            self._add_parameters(root, recorder)
            arguments = list(named_tensors(torch.Tensor, bound_arguments(root.forward, args, kwargs)))
            for name, tensor in arguments:
                trace.inputs.append({"name": name, "tensor": recorder.tensor_of(tensor)})
            device = next((str(tensor.device) for _, tensor in arguments), "cpu")
        repeat = self._prepare_repeat(root, args, kwargs) if self._session.repeat_reference else None
        details: Dict[str, Any] = {}
        try:
            result = self._run(active, recorder, run)
        except BaseException:
            details["incomplete"] = True
            raise
        else:
            with torch._C.DisableTorchFunction():
                for name, tensor in named_tensors(torch.Tensor, {"output": result}):
                    trace.outputs.append({"name": name, "tensor": recorder.tensor_of(tensor)})
            if repeat is not None:
                self._repeat(root, recorder, *repeat)
            return result
        finally:
            trace.ran_on = self._ran_on(recorder, device)
            self._session.finish_trace(trace, **details)

    def _run(self, active: "_ActiveCall", recorder: TorchRecorder, run: Any) -> Any:
        names = NameTracker(self._torch.Tensor, recorder.resolve, recorder.bind, active.instances)
        self._active.call = active
        try:
            with RecordingMode(recorder), active.inside(active.root):
                names.start()
                try:
                    return run()
                finally:
                    names.stop()
        finally:
            self._active.call = None

    def _prepare_repeat(self, root: Any, args: Any, kwargs: Any) -> Tuple[Any, Any, Dict[str, Any]]:
        """The first run may write into its inputs and buffers: the second one starts from copies."""
        torch = self._torch
        with torch._C.DisableTorchFunction(), torch.no_grad():
            copy = functools.partial(copied, torch.Tensor)
            return copy(args), copy(kwargs), {n: b.detach().clone() for n, b in root.named_buffers()}

    def _repeat(self, root: Any, recorder: TorchRecorder, args: Any, kwargs: Any, buffers: Any) -> None:
        torch = self._torch
        active = _ActiveCall(root)
        second = recorder.comparing(active.instances)
        current = dict(root.named_buffers())
        modes = [(module, module.training) for module in root.modules()]
        with torch._C.DisableTorchFunction(), torch.no_grad():
            after = {name: tensor.detach().clone() for name, tensor in current.items()}
            for name, tensor in buffers.items():
                current[name].copy_(tensor)
            for tensor in (*root.parameters(), *root.buffers()):
                second.tensor_of(tensor)
            for _, tensor in named_tensors(torch.Tensor, bound_arguments(root.forward, args, kwargs)):
                second.tensor_of(tensor)
        self._active.call = active
        root.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), RecordingMode(second), active.inside(root):
                root(*args, **kwargs)
        finally:
            self._active.call = None
            for module, training in modes:
                module.training = training
            with torch._C.DisableTorchFunction(), torch.no_grad():
                for name, tensor in after.items():
                    current[name].copy_(tensor)
        same_outcome(recorder, second)

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
            "threads": self._torch.get_num_threads(),
        }


class _ActiveCall:
    """The outermost call under way: which module instances it is in."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.instances = Instances()
        self._paths: Dict[int, str] = {}
        for name, module in root.named_modules():
            self._paths.setdefault(id(module), name)

    def inside(self, module: Any) -> "_Inside":
        path = self._paths.get(id(module))
        if path is None:
            # The module is held by no attribute of the model: the user's own are told apart by their class.
            path = self.instances.path
            if is_user_file(getattr(sys.modules.get(type(module).__module__), "__file__", None) or "<"):
                path = self.instances.child_path(type(module).__name__)
        return _Inside(self.instances, path, self.instances.depth > 0 and module is self.root)


class _Inside:
    def __init__(self, instances: Instances, path: str, already: bool) -> None:
        self._instances = instances
        self._path = path
        self._already = already

    def __enter__(self) -> None:
        if not self._already:
            self._instances.enter(self._path)

    def __exit__(self, *error: Any) -> None:
        if not self._already:
            self._instances.leave()


class Declarations:
    """Where the user's code declares each parameter and buffer."""

    def __init__(self) -> None:
        self._of_module: IdentityMap[Dict[str, SourceFrame]] = IdentityMap(dict)
        # A deep copy of a module was never assigned to: its class declares the same names at the same lines.
        self._of_class: Dict[Tuple[type, str], SourceFrame] = {}

    def install(self, nn: Any) -> None:
        module_type, parameter_type = nn.Module, nn.Parameter
        set_attribute = module_type.__setattr__
        register_parameter = module_type.register_parameter
        register_buffer = module_type.register_buffer

        @functools.wraps(set_attribute)
        def observed_set(module: Any, name: str, value: Any) -> None:
            set_attribute(module, name, value)
            if isinstance(value, parameter_type) or name in module.__dict__.get("_buffers", ()):
                self._note(module, name, value)

        @functools.wraps(register_parameter)
        def observed_parameter(module: Any, name: str, param: Any) -> None:
            register_parameter(module, name, param)
            self._note(module, name, param)

        @functools.wraps(register_buffer)
        def observed_buffer(module: Any, name: str, tensor: Any, *args: Any, **kwargs: Any) -> None:
            register_buffer(module, name, tensor, *args, **kwargs)
            self._note(module, name, tensor)

        module_type.__setattr__ = observed_set
        module_type.register_parameter = observed_parameter
        module_type.register_buffer = observed_buffer

    def find(self, module: Any, name: str) -> Optional[SourceFrame]:
        return self._of_module.of(module).get(name) or self._of_class.get((type(module), name))

    def _note(self, module: Any, name: str, value: Any) -> None:
        declared = self._of_module.of(module)
        if value is None or name in declared:
            return
        frame = first_user_frame(sys._getframe(2))
        if frame is not None:
            declared[name] = frame
            self._of_class.setdefault((type(module), name), frame)


def copied(tensor_type: type, value: Any) -> Any:
    """The same nested value with copies of its tensors."""
    if isinstance(value, tensor_type):
        return value.detach().clone()  # type: ignore[attr-defined]
    if isinstance(value, tuple):
        items = [copied(tensor_type, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [copied(tensor_type, item) for item in value]
    if isinstance(value, dict):
        return {key: copied(tensor_type, item) for key, item in value.items()}
    return value


def _version(tensor: Any) -> int:
    try:
        return tensor._version
    except RuntimeError:
        return -1


def _is_lazy(tensor: Any) -> bool:
    return type(tensor).__name__.startswith("Uninitialized")
