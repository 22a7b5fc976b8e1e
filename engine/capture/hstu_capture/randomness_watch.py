"""Whether the script drew random numbers from generators that nobody had seeded."""

import functools
import sys
from types import FrameType
from typing import Any, Callable, Dict, List, Optional, Tuple

from .import_hooks import after_import
from .source_frames import first_user_frame

_MAX_PLACES = 100


class RandomnessWatch:
    """
    Follows the global generators of Python, NumPy and torch from the import of their modules; each starts with another
    seed in every process. Drawing costs nothing: whether numbers were drawn shows in the generator's state when it is
    seeded, and at the end.
    """

    def __init__(self) -> None:
        self._unseeded: Dict[str, None] = {}
        self._seeded: Dict[str, None] = {}
        self._generators: List[_GlobalGenerator] = []

    def install(self) -> None:
        after_import("random", self._watch_random)
        after_import("numpy.random", self._watch_numpy)
        after_import("torch", self._watch_torch)

    def report(self) -> Dict[str, List[str]]:
        for generator in self._generators:
            generator.look()
        return {"unseeded": list(self._unseeded), "seeded": list(self._seeded)}

    def note_unseeded(self, name: str) -> None:
        self._unseeded[name] = None

    def note_seeded(self, function: str) -> None:
        frame = first_user_frame(sys._getframe(1))
        if frame is not None and len(self._seeded) < _MAX_PLACES:
            self._seeded[f"{function} at {frame.file}:{frame.line}"] = None

    def _watch_random(self, module: Any) -> None:
        generator = _GlobalGenerator(self, "random", module.getstate, lambda state: state)
        self._generators.append(generator)
        _wrap(module, "seed", generator.seeding("random.seed"))
        _wrap(module, "getstate", generator.reading())
        _wrap(module, "setstate", generator.setting())

    def _watch_numpy(self, module: Any) -> None:
        # The legacy state is a tuple or a dict with one array in it.
        generator = _GlobalGenerator(self, "numpy", module.get_state, _without_arrays)
        self._generators.append(generator)
        _wrap(module, "seed", generator.seeding("numpy.random.seed"))
        _wrap(module, "get_state", generator.reading())
        _wrap(module, "set_state", generator.setting())
        # Every other generator that gets no seed takes its entropy from here.
        bits = sys.modules.get("numpy.random.bit_generator")
        if hasattr(bits, "randbits"):
            _wrap(bits, "randbits", self._noting_entropy)
        _wrap(module, "default_rng", self._seeding_where_given("numpy.random.default_rng"))

    def _noting_entropy(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def randbits(*args: Any, **kwargs: Any) -> Any:
            # `RandomState(seed)` asks for entropy before it takes its seed.
            if not _is_called_with_a_value(sys._getframe(1)):
                self.note_unseeded("numpy")
            return original(*args, **kwargs)

        return randbits

    def _watch_torch(self, torch: Any) -> None:
        default = getattr(torch, "default_generator", None)
        if default is None:
            return
        generator = _GlobalGenerator(self, "torch", default.get_state, lambda state: bytes(state.tolist()))
        self._generators.append(generator)
        # The same functions under two names: what one of them is replaced by, the other becomes as well.
        for name, wrapper in (
            ("seed", generator.seeding("torch.seed")),
            ("manual_seed", generator.seeding("torch.manual_seed")),
            ("get_rng_state", generator.reading()),
            ("set_rng_state", generator.setting()),
        ):
            _wrap(torch, name, wrapper)
            setattr(torch.random, name, getattr(torch, name))

    def _seeding_where_given(self, function: str) -> "_Wrapper":
        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def seed(*args: Any, **kwargs: Any) -> Any:
                if _is_given(args, kwargs):
                    self.note_seeded(function)
                return original(*args, **kwargs)

            return seed

        return wrapper


_Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


class _GlobalGenerator:
    def __init__(
        self, watch: RandomnessWatch, name: str, get_state: Callable[[], Any], comparable: Callable[[Any], Any]
    ) -> None:
        self._watch = watch
        self._name = name
        self._get_state = get_state
        self._comparable = comparable
        # The state from which everything would be unseeded; None once a seed was given.
        self._start: Optional[Any] = self._state()
        # States that follow from no seed, which the script or a library saved to set them again.
        self._saved_unseeded: "set[Any]" = set()

    def look(self) -> None:
        """Whether numbers were drawn since the last look, without any seed."""
        if self._start is None:
            return
        state = self._state()
        if state != self._start:
            self._watch.note_unseeded(self._name)
            self._start = state

    def seeding(self, function: str) -> _Wrapper:
        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def seed(*args: Any, **kwargs: Any) -> Any:
                self.look()
                result = original(*args, **kwargs)
                if _is_given(args, kwargs):
                    self._start = None
                    self._watch.note_seeded(function)
                else:
                    self._start = self._state()
                return result

            return seed

        return wrapper

    def reading(self) -> _Wrapper:
        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def get_state(*args: Any, **kwargs: Any) -> Any:
                self.look()
                if self._start is not None:
                    self._saved_unseeded.add(self._start)
                return original(*args, **kwargs)

            return get_state

        return wrapper

    def setting(self) -> _Wrapper:
        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def set_state(*args: Any, **kwargs: Any) -> Any:
                self.look()
                result = original(*args, **kwargs)
                state = self._state()
                self._start = state if state in self._saved_unseeded else None
                return result

            return set_state

        return wrapper

    def _state(self) -> Any:
        return hash(self._comparable(self._get_state()))


def _without_arrays(state: Any) -> Tuple[Any, ...]:
    """NumPy's legacy state in a form that can be hashed."""
    return tuple(part.tobytes() if hasattr(part, "tobytes") else part for part in state)


def _is_given(args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bool:
    return any(value is not None for value in (*args, *kwargs.values()))


def _is_called_with_a_value(frame: FrameType) -> bool:
    """Whether the native function that `frame` is calling got one argument, plain to see, and that is not None."""
    import dis

    before: List[dis.Instruction] = []
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset == frame.f_lasti:
            break
        if instruction.opname not in ("CACHE", "PRECALL", "KW_NAMES", "EXTENDED_ARG"):
            before.append(instruction)
    else:
        return False
    if not instruction.opname.startswith("CALL") or instruction.arg != 1 or not before:
        return False
    value = before[-1]
    if value.opname == "LOAD_CONST":
        return value.argval is not None
    if value.opname.startswith(("LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF")):
        return frame.f_locals.get(value.argval, frame.f_globals.get(value.argval)) is not None
    return False


def _wrap(module: Any, name: str, wrapper: _Wrapper) -> None:
    original = getattr(module, name, None)
    if original is not None and not hasattr(original, "_hstu_capture"):
        wrapped = wrapper(original)
        wrapped._hstu_capture = True  # type: ignore[attr-defined]
        setattr(module, name, wrapped)
