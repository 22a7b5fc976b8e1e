"""What `torch.cuda` offers besides tensors, for the emulation of CUDA on a CPU: streams, events, memory, devices."""

import contextlib
import functools
import time
from types import SimpleNamespace
from typing import Any, Callable, Iterator, List

# What the emulated device says of itself. The capability is that of Hopper, so that scripts take their usual path.
CAPABILITY = (9, 0)
NAME = "CUDA emulated on CPU"
_MEMORY = 80 * 1024**3

_LEGACY_TYPES = {
    "FloatTensor": "float32",
    "DoubleTensor": "float64",
    "HalfTensor": "float16",
    "BFloat16Tensor": "bfloat16",
    "LongTensor": "int64",
    "IntTensor": "int32",
    "ShortTensor": "int16",
    "CharTensor": "int8",
    "ByteTensor": "uint8",
    "BoolTensor": "bool",
}


class Stream:
    """Everything is in order and at once: a stream has nothing to do."""

    def __init__(self, device: Any = None, priority: int = 0, **kwargs: Any) -> None:
        self.device_index = 0
        self.priority = priority
        self.cuda_stream = 0
        self.stream_id = 0

    def synchronize(self) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    def query(self) -> bool:
        return True

    def record_event(self, event: Any = None) -> Any:
        event = Event() if event is None else event
        event.record(self)
        return event

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: Any) -> None:
        pass


class Event:
    def __init__(self, enable_timing: bool = False, blocking: bool = False, **kwargs: Any) -> None:
        self._time = 0.0

    def record(self, stream: Any = None) -> None:
        self._time = time.perf_counter()

    def elapsed_time(self, end_event: "Event") -> float:
        """In milliseconds, as CUDA gives it."""
        return (end_event._time - self._time) * 1000

    def synchronize(self) -> None:
        pass

    def wait(self, stream: Any = None) -> None:
        pass

    def query(self) -> bool:
        return True


def replace_functions(torch: Any, says_available: bool, mark: Callable[[Any], None], is_marked: Any) -> None:
    """`says_available`: whether the script is told that CUDA is there."""
    cuda = torch.cuda
    stream = Stream()
    properties = SimpleNamespace(
        name=NAME,
        major=CAPABILITY[0],
        minor=CAPABILITY[1],
        total_memory=_MEMORY,
        multi_processor_count=132,
        warp_size=32,
        max_threads_per_multi_processor=2048,
        shared_memory_per_block=49152,
        shared_memory_per_block_optin=232448,
        regs_per_multiprocessor=65536,
        L2_cache_size=50 * 1024**2,
        is_integrated=False,
        gcnArchName="",
    )
    # Dynamo keeps a table of torch's functions by identity: no two names may have one.
    cuda.Stream, cuda.ExternalStream, cuda.Event = Stream, type("ExternalStream", (Stream,), {}), Event
    cuda.current_stream = lambda device=None: stream
    cuda.default_stream = lambda device=None: stream
    cuda.StreamContext = type("StreamContext", (contextlib.nullcontext,), {})
    cuda.stream = lambda given=None: cuda.StreamContext(given)
    torch.Tensor.record_stream = lambda tensor, given: None
    cuda.set_stream = lambda given: None
    for name in ("synchronize", "set_device", "init", "_lazy_init", "empty_cache", "ipc_collect"):
        setattr(cuda, name, _nothing())
    for name in ("reset_peak_memory_stats", "reset_max_memory_allocated", "reset_max_memory_cached"):
        _set_everywhere(cuda, name, _nothing())
    for name in ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"):
        _set_everywhere(cuda, name, lambda device=None: 0)
    _set_everywhere(cuda, "memory_stats", lambda device=None: {})
    _set_everywhere(cuda, "memory_summary", lambda device=None, abbreviated=False: f"{NAME}: no memory of its own")
    _set_everywhere(cuda, "mem_get_info", lambda device=None: (_MEMORY, _MEMORY))
    cuda.current_device = lambda: 0
    cuda.is_initialized = lambda: says_available
    cuda.get_device_name = lambda device=None: NAME
    cuda.get_device_capability = lambda device=None: CAPABILITY
    cuda.get_device_properties = lambda device=None: properties
    cuda.get_arch_list = lambda: ["sm_90"]
    cuda.can_device_access_peer = lambda device, peer: False
    cuda.device, cuda.device_of = _Device, type("_DeviceOf", (_Device,), {})
    _replace_random(torch, cuda)
    _replace_marks(cuda)
    if says_available:
        cuda.is_available = lambda: True
        cuda.device_count = lambda: 1
        cuda.is_bf16_supported = lambda including_emulation=True: True
    for name, dtype in _LEGACY_TYPES.items():
        setattr(cuda, name, _legacy_type(torch, name, getattr(torch, dtype), mark, is_marked))


