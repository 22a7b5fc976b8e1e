"""Finds the function behind the kind of a recorded torch op, and says which ops cannot be evaluated again."""

import importlib
from typing import Any, Callable, Dict, Optional

from .torch_call_encoding import NotReplayable

# What these give is drawn from a generator, or is whatever was in memory.
_RANDOM = {
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli", "bernoulli_",
    "multinomial", "normal", "normal_", "uniform_", "random_", "exponential_", "cauchy_", "geometric_", "log_normal_",
    "poisson", "binomial", "gumbel_softmax", "rrelu", "rrelu_", "empty_like", "new_empty", "new_empty_strided",
    "native_dropout", "fractional_max_pool2d", "fractional_max_pool3d",
}  # fmt: skip
# Of these only the shape of the input matters.
_SHAPE_ONLY = {"rand_like", "randn_like", "randint_like", "empty_like", "new_empty", "new_empty_strided"}
_DROPOUT = {
    "dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "alpha_dropout_",
    "feature_dropout", "feature_dropout_", "feature_alpha_dropout", "feature_alpha_dropout_",
}  # fmt: skip
_OPAQUE = ("torch.jit", "torch.compile", "torch._dynamo")
# Where operators of a namespace are registered, if not in a package of its name.
_PACKAGES = {"fbgemm": "fbgemm_gpu"}

_functions: Dict[str, Callable[..., Any]] = {}


def function_of(torch: Any, kind: str) -> Callable[..., Any]:
    """Raises NotReplayable for a kind that no function of this Python stands behind."""
    if kind not in _functions:
        _functions[kind] = _find(torch, kind)
    return _functions[kind]


def needs_record(kind: str, attributes: Dict[str, Any]) -> Optional[str]:
    """Why the op's recorded results stand for it instead of another evaluation; None where it can be evaluated."""
    name = kind.rpartition(".")[2]
    if kind.startswith(_OPAQUE):
        return f"{kind} is compiled code, which is not evaluated again"
    if name in _DROPOUT:
        training = attributes.get("training", attributes.get("train", True)) is not False
        return f"{kind} is random" if training and attributes.get("p", 0.5) != 0 else None
    if name in ("scaled_dot_product_attention", "multi_head_attention_forward"):
        return f"{kind} is random" if attributes.get("dropout_p") and attributes.get("training") is not False else None
    if name in _RANDOM and not (name.startswith("rrelu") and attributes.get("training") is False):
        return f"{kind} is random"
    return None


def reads_shape_only(kind: str) -> bool:
    return kind.rpartition(".")[2] in _SHAPE_ONLY


def _find(torch: Any, kind: str) -> Callable[..., Any]:
    namespace, _, name = kind.partition(".")
    if kind.startswith("torch.Tensor."):
        return _of_tensor(torch, kind.rpartition(".")[2])
    if namespace == "torch":
        found: Any = torch
        for part in name.split("."):
            found = getattr(found, part, None)
        if callable(found):
            return found
        raise NotReplayable(f"this torch has no {kind}")
    for package in (_PACKAGES.get(namespace), namespace):
        if package is not None and not _has_operator(torch, namespace, name):
            try:
                importlib.import_module(package)
            except Exception:
                # Whatever a package does when it is imported, the operator is not there then.
                continue
    if _has_operator(torch, namespace, name):
        return getattr(getattr(torch.ops, namespace), name)
    raise NotReplayable(f"{kind} is known to the script only")


def _of_tensor(torch: Any, name: str) -> Callable[..., Any]:
    found = getattr(torch.Tensor, name, None)
    if callable(found):
        return found
    if found is None:
        raise NotReplayable(f"torch.Tensor has no {name}")
    return lambda tensor: getattr(tensor, name)


def _has_operator(torch: Any, namespace: str, name: str) -> bool:
    try:
        return name.isidentifier() and hasattr(getattr(torch.ops, namespace), name)
    except RuntimeError:
        return False
