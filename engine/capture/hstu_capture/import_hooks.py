"""Runs code when the user's script imports a framework, so that scripts without it pay nothing."""

import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, Optional, Set


def after_import(
    name: str, run: Callable[[ModuleType], None], before: Callable[[], None] = lambda: None
) -> None:
    """
    Calls `before` when the module `name` is about to be executed and `run` with it right after. Several hooks for one
    module are all called.
    """
    loaded = sys.modules.get(name)
    if loaded is not None:
        run(loaded)
        return
    sys.meta_path.insert(0, _Finder(name, before, run))


# The abstract classes of importlib.abc are left out: to import them costs more than the rest of the agent.
class _Finder:
    def __init__(self, name: str, before: Callable[[], None], run: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._before = before
        self._run = run
        # Threads that are asking the other finders: those may ask for the module in turn.
        self._searching: Set[int] = set()

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Optional[ModuleSpec]:
        thread = threading.get_ident()
        if fullname != self._name or thread in self._searching:
            return None
        self._searching.add(thread)
        try:
            spec = self._ask_others(fullname, path, target)
        finally:
            self._searching.discard(thread)
        if spec is None or not hasattr(spec.loader, "exec_module"):
            return spec
        spec.loader = _Loader(spec.loader, self._before, self._after)
        return spec

    def _ask_others(self, fullname: str, path: Any, target: Any) -> Optional[ModuleSpec]:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find is not None and finder is not self else None
            if spec is not None:
                return spec
        return None

    def _after(self, module: ModuleType) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._run(module)


class _Loader:
    def __init__(self, loader: Any, before: Callable[[], None], after: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._before = before
        self._after = after

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module must look as if nobody had been here.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._before()
        self._loader.exec_module(module)
        # A module may put another object into its own place.
        self._after(sys.modules.get(module.__name__, module))

    def __getattr__(self, name: str) -> Any:
        """Whoever looks for a module without importing it may ask the loader for its code or its file."""
        return getattr(self._loader, name)
