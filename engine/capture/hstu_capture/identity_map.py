"""Notes about objects that may be neither hashable nor comparable, such as modules that are dataclasses."""

import weakref
from typing import Any, Callable, Dict, Generic, Tuple, TypeVar

Value = TypeVar("Value")


class IdentityMap(Generic[Value]):
    """Keeps a value for each object, by its identity and for as long as the object lives."""

    def __init__(self, default: Callable[[], Value]) -> None:
        self._default = default
        self._entries: Dict[int, Tuple[Any, Value]] = {}

    def of(self, key: Any) -> Value:
        """The value for `key`, made now if there is none."""
        number = id(key)
        entry = self._entries.get(number)
        if entry is None:
            # The entry goes when the object does, so that another object with its number starts anew.
            entries = self._entries
            entry = entries[number] = (weakref.ref(key, lambda _: entries.pop(number, None)), self._default())
        return entry[1]
