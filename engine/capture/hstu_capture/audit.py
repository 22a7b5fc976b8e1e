"""Python's audit events, handed to whoever asked for them by name."""

import sys
from typing import Any, Callable, Dict, Tuple

Handlers = Dict[str, Callable[[Tuple[Any, ...]], None]]


def listen(*handlers: Handlers) -> None:
    """For the rest of the process: such a hook cannot be removed. Most events are of no interest, and come often."""
    find = {name: handler for group in handlers for name, handler in group.items()}.get

    def hook(event: str, arguments: Tuple[Any, ...]) -> None:
        handler = find(event)
        if handler is not None:
            try:
                handler(arguments)
            except Exception:
                # An error here would fail what the script is doing.
                return

    sys.addaudithook(hook)
