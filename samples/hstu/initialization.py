"""Initial values of the torch models' parameters. Every function works in place."""

import torch


def init_item_table(weight: torch.Tensor) -> None:
    """Item table [items + 1, D]: unit variance, zeros in the padding row 0."""
    with torch.no_grad():
        weight.normal_(mean=0.0, std=1.0)
        weight[0].zero_()


def init_truncated_normal(weight: torch.Tensor, std: float) -> None:
    """Any shape: normal with the given deviation, cut at two deviations."""
    torch.nn.init.trunc_normal_(weight, mean=0.0, std=std, a=-2.0 * std, b=2.0 * std)


def init_normal(weight: torch.Tensor, std: float) -> None:
    """Any shape: normal with the given deviation."""
    torch.nn.init.normal_(weight, mean=0.0, std=std)


def init_output_projection(linear: torch.nn.Linear) -> None:
    """Weight [out, in]: Xavier uniform. The bias [out] keeps torch's own initial values."""
    torch.nn.init.xavier_uniform_(linear.weight)
