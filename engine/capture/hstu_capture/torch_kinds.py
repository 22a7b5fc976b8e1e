"""Names of torch's own functions that torch itself would need its whole table of functions to find."""

from typing import Any, Dict, Optional


def add_kinds(torch: Any, kinds: Dict[Any, Optional[str]]) -> None:
    """Building that table takes half a second, and only functions of these modules are ever looked up in it."""
    for name in ("linalg", "special", "fft"):
        module = getattr(torch, name, None)
        for member in dir(module):
            function = getattr(module, member)
            if getattr(function, "__module__", "") == f"torch._C._{name}":
                kinds.setdefault(function, f"torch.{name}.{member}")
