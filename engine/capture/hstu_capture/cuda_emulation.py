"""
Lets scripts that ask for CUDA run where there is none: their tensors land on the CPU and say that they are on CUDA.
Every trace that is made afterwards says so ("cuda on cpu").
"""

import functools
from typing import Any, Callable, Tuple

from torch.overrides import TorchFunctionMode

from .cuda_emulation_names import CUDA_ON_CPU, ON_CUDA
from .session import Session
from .torch_cuda_functions import (
    legacy_name,
    replace_autocast,
    replace_functions,
    replace_generator,
    tensors_in,
)


def is_marked(tensor: Any) -> bool:
    return getattr(tensor, ON_CUDA, False)


def emulate_cuda(torch: Any, session: Session) -> TorchFunctionMode:
    """Gives the mode that has to be entered in every thread."""
    emulation = _Emulation(torch, session)
    emulation.replace_module_moves()
    emulation.replace_creation()
    replace_functions(torch, session.emulate_cuda, emulation.mark, is_marked)
    replace_autocast(torch, emulation.asks_for_cuda, emulation.note)
    replace_generator(torch, emulation.asks_for_cuda)
    return _Mode(emulation)


class _Mode(TorchFunctionMode):
    def __init__(self, emulation: "_Emulation") -> None:
        super().__init__()
        self._emulation = emulation

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._emulation.call(func, args, kwargs or {})


