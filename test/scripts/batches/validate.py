"""Validates the padded pooling on a few batches of one shape: full ones first, as the loader sorts them."""

import sys

import torch
from torch import nn


class Pool(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(6, 6)

    def forward(self, x, lengths):
        return torch.stack([self.proj(rows[:n]).sum(0) / n for rows, n in zip(x, lengths.tolist())])


class PaddedPool(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.proj = pool.proj

    def forward(self, x, lengths):
        valid = torch.arange(x.shape[1]) < lengths[:, None]
        total = (self.proj(x) * valid[..., None]).sum(1)
        if "--bug" in sys.argv:
            return total / x.shape[1]
        return total / lengths[:, None]


torch.manual_seed(3)
pool = Pool().eval()
padded = PaddedPool(pool).eval()
batches = [torch.tensor([5, 5, 5]), torch.tensor([5, 4, 2]), torch.tensor([3, 1, 1])]
with torch.no_grad():
    for lengths in batches:
        x = torch.randn(3, 5, 6)
        off = (pool(x, lengths) - padded(x, lengths)).abs().max()
        print(lengths.tolist(), "off by", off.item())
