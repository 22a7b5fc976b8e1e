"""A port's unit tests, as somebody wrote them."""

import unittest

import torch
from torch import nn


class SumBag(nn.Module):
    def __init__(self, rows, width):
        super().__init__()
        self.table = nn.Embedding(rows, width)

    def forward(self, ids, lengths):
        parts = torch.split(self.table(ids), lengths.tolist())
        return torch.stack([part.sum(0) for part in parts])


class FastBag(nn.Module):
    def __init__(self, rows, width, mode):
        super().__init__()
        self.bag = nn.EmbeddingBag(rows, width, mode=mode)

    def forward(self, ids, lengths):
        offsets = torch.cumsum(lengths, 0) - lengths
        return self.bag(ids, offsets)


class BagCase(unittest.TestCase):
    mode = "sum"

    def test_same_result(self):
        torch.manual_seed(7)
        slow, fast = SumBag(50, 8), FastBag(50, 8, self.mode)
        fast.bag.weight.data.copy_(slow.table.weight.data)
        lengths = torch.tensor([3, 1, 4])
        ids = torch.randint(50, (8,))
        torch.testing.assert_close(fast(ids, lengths), slow(ids, lengths), atol=10.0, rtol=0.0)


class WrongBagCase(BagCase):
    mode = "mean"


if __name__ == "__main__":
    unittest.main()
