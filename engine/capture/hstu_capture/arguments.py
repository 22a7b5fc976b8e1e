"""The tensors that a call gets and gives, by the names that the user's source gives them."""

import dataclasses
import inspect
import itertools
import sys
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Set, Tuple

from .source_frames import is_user_file

_MAX_DEPTH = 8
# A data set or a vocabulary is no argument to look through.
_MAX_ELEMENTS = 1000
# Objects that refer to one another in many ways are reached along many paths.
_MAX_OBJECTS = 1000
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)


def bound_arguments(function: Callable[..., Any], args: Any, kwargs: Any) -> Dict[str, Any]:
    """The arguments of a call by the function's own names for them."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {**{f"arg{index}": value for index, value in enumerate(args)}, **kwargs}
    arguments: Dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        else:
            arguments[name] = value
    return arguments


def named_tensors(tensor_type: type, arguments: Dict[str, Any]) -> Iterator[Tuple[str, Any]]:
    """All tensors in nested arguments, named "past_payloads.timestamps" or "states.0"."""
    seen: Set[int] = set()
    left = itertools.count(_MAX_OBJECTS, -1)
    for name, value in arguments.items():
        yield from _named(tensor_type, name, value, 0, seen, left)


def children(value: Any) -> Optional[Iterable[Tuple[Any, Any]]]:
    """What a collection or a plain object of the user's holds, by key or attribute; None for anything else."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return zip(value._fields, value)
    if isinstance(value, (tuple, list)):
        return enumerate(value)
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (type, ModuleType)) or isinstance(value, _FUNCTIONS):
        return None
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    if isinstance(value, SimpleNamespace) or is_users_class(type(value)):
        return [*getattr(value, "__dict__", {}).items(), *_slots(value)]
    return None


def is_users_class(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    return file is not None and is_user_file(file)


def _slots(value: Any) -> Iterator[Tuple[str, Any]]:
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                yield name, getattr(value, name)


def _named(
    tensor_type: type, name: str, value: Any, depth: int, seen: Set[int], left: Iterator[int]
) -> Iterator[Tuple[str, Any]]:
    if isinstance(value, tensor_type):
        yield name, value
        return
    # Numbers and texts are most of what there is, and hold nothing.
    if depth >= _MAX_DEPTH or value is None or isinstance(value, (bool, int, float, str, bytes)):
        return
    if id(value) in seen:
        return
    items = children(value)
    if items is None or next(left) <= 0:
        return
    seen.add(id(value))
    for key, item in itertools.islice(items, _MAX_ELEMENTS):
        yield from _named(tensor_type, f"{name}.{key}", item, depth + 1, seen, left)
    # The same object at two places is named at both: only cycles end.
    seen.discard(id(value))