class _Emulation:
    def __init__(self, torch: Any, session: Session) -> None:
        self._torch = torch
        self._session = session
        tensor = torch.Tensor
        self._device_of = tensor.device.__get__
        self._is_cuda_of = tensor.is_cuda.__get__
        self._cuda = torch.device("cuda", 0)
        # Until there is a tensor on CUDA, nothing has to be searched for one.
        self._has_marked = False

    def call(self, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Any) -> Any:
        if func == self._device_of:
            return self._cuda if is_marked(args[0]) else func(*args, **kwargs)
        if func == self._is_cuda_of:
            return is_marked(args[0]) or func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "__get__":
            result = func(*args, **kwargs)
            # A gradient, `.data` and `.T` are where their tensor is.
            if isinstance(result, self._torch.Tensor) and is_marked(args[0]):
                self.mark(result)
            return result
        if name == "get_device" and is_marked(args[0]):
            return 0
        if name in ("pin_memory", "record_stream"):
            return args[0].clone() if name == "pin_memory" else None
        if name == "type" and args and isinstance(args[0], self._torch.Tensor):
            return self._type(func, args, kwargs)
        if name == "cuda":
            return self._moved(args[0], func)
        if name == "cpu":
            return args[0].clone() if is_marked(args[0]) else func(*args, **kwargs)
        if name == "to":
            return self._to(func, args, kwargs)
        on_cuda = self.asks_for_cuda(kwargs.get("device"))
        if on_cuda:
            kwargs = {**kwargs, "device": "cpu"}
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        result = func(*args, **kwargs)
        explicit = kwargs.get("device") is not None and not on_cuda
        if on_cuda or (self._has_marked and not explicit and self._any_marked((*args, *kwargs.values()))):
            self.mark(result)
        return result

    def replace_module_moves(self) -> None:
        module_type = self._torch.nn.Module
        original = module_type.to

        @functools.wraps(original)
        def to(module: Any, *args: Any, **kwargs: Any) -> Any:
            asked = [*args, *kwargs.values()]
            on_cuda = any(self.asks_for_cuda(value) or is_marked(value) for value in asked)
            args = tuple("cpu" if self.asks_for_cuda(value) else value for value in args)
            kwargs = {name: "cpu" if self.asks_for_cuda(value) else value for name, value in kwargs.items()}
            # The moves of single tensors inside are the module's own affair.
            with self._torch._C.DisableTorchFunction():
                original(module, *args, **kwargs)
            names_device = any(self._names_device(value) for value in asked)
            if on_cuda or names_device:
                self._mark_module(module, on_cuda)
            return module

        module_type.to = to
        module_type.cuda = lambda module, device=None: to(module, "cuda")
        module_type.cpu = lambda module: to(module, "cpu")

    def replace_creation(self) -> None:
        """What makes tensors without passing by a mode."""
        torch = self._torch
        emulation = self
        from torch.utils import _device

        context = _device.DeviceContext
        with_device = context.__torch_function__

        def on_device(mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            # This mode is always the lowest: nothing below it could redirect what it asks for.
            if not emulation.asks_for_cuda(mode.device):
                return with_device(mode, func, types, args, kwargs)
            kwargs = dict(kwargs or {})
            creates = func in _device._device_constructors() and kwargs.get("device") is None
            if creates:
                kwargs["device"] = "cpu"
            result = func(*args, **kwargs)
            if creates:
                emulation.mark(result)
            return result

        context.__torch_function__ = on_device
        for kind in (torch.nn.Parameter, getattr(torch.nn, "Buffer", None)):
            if kind is not None and "__new__" in kind.__dict__:
                self._keep_mark(kind)
        self._keep_mark_out_of_files()
        load = torch.load

        @functools.wraps(load)
        def load_on_cpu(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
            on_cuda = emulation.asks_for_cuda(map_location)
            if on_cuda or isinstance(map_location, dict):
                map_location = "cpu"
            elif map_location is None:
                # Files that were saved on a GPU name it.
                map_location = _where_it_is
            loaded = load(f, map_location, *args, **kwargs)
            if on_cuda:
                for tensor in tensors_in(torch, loaded):
                    emulation.mark(tensor)
            return loaded

        torch.load = load_on_cpu

    def _keep_mark_out_of_files(self) -> None:
        utilities = self._torch._utils
        state_of = getattr(utilities, "_get_obj_state", None)
        if state_of is None:
            return

        @functools.wraps(state_of)
        def state_without_mark(value: Any) -> Any:
            state = state_of(value)
            if isinstance(state, dict) and ON_CUDA in state:
                state = {name: item for name, item in state.items() if name != ON_CUDA}
            return state

        utilities._get_obj_state = state_without_mark

    def _keep_mark(self, kind: Any) -> None:
        make = kind.__new__
        emulation = self

        def new(cls: Any, data: Any = None, *args: Any, **kwargs: Any) -> Any:
            made = make(cls, data, *args, **kwargs)
            if data is not None and is_marked(data):
                emulation.mark(made)
            return made

        kind.__new__ = staticmethod(new)

    def _type(self, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Any) -> Any:
        """`tensor.type()` and `tensor.type("torch.cuda.FloatTensor")`."""
        tensor, wanted = args[0], args[1] if len(args) > 1 else kwargs.get("dtype")
        if wanted is None:
            return legacy_name(self._torch, tensor) if is_marked(tensor) else func(*args, **kwargs)
        on_cuda = getattr(wanted, "is_cuda", None) is True or str(wanted).startswith("torch.cuda.")
        if on_cuda:
            legacy = getattr(self._torch.cuda, wanted.rpartition(".")[2]) if isinstance(wanted, str) else wanted
            wanted = legacy.dtype
        result = func(tensor, wanted)
        if on_cuda or (isinstance(wanted, self._torch.dtype) and is_marked(tensor)):
            result = result.clone() if result is tensor and not is_marked(tensor) else result
            self.mark(result)
        return result

    def _to(self, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Any) -> Any:
        tensor, rest = args[0], list(args[1:])
        targets = [*rest, kwargs.get("device"), kwargs.get("other")]
        on_cuda = any(self.asks_for_cuda(value) for value in targets)
        on_cuda = on_cuda or any(isinstance(value, self._torch.Tensor) and is_marked(value) for value in targets)
        names_device = any(
            self._names_device(value) or isinstance(value, self._torch.Tensor) for value in targets
        )
        rest = ["cpu" if self.asks_for_cuda(value) else value for value in rest]
        if self.asks_for_cuda(kwargs.get("device")):
            kwargs = {**kwargs, "device": "cpu"}
        result = func(tensor, *rest, **kwargs)
        target = on_cuda if names_device else is_marked(tensor)
        if target == is_marked(tensor) and result is tensor:
            return result
        # Between two devices there is a copy: a write into one must not reach the other.
        if result is tensor:
            result = tensor.clone()
        if target:
            self.mark(result)
        return result

    def _moved(self, tensor: Any, func: Any) -> Any:
        if is_marked(tensor):
            return tensor
        result = tensor.clone()
        self.mark(result)
        return result

    def note(self) -> None:
        self._session.note_emulation(CUDA_ON_CPU)

    def _names_device(self, value: Any) -> bool:
        return isinstance(value, (str, self._torch.device)) or (isinstance(value, int) and not isinstance(value, bool))

    def asks_for_cuda(self, device: Any) -> bool:
        if isinstance(device, int) and not isinstance(device, bool):
            # A number alone is the number of a GPU.
            return True
        if not isinstance(device, (str, self._torch.device)):
            return False
        return str(device).split(":")[0] == "cuda"

    def _any_marked(self, value: Any) -> bool:
        if isinstance(value, self._torch.Tensor):
            return is_marked(value)
        if isinstance(value, (tuple, list)):
            return any(self._any_marked(item) for item in value)
        return False

    def mark(self, value: Any) -> None:
        if isinstance(value, self._torch.Tensor):
            setattr(value, ON_CUDA, True)
            self._has_marked = True
            self._session.note_emulation(CUDA_ON_CPU)
        elif isinstance(value, (tuple, list)):
            for item in value:
                self.mark(item)

    def _mark_module(self, module: Any, on_cuda: bool) -> None:
        for tensor in (*module.parameters(), *module.buffers()):
            if on_cuda:
                self.mark(tensor)
            elif is_marked(tensor):
                delattr(tensor, ON_CUDA)


def _where_it_is(storage: Any, location: str) -> Any:
    return storage
