"""
Lets scripts that ask for CUDA run where there is none: their tensors land on the CPU and say that they are on CUDA.
Every trace that is made afterwards says so ("cuda on cpu").
"""

import functools
from typing import Any, Callable, Tuple

from torch.overrides import TorchFunctionMode

from .cuda_emulation_names import CUDA_ON_CPU, ON_CUDA
from .session import Session


def is_marked(tensor: Any) -> bool:
    return getattr(tensor, ON_CUDA, False)


def emulate_cuda(torch: Any, session: Session) -> None:
    emulation = _Emulation(torch, session)
    _Mode(emulation).__enter__()
    emulation.replace_module_moves()
    emulation.replace_functions(session.emulate_cuda)


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

    def call(self, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Any) -> Any:
        if func == self._device_of:
            return self._cuda if is_marked(args[0]) else func(*args, **kwargs)
        if func == self._is_cuda_of:
            return is_marked(args[0]) or func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return func(*args, **kwargs)
        if name == "cuda":
            return self._moved(args[0], func)
        if name == "cpu":
            return args[0].clone() if is_marked(args[0]) else func(*args, **kwargs)
        if name == "to":
            return self._to(func, args, kwargs)
        on_cuda = self._asks_for_cuda(kwargs.get("device"))
        if on_cuda:
            kwargs = {**kwargs, "device": "cpu"}
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        result = func(*args, **kwargs)
        explicit = kwargs.get("device") is not None and not on_cuda
        if on_cuda or (not explicit and self._any_marked(args)):
            self._mark(result)
        return result

    def replace_module_moves(self) -> None:
        module_type = self._torch.nn.Module
        original = module_type.to

        @functools.wraps(original)
        def to(module: Any, *args: Any, **kwargs: Any) -> Any:
            asked = [*args, *kwargs.values()]
            on_cuda = any(self._asks_for_cuda(value) or is_marked(value) for value in asked)
            args = tuple("cpu" if self._asks_for_cuda(value) else value for value in args)
            kwargs = {name: "cpu" if self._asks_for_cuda(value) else value for name, value in kwargs.items()}
            # The moves of single tensors inside are the module's own affair.
            with self._torch._C.DisableTorchFunction():
                original(module, *args, **kwargs)
            names_device = any(isinstance(value, (str, self._torch.device)) for value in asked)
            if on_cuda or names_device:
                self._mark_module(module, on_cuda)
            return module

        module_type.to = to
        module_type.cuda = lambda module, device=None: to(module, "cuda")
        module_type.cpu = lambda module: to(module, "cpu")

    def replace_functions(self, says_available: bool) -> None:
        torch = self._torch
        torch.cuda.synchronize = lambda device=None: None
        if says_available:
            torch.cuda.is_available = lambda: True
            torch.cuda.device_count = lambda: 1
            torch.cuda.current_device = lambda: 0
            # What scripts choose their data types by: all that a current GPU has, float8 among it.
            torch.cuda.get_device_capability = lambda device=None: (9, 0)
        set_default = torch.set_default_device

        @functools.wraps(set_default)
        def set_default_device(device: Any) -> None:
            # The default's own mode runs below this one, where nothing could redirect it any more.
            set_default("cpu" if self._asks_for_cuda(device) else device)

        torch.set_default_device = set_default_device

    def _to(self, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Any) -> Any:
        tensor, rest = args[0], list(args[1:])
        targets = [*rest, kwargs.get("device"), kwargs.get("other")]
        on_cuda = any(self._asks_for_cuda(value) for value in targets)
        on_cuda = on_cuda or any(isinstance(value, self._torch.Tensor) and is_marked(value) for value in targets)
        names_device = any(isinstance(value, (str, self._torch.device, self._torch.Tensor)) for value in targets)
        rest = ["cpu" if self._asks_for_cuda(value) else value for value in rest]
        if self._asks_for_cuda(kwargs.get("device")):
            kwargs = {**kwargs, "device": "cpu"}
        result = func(tensor, *rest, **kwargs)
        target = on_cuda if names_device else is_marked(tensor)
        if target == is_marked(tensor) and result is tensor:
            return result
        # Between two devices there is a copy: a write into one must not reach the other.
        if result is tensor:
            result = tensor.clone()
        if target:
            self._mark(result)
        return result

    def _moved(self, tensor: Any, func: Any) -> Any:
        if is_marked(tensor):
            return tensor
        result = tensor.clone()
        self._mark(result)
        return result

    def _asks_for_cuda(self, device: Any) -> bool:
        if isinstance(device, bool) or not isinstance(device, (str, self._torch.device)):
            return False
        return str(device).split(":")[0] == "cuda"

    def _any_marked(self, value: Any) -> bool:
        if isinstance(value, self._torch.Tensor):
            return is_marked(value)
        if isinstance(value, (tuple, list)):
            return any(self._any_marked(item) for item in value)
        return False

    def _mark(self, value: Any) -> None:
        if isinstance(value, self._torch.Tensor):
            setattr(value, ON_CUDA, True)
            self._session.note_emulation(CUDA_ON_CPU)
        elif isinstance(value, (tuple, list)):
            for item in value:
                self._mark(item)

    def _mark_module(self, module: Any, on_cuda: bool) -> None:
        for tensor in (*module.parameters(), *module.buffers()):
            if on_cuda:
                self._mark(tensor)
            elif is_marked(tensor):
                delattr(tensor, ON_CUDA)
