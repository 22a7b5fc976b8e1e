"""
Watches NVIDIA's own nvtripy: records every program that it compiles, with the names and lines of the user's source.

Where the backend is stood in for, programs are executed here (small integer ones) or by the engine (tripy_backend).
"""

import contextlib
import functools
import itertools
import sys
import threading
from types import FrameType
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from .arguments import bound_arguments, named_tensors
from .fast_stack_info import install_fast_stack_info
from .identity_map import IdentityMap
from .session import Session
from .source_frames import SourceFrame, first_user_frame, is_user_file, treat_as_library, user_frames
from .stand_ins import used_stand_ins
from .tensor_names import Instances, NameTracker
from .tripy_backend import TripyBackend


class Place(NamedTuple):
    """Where a tensor was made."""

    frames: Tuple[SourceFrame, ...]
    instance: str
    call: int
    # Where the user made the library's module in whose code it was made.
    constructed: Optional[SourceFrame]


class Parameter(NamedTuple):
    name: str
    declared: Optional[SourceFrame]


class Notes:
    """What is known about one trace tensor beyond what nvtripy keeps; lives as an attribute of the tensor."""

    __slots__ = ("names", "argument_names", "parameter", "argument", "program", "made_by")

    def __init__(self) -> None:
        self.names: List[str] = []
        self.argument_names: List[str] = []
        self.parameter: Optional[Parameter] = None
        # The name of the argument of the outermost call that it came in by.
        self.argument: Optional[str] = None
        # What the outermost call that it came out of is called.
        self.program: Optional[str] = None
        # The number of the model that was called then.
        self.made_by: Optional[int] = None


def notes_of(trace_tensor: Any) -> Notes:
    notes = getattr(trace_tensor, "_hstu_capture", None)
    if notes is None:
        notes = trace_tensor._hstu_capture = Notes()
    return notes


def place_of(stack_info: Any) -> Optional[Place]:
    return getattr(stack_info, "_hstu_capture", None)


