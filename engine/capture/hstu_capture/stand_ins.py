"""Puts the packages that stand in for NVIDIA's backend on the path, where the real ones are absent or unwanted."""

import importlib.util
import os
import sys
from typing import List

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "standins")
PACKAGES = ("mlir_tensorrt", "tensorrt")


def offer_stand_ins(always: bool) -> None:
    """At the end of the path real packages win; at its start the stand-ins do."""
    if always:
        sys.path.insert(0, FOLDER)
    elif any(_is_absent(package) for package in PACKAGES):
        sys.path.append(FOLDER)


def used_stand_ins() -> List[str]:
    """The packages that were stood in for in this process."""
    used = []
    for package in PACKAGES:
        file = getattr(sys.modules.get(package), "__file__", None)
        if file is not None and os.path.abspath(file).startswith(FOLDER + os.sep):
            used.append(package)
    return used


def _is_absent(package: str) -> bool:
    return package not in sys.modules and importlib.util.find_spec(package) is None
