"""Values as JSON, in the form that the engine reads (engine/protocol/wire.ts)."""

import enum
import math
from typing import Any, Callable, Optional


def to_wire(value: float) -> Any:
    """JSON knows no NaN, infinity or negative zero: these travel as words."""
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        if value == 0 and math.copysign(1.0, value) < 0:
            return "-0"
    return value


def to_json(value: Any, encode: Callable[[Any], Optional[Any]] = lambda value: None) -> Any:
    """An attribute's value as JSON. `encode` may give the form of a framework's own type; None passes it on."""
    if value is None or isinstance(value, (bool, str)):
        return value
    own = encode(value)
    if own is not None:
        return own
    if isinstance(value, (int, float)):
        return to_wire(value)
    if isinstance(value, slice):
        return {"slice": [to_json(part, encode) for part in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return "..."
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item, encode) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item, encode) for key, item in value.items()}
    if getattr(value, "shape", ()) != () and hasattr(value, "tolist"):
        return to_json(value.tolist(), encode)
    if hasattr(value, "__index__"):
        try:
            return int(value)
        except (TypeError, ValueError):
            pass
    return str(value)