class TripyObserver:
    def __init__(self, session: Session, nvtripy: Any) -> None:
        self._session = session
        self._tripy = nvtripy
        self._active = threading.local()
        self._declared: IdentityMap[Dict[str, SourceFrame]] = IdentityMap(dict)
        # Where the user's code made each module of the library.
        self._constructed: IdentityMap[List[Optional[SourceFrame]]] = IdentityMap(list)
        # Modules and functions that were called or compiled, numbered as they come.
        self._count = itertools.count()
        self._numbers: IdentityMap[int] = IdentityMap(lambda: next(self._count))
        self._methods: IdentityMap[Dict[str, int]] = IdentityMap(dict)

    def install(self) -> None:
        tripy = self._tripy
        treat_as_library(tripy.__path__[0])
        install_fast_stack_info(tripy, self._annotate)
        self._observe_modules(tripy.Module)
        self._observe_constants(tripy.Tensor)
        self._observe_compile()
        TripyBackend(self._session, tripy, used_stand_ins(), self._parameters, self._compiled_object).install()

    def _annotate(self, stack_info: Any, frames: Tuple[SourceFrame, ...]) -> None:
        call: Optional[_Call] = getattr(self._active, "call", None)
        inside = call.instances if call else Instances()
        stack_info._hstu_capture = Place(frames, inside.path, inside.call, inside.constructed)

    def _observe_modules(self, module_type: Any) -> None:
        self._observe_type(module_type)
        # nvtripy's own modules wrap what Module had when they were defined.
        for derived in _derived_types(module_type):
            self._observe_type(derived)

    def _observe_type(self, module_type: Any) -> None:
        if "__call__" in vars(module_type):
            module_type.__call__ = self._observed_call(module_type.__call__)
        if "__setattr__" in vars(module_type):
            module_type.__setattr__ = self._observed_set(module_type.__setattr__)

    def _observed_call(self, original: Any) -> Any:
        @functools.wraps(original)
        def call(module: Any, *args: Any, **kwargs: Any) -> Any:
            active: Optional[_Call] = getattr(self._active, "call", None)
            if active is not None:
                if not active.knows(module):
                    self._adopt(active, module)
                with active.inside(module, self._place_of_construction(module)):
                    return original(module, *args, **kwargs)
            arguments = bound_arguments(module.forward, args, kwargs)
            call = self._outermost(module, type(module).__name__, arguments, self._number_of(module))
            with call as outermost, outermost.inside(module, self._place_of_construction(module)):
                result = original(module, *args, **kwargs)
            outermost.came_out(self._tripy.Tensor, result)
            return result

        return call

    def _observed_set(self, original: Any) -> Any:
        @functools.wraps(original)
        def set_attribute(module: Any, name: str, value: Any) -> None:
            original(module, name, value)
            self._note_declaration(module, name, value, sys._getframe(1))
            place = self._constructed.of(module)
            if not place:
                # Its constructor sets its attributes.
                place.append(None if _is_users(module) else first_user_frame(sys._getframe(1)))

        return set_attribute

    def _place_of_construction(self, module: Any) -> Optional[SourceFrame]:
        return next(iter(self._constructed.of(module)), None)

    def _observe_constants(self, tensor_type: Any) -> None:
        """A tensor made through DLPack carries no stack: the frontend leaves it out for speed."""
        original = tensor_type.__init__

        @functools.wraps(original)
        def init(tensor: Any, *args: Any, **kwargs: Any) -> None:
            original(tensor, *args, **kwargs)
            if place_of(tensor._stack_info) is None:
                self._annotate(tensor._stack_info, user_frames(sys._getframe(1)))

        tensor_type.__init__ = init

    def _observe_compile(self) -> None:
        tripy = self._tripy
        original = tripy.compile
        module_type = tripy.Module
        observer = self

        @functools.wraps(original)
        def compile_(func: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(observer._active, "call", None) is not None:
                return original(func, *args, **kwargs)
            root = func if isinstance(func, module_type) else None
            label = type(func).__name__ if root is not None else getattr(func, "__name__", type(func).__name__)
            with observer._outermost(root, label, {}, observer._number_of(func)):
                return original(func, *args, **kwargs)

        tripy.compile = compile_
        sys.modules["nvtripy.backend.api.compile"].compile = compile_  # type: ignore[attr-defined]

    def _adopt(self, call: "_Call", module: Any) -> None:
        """A module that the compiled function or the model calls without holding it: its parameters have names too."""
        made_anew = not _is_users(module)
        if made_anew and call.root is not None:
            return
        call.adopt(module)
        for parameter, trace_tensor in self._parameters_of(module):
            if id(trace_tensor) in call.named:
                continue
            named = parameter._replace(name=call.free_name(parameter.name, type(module).__name__))
            notes_of(trace_tensor).parameter = named
            call.named.add(id(trace_tensor))
            call.adopted.append((named, trace_tensor))

    def _number_of(self, target: Any) -> Optional[int]:
        owner = getattr(target, "__self__", None)
        try:
            if owner is None:
                return self._numbers.of(target)
            # A bound method is made anew by each access: its object and its name stay.
            methods = self._methods.of(owner)
            name = target.__name__
            if name not in methods:
                methods[name] = next(self._count)
            return methods[name]
        except TypeError:
            return None

    def _compiled_object(self) -> Optional[int]:
        call: Optional[_Call] = getattr(self._active, "call", None)
        return call.number if call is not None else None

    def _outermost(self, root: Any, label: str, arguments: Dict[str, Any], number: Optional[int]) -> "_Call":
        tensor_type = self._tripy.Tensor
        call = _Call(self._active, root, label, tensor_type, number)
        for parameter, trace_tensor in self._parameters_of(root):
            notes_of(trace_tensor).parameter = parameter
            call.named.add(id(trace_tensor))
        for name, tensor in named_tensors(tensor_type, arguments):
            notes_of(tensor.trace_tensor).argument = name
        return call

    def _parameters(self) -> List[Tuple[Parameter, Any]]:
        """All parameters of the model that is being compiled, whether its program uses them or not."""
        call: Optional[_Call] = getattr(self._active, "call", None)
        return [*self._parameters_of(call.root), *call.adopted] if call is not None else []

    def _parameters_of(self, root: Any) -> Iterator[Tuple[Parameter, Any]]:
        if root is None:
            return
        for name, owner, attribute, tensor in members(self._tripy, root):
            if isinstance(tensor, self._tripy.Tensor):
                yield Parameter(name, self._declared.of(owner).get(attribute)), tensor.trace_tensor

    def _note_declaration(self, module: Any, name: str, value: Any, frame: FrameType) -> None:
        parameter_types = (self._tripy.Tensor, self._tripy.frontend.module.parameter.ParameterBase)
        if isinstance(value, (list, tuple)):
            holds = any(isinstance(item, parameter_types) for item in value)
        elif isinstance(value, dict):
            holds = any(isinstance(item, parameter_types) for item in value.values())
        else:
            holds = isinstance(value, parameter_types)
        declared = self._declared.of(module)
        if not holds or name in declared:
            return
        place = first_user_frame(frame)
        if place is not None:
            declared[name] = place


class _Call:
    """The outermost call under way: a model's, or that of `tp.compile`."""

    def __init__(self, active: Any, root: Any, label: str, tensor_type: type, number: Optional[int]) -> None:
        self.instances = Instances()
        self.label = label
        self.number = number
        self._active = active
        self.root = root
        # Parameters of modules that are called but belong to no attribute of the root.
        self.adopted: List[Tuple[Parameter, Any]] = []
        # Trace tensors that have got a parameter's name in this call.
        self.named: Set[int] = set()
        held = _instances(root) if root is not None else ()
        self._paths: Dict[int, Optional[str]] = {id(module): path for path, module in held}
        # They must live as long as their identities are looked for.
        self._kept: List[Any] = []
        self._names = NameTracker(tensor_type, _resolve, _bind, self.instances)

    def __enter__(self) -> "_Call":
        self._active.call = self
        self._names.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._names.stop()
        self._active.call = None

    def knows(self, module: Any) -> bool:
        return id(module) in self._paths

    def adopt(self, module: Any) -> None:
        """The module and those that it holds get paths below the one that calls it."""
        base = self.instances.child_path(type(module).__name__)
        for path, inner in _instances(module):
            if id(inner) not in self._paths:
                # A library's module that no attribute holds, such as a LayerNorm made anew, is part of its caller.
                own = (path or _is_users(inner)) and f"{base}.{path}".rstrip(".")
                self._paths[id(inner)] = own or None
                self._kept.append(inner)

    def free_name(self, name: str, kind: str) -> str:
        taken = {parameter.name for parameter, _ in self.adopted}
        candidates = itertools.chain((name, f"{kind}.{name}"), (f"{kind}#{k}.{name}" for k in itertools.count(1)))
        return next(candidate for candidate in candidates if candidate not in taken)

    @contextlib.contextmanager
    def inside(self, module: Any, constructed: Optional[SourceFrame]) -> Iterator[None]:
        path = self._paths.get(id(module))
        if path is not None:
            self.instances.enter(path)
        try:
            with self.instances.made_at(constructed):
                yield
        finally:
            if path is not None:
                self.instances.leave()

    def came_out(self, tensor_type: type, result: Any) -> None:
        for _, tensor in named_tensors(tensor_type, {"output": result}):
            notes = notes_of(tensor.trace_tensor)
            notes.program, notes.made_by = self.label, self.number


def _is_users(module: Any) -> bool:
    return is_user_file(getattr(sys.modules.get(type(module).__module__), "__file__", None) or "<")


def members(nvtripy: Any, module: Any, prefix: str = "") -> Iterator[Tuple[str, Any, str, Any]]:
    """Parameters by the keys that nvtripy's state dict gives them: key, owner, the owner's attribute, value."""
    parameter_types = (nvtripy.Tensor, nvtripy.frontend.module.parameter.ParameterBase)
    for name, attribute, value in _items(module):
        if isinstance(value, parameter_types):
            yield prefix + name, module, attribute, value
        elif isinstance(value, nvtripy.Module):
            yield from members(nvtripy, value, f"{prefix}{name}.")


def _instances(root: Any) -> Iterator[Tuple[str, Any]]:
    bases = type(root).__mro__
    module_type = next(base for base in bases if base.__module__.startswith("nvtripy.frontend.module.module"))
    seen = set()

    def walk(path: str, module: Any) -> Iterator[Tuple[str, Any]]:
        if id(module) in seen:
            return
        seen.add(id(module))
        yield path, module
        for name, _, value in _items(module):
            if isinstance(value, module_type):
                yield from walk(f"{path}.{name}" if path else name, value)

    return walk("", root)


def _items(module: Any) -> Iterator[Tuple[str, str, Any]]:
    """Attributes and the items of lists and dicts among them: name, attribute, value."""
    for name, value in list(vars(module).items()):
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}.{index}", name, item) for index, item in enumerate(value))
        elif isinstance(value, dict):
            yield from ((f"{name}.{key}", name, item) for key, item in value.items())
        else:
            yield name, name, value


def _derived_types(module_type: Any) -> Iterator[Any]:
    for derived in module_type.__subclasses__():
        yield derived
        yield from _derived_types(derived)


def _resolve(tensor: Any) -> Optional[Tuple[Any, Any]]:
    # A tensor that was evaluated is the same to the user but another one in the program.
    trace_tensor = tensor.__dict__.get("_trace_tensor")
    return None if trace_tensor is None else (_Identity(tensor), _Identity(trace_tensor))


class _Identity:
    """Tripy's tensors compare element by element: identity must be asked for."""

    __slots__ = ("object",)

    def __init__(self, value: Any) -> None:
        self.object = value

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Identity) and self.object is other.object

    def __hash__(self) -> int:
        return id(self.object)


def _bind(handle: _Identity, name: str, argument: bool) -> None:
    notes = notes_of(handle.object)
    if name not in notes.names and name not in notes.argument_names:
        (notes.argument_names if argument else notes.names).append(name)
