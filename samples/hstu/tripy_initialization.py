"""Initial values of the port's parameters, until those of the torch model are copied."""

import numpy as np
import nvtripy as tp


def normal(shape: tuple, std: float, seed: int = 0) -> tp.Tensor:
    """A float32 tensor on the CPU, normal with the given deviation."""
    values = np.random.default_rng(seed).normal(0.0, std, shape)
    return tp.Tensor(values.astype(np.float32))


def xavier_uniform(shape: tuple, seed: int = 0) -> tp.Tensor:
    """A float32 matrix [in, out] on the CPU, Xavier uniform."""
    bound = (6.0 / sum(shape)) ** 0.5
    values = np.random.default_rng(seed).uniform(-bound, bound, shape)
    return tp.Tensor(values.astype(np.float32))


def causal_attn_mask(n: int) -> tp.Tensor:
    """[N, N] bool on the CPU, true above the diagonal: what a row must not see."""
    return tp.Tensor(np.triu(np.ones((n, n), dtype=np.bool_), k=1))
