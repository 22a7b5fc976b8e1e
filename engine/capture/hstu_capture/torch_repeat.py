"""Calls a module a second time, to measure how far its results are from one call to the next."""

import functools
from typing import Any, Dict, Tuple

from .arguments import bound_arguments, named_tensors
from .torch_recorder import TorchRecorder, same_outcome


def prepare_repeat(torch: Any, root: Any, args: Any, kwargs: Any) -> Tuple[Any, Any, Dict[str, Any]]:
    """The first run may write into its inputs and buffers: the second one starts from copies."""
    with torch._C.DisableTorchFunction(), torch.no_grad():
        copy = functools.partial(copied, torch.Tensor)
        return copy(args), copy(kwargs), {n: b.detach().clone() for n, b in root.named_buffers()}


def repeat(
    torch: Any, root: Any, recorder: TorchRecorder, args: Any, kwargs: Any, buffers: Any, observed: Any
) -> None:
    """`observed` is a context in which operations go to the recorder that it is given."""
    second = recorder.comparing()
    current = dict(root.named_buffers())
    modes = [(module, module.training) for module in root.modules()]
    with torch._C.DisableTorchFunction(), torch.no_grad():
        after = {name: tensor.detach().clone() for name, tensor in current.items()}
        for name, tensor in buffers.items():
            current[name].copy_(tensor)
        for tensor in (*root.parameters(), *root.buffers()):
            second.tensor_of(tensor)
        for _, tensor in named_tensors(torch.Tensor, bound_arguments(root.forward, args, kwargs)):
            second.tensor_of(tensor)
    root.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), observed(second):
            root(*args, **kwargs)
    finally:
        for module, training in modes:
            module.training = training
        with torch._C.DisableTorchFunction(), torch.no_grad():
            for name, tensor in after.items():
                current[name].copy_(tensor)
    same_outcome(recorder, second)


def copied(tensor_type: type, value: Any) -> Any:
    """The same nested value with copies of its tensors."""
    if isinstance(value, tensor_type):
        return value.detach().clone()  # type: ignore[attr-defined]
    if isinstance(value, tuple):
        items = [copied(tensor_type, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [copied(tensor_type, item) for item in value]
    if isinstance(value, dict):
        return {key: copied(tensor_type, item) for key, item in value.items()}
    return value
