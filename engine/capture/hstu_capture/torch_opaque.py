"""Compiled and scripted code: it works as ever, and is one operation of the trace."""

import functools
import sys
from typing import Any, Callable, Dict, List, Optional

from .arguments import named_tensors


def opaque_kind(torch: Any, module: Any) -> Optional[str]:
    """What a module is, if its calls are not to be looked into."""
    if isinstance(module, torch.jit.ScriptModule):
        return "torch.jit"
    if getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == "OptimizedModule":
        return "torch.compile"
    return None


class OpaqueCalls:
    def __init__(self, torch: Any, observer: Any) -> None:
        self._torch = torch
        self._observer = observer
        self._is_observed = False
        self._is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)

    def install(self) -> None:
        torch = self._torch
        compile_it = getattr(torch, "compile", None)
        if compile_it is not None:
            torch.compile = self._compile(compile_it)
        for name in ("trace", "trace_module"):
            self._hide(torch.jit, name)
        for holder in (torch._C.ScriptFunction, torch._C.ScriptMethod):
            self._observe_scripted(holder)

    def _compile(self, original: Any) -> Any:
        @functools.wraps(original)
        def compile_it(model: Any = None, *args: Any, **kwargs: Any) -> Any:
            if model is None:
                decorate = original(model, *args, **kwargs)
                return lambda function: self._compiled(function, decorate(function))
            return self._compiled(model, original(model, *args, **kwargs))

        return compile_it

    def _hide(self, holder: Any, name: str) -> None:
        """Tracing calls the module to read it, and again to check what it read."""
        original = getattr(holder, name, None)
        if original is None:
            return

        @functools.wraps(original)
        def hidden(*args: Any, **kwargs: Any) -> Any:
            return self._observer.paused(functools.partial(original, *args, **kwargs))

        setattr(holder, name, hidden)

    def _compiled(self, source: Any, compiled: Any) -> Any:
        if isinstance(compiled, self._torch.nn.Module):
            kind = type(compiled)
            if not self._is_observed and "__call__" in kind.__dict__:
                self._is_observed = True
                self._observer.observe_calls_of(kind)
            return compiled
        if not callable(compiled) or getattr(source, "__name__", "") == "_call_impl":
            # `module.compile()` compiles the module's own call, which is observed as such.
            return compiled

        is_compiling = self._is_compiling

        @functools.wraps(compiled)
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return compiled(*args, **kwargs)
            return self._call(
                "torch.compile",
                source,
                lambda: compiled(*args, **kwargs),
                lambda: source(*args, **kwargs),
                args,
                kwargs,
                sys._getframe(1),
            )

        return call

    def _observe_scripted(self, holder: Any) -> None:
        original = holder.__call__
        is_compiling = self._is_compiling

        def call(function: Any, *args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return original(function, *args, **kwargs)

            def run() -> Any:
                return original(function, *args, **kwargs)

            return self._call("torch.jit", function, run, run, args, kwargs, sys._getframe(1))

        holder.__call__ = call

    def _call(
        self,
        kind: str,
        source: Any,
        run: Callable[[], Any],
        plain: Callable[[], Any],
        args: Any,
        kwargs: Any,
        frame: Any,
    ) -> Any:
        observer = self._observer
        if observer.must_pass():
            return run()
        label = getattr(source, "name", None) or getattr(source, "__name__", None) or type(source).__name__

        def tensors() -> List[Any]:
            given: Dict[str, Any] = {"args": args, "kwargs": kwargs}
            return [tensor for _, tensor in named_tensors(self._torch.Tensor, given)]

        def opaque() -> Any:
            return observer.run_opaque(kind, str(label), tensors, run, plain, frame)

        return observer.call_opaque_function(source, str(label), args, kwargs, opaque, frame)
