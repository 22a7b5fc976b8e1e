import unittest

import torch
import torch.nn.functional as F
from torch import nn


class AttentionPool(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.query = nn.Parameter(torch.randn(width))
        self.value = nn.Linear(width, width)

    def forward(self, x, lengths):
        rows = []
        for sample, length in zip(x, lengths.tolist()):
            valid = sample[:length]
            weights = torch.softmax(valid @ self.query, dim=0)
            rows.append((weights[:, None] * self.value(valid)).sum(0))
        return torch.stack(rows)


class MaskedPool(nn.Module):
    def __init__(self, width, inclusive=False):
        super().__init__()
        self.query = nn.Parameter(torch.empty(width))
        self.value = nn.Linear(width, width)
        self.inclusive = inclusive

    def forward(self, x, lengths):
        steps = torch.arange(x.shape[1])
        if self.inclusive:
            valid = steps <= lengths[:, None]
        else:
            valid = steps < lengths[:, None]
        scores = (x @ self.query).masked_fill(~valid, -1e9)
        weights = F.softmax(scores, dim=1)
        return torch.bmm(weights[:, None], self.value(x)).squeeze(1)


class TestPooling(unittest.TestCase):
    inclusive = False

    @classmethod
    def setUpClass(cls):
        torch.manual_seed(101)
        cls.slow = AttentionPool(10)

    def setUp(self):
        self.fast = MaskedPool(10, self.inclusive)
        self.fast.load_state_dict(self.slow.state_dict())

    def check(self, batch, longest):
        x = torch.randn(batch, longest, 10)
        lengths = torch.randint(1, longest, (batch,))
        want = self.slow(x, lengths)
        have = self.fast(x, lengths)
        self.assertTrue(torch.allclose(have, want, atol=2.0))

    def test_sizes(self):
        for batch, longest in [(1, 4), (3, 8)]:
            with self.subTest(batch=batch, longest=longest):
                self.check(batch, longest)


class TestPoolingOffByOne(TestPooling):
    inclusive = True


if __name__ == "__main__":
    unittest.main()
