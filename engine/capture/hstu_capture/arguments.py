"""The tensors that a call gets and gives, by the names that the user's source gives them."""

import dataclasses
import inspect
from typing import Any, Callable, Dict, Iterator, Tuple

_MAX_DEPTH = 8


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
    for name, value in arguments.items():
        yield from _named(tensor_type, name, value, 0)


def _named(tensor_type: type, name: str, value: Any, depth: int) -> Iterator[Tuple[str, Any]]:
    if isinstance(value, tensor_type):
        yield name, value
        return
    if depth >= _MAX_DEPTH:
        return
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        items: Any = zip(value._fields, value)
    elif isinstance(value, (tuple, list)):
        items = enumerate(value)
    elif isinstance(value, dict):
        items = value.items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    else:
        return
    for key, item in items:
        yield from _named(tensor_type, f"{name}.{key}", item, depth + 1)
