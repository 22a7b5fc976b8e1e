"""
fbgemm's jagged operators in double precision, for which its CPU kernels do not exist.

Those that only move values do so with the bits of float64 as whole numbers, by fbgemm's own kernels; the elementwise
ones are made of these.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

_MOVES = {
    "dense_to_jagged", "jagged_to_padded_dense", "jagged_1d_to_dense", "jagged_2d_to_dense", "jagged_index_select",
    "stacked_jagged_1d_to_dense", "stacked_jagged_2d_to_dense", "jagged_slice",
}  # fmt: skip
# Position of the value for padding among the arguments.
_PADDING = {"jagged_to_padded_dense": 3, "jagged_1d_to_dense": 3}


def double_form(torch: Any, kind: str, function: Callable[..., Any]) -> Optional[Callable[..., Any]]:
    """A function with the same arguments that works on float64; None where there is none."""
    namespace, _, name = kind.partition(".")
    if namespace != "fbgemm":
        return None
    if name in _MOVES:
        return lambda *args, **kwargs: _moved(torch, name, function, list(args), kwargs)
    operators = torch.ops.fbgemm
    if name in ("jagged_dense_elementwise_add_jagged_output", "jagged_dense_elementwise_mul"):

        def with_jagged_result(x_values: Any, x_offsets: Sequence[Any], y: Any) -> Tuple[Any, Sequence[Any]]:
            rows = [y, x_offsets, x_values.shape[0]]
            other = _moved(torch, "dense_to_jagged", operators.dense_to_jagged, rows, {})[0]
            return (x_values * other if name.endswith("mul") else x_values + other), x_offsets

        return with_jagged_result
    if name == "jagged_dense_elementwise_add":

        def with_dense_result(x_values: Any, x_offsets: Sequence[Any], y: Any) -> Any:
            lengths = list(y.shape[1 : 1 + len(x_offsets)])
            padded = operators.jagged_to_padded_dense
            return y + _moved(torch, "jagged_to_padded_dense", padded, [x_values, x_offsets, lengths, 0.0], {})

        return with_dense_result
    return None


def _moved(torch: Any, name: str, function: Callable[..., Any], args: List[Any], kwargs: Dict[str, Any]) -> Any:
    def as_bits(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
            return value.view(torch.int64)
        return [as_bits(item) for item in value] if isinstance(value, list) else value

    def as_floats(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            # The values come first; offsets are handed through.
            return [as_floats(value[0]), *value[1:]]
        return value.view(torch.float64)

    padding = 0.0
    position = _PADDING.get(name)
    if position is not None and len(args) > position:
        padding, args[position] = args[position], 0
    elif "padding_value" in kwargs:
        padding, kwargs = kwargs["padding_value"], {**kwargs, "padding_value": 0}
    result = as_floats(function(*as_bits(args), **{key: as_bits(value) for key, value in kwargs.items()}))
    if padding == 0:
        return result
    ones = [torch.ones_like(args[0], dtype=torch.int64), *args[1:]]
    return torch.where(function(*ones, **kwargs) != 0, result, float(padding))
