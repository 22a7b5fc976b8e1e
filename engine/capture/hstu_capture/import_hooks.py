"""Runs code when the user's script imports a framework, so that scripts without it pay nothing."""

import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable, Optional


def after_import(
    name: str, run: Callable[[ModuleType], None], before: Callable[[], None] = lambda: None
) -> None:
    """Calls `before` when the module `name` is about to be executed and `run` with it right after."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        run(loaded)
        return
    sys.meta_path.insert(0, _Finder(name, before, run))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, before: Callable[[], None], run: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._before = before
        self._run = run
        self._searching = False

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Optional[ModuleSpec]:
        if fullname != self._name or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._searching = False
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Loader(spec.loader, self._before, self._after)
        return spec

    def _after(self, module: ModuleType) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._run(module)


class _Loader(importlib.abc.Loader):
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
        self._after(module)