def legacy_name(torch: Any, tensor: Any) -> str:
    """What `tensor.type()` says of a tensor on CUDA."""
    for name, dtype in _LEGACY_TYPES.items():
        if tensor.dtype == getattr(torch, dtype):
            return f"torch.cuda.{name}"
    return str(torch.Tensor.type(tensor))


def _replace_random(torch: Any, cuda: Any) -> None:
    """There is one generator of random numbers, the one of the CPU."""
    generator = torch.default_generator
    for name in ("manual_seed", "manual_seed_all"):
        _set_everywhere(cuda, name, lambda seed: generator.manual_seed(int(seed)) and None)
    for name in ("seed", "seed_all"):
        _set_everywhere(cuda, name, lambda: generator.seed() and None)
    _set_everywhere(cuda, "initial_seed", lambda: generator.initial_seed())
    _set_everywhere(cuda, "get_rng_state", lambda device="cuda": generator.get_state())
    _set_everywhere(cuda, "get_rng_state_all", lambda: [generator.get_state()])
    _set_everywhere(cuda, "set_rng_state", lambda state, device="cuda": generator.set_state(state) and None)
    _set_everywhere(cuda, "set_rng_state_all", lambda states: generator.set_state(states[0]) and None)


def _replace_marks(cuda: Any) -> None:
    """Marks for profilers."""
    nvtx = getattr(cuda, "nvtx", None)
    if nvtx is None:
        return

    @contextlib.contextmanager
    def marked(message: str = "", *args: Any, **kwargs: Any) -> Iterator[None]:
        yield

    for name in ("range_push", "range_pop", "range_start", "range_end", "mark"):
        setattr(nvtx, name, lambda *args, **kwargs: 0)
    nvtx.range = marked


class _Device:
    """`with torch.cuda.device(0)`: there is only one."""

    def __init__(self, device: Any = None) -> None:
        self.idx = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: Any) -> bool:
        return False


def _legacy_type(torch: Any, name: str, dtype: Any, mark: Callable[[Any], None], is_marked: Any) -> Any:
    class Legacy(type):
        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, torch.Tensor) and value.dtype == dtype and is_marked(value)

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            kwargs.pop("device", None)
            with torch._C.DisableTorchFunction():
                if args and isinstance(args[0], (list, tuple)):
                    made = torch.tensor(args[0], dtype=dtype)
                elif args and isinstance(args[0], torch.Tensor):
                    made = args[0].to(dtype).clone()
                else:
                    made = torch.empty(args or (0,), dtype=dtype)
            mark(made)
            return made

        def __str__(cls) -> str:
            return f"<class 'torch.cuda.{name}'>"

    return Legacy(name, (), {"dtype": dtype, "is_cuda": True, "__module__": "torch.cuda"})


def _set_everywhere(cuda: Any, name: str, value: Any) -> None:
    """In `torch.cuda`, and in the module that it comes from."""
    for holder in (cuda, getattr(cuda, "memory", None), getattr(cuda, "random", None)):
        if holder is not None and hasattr(holder, name):
            setattr(holder, name, value)


def _nothing() -> Callable[..., None]:
    return lambda *args, **kwargs: None


def replace_autocast(torch: Any, asks_for_cuda: Callable[[Any], bool], noted: Callable[[], None]) -> None:
    """Autocast for CUDA becomes that of the CPU, in the type that CUDA would have had."""
    kind = torch.amp.autocast_mode.autocast
    original = kind.__init__

    @functools.wraps(original)
    def begin(self: Any, device_type: Any = "cuda", dtype: Any = None, *args: Any, **kwargs: Any) -> None:
        if asks_for_cuda(device_type):
            noted()
            device_type, dtype = "cpu", torch.float16 if dtype is None else dtype
        original(self, device_type, dtype, *args, **kwargs)

    kind.__init__ = begin


def replace_generator(torch: Any, asks_for_cuda: Callable[[Any], bool]) -> None:
    """A generator on CUDA is one on the CPU that says otherwise."""
    original = torch.Generator

    class Kind(type(original)):  # type: ignore[misc]
        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, original)

    class Generator(original, metaclass=Kind):  # type: ignore[misc,valid-type]
        def __new__(cls, device: Any = "cpu") -> Any:
            return original.__new__(cls, device="cpu") if asks_for_cuda(device) else original(device)

        @property
        def device(self) -> Any:
            return torch.device("cuda", 0)

    Generator.__module__, Generator.__qualname__ = original.__module__, original.__qualname__
    torch.Generator = Generator


def tensors_in(torch: Any, value: Any) -> List[Any]:
    """All tensors of something loaded."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, torch.nn.Module):
        return [*value.parameters(), *value.buffers()]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors_in(torch, item)]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_in(torch, item)]
    return []
