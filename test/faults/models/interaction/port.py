"""The port of the click model to Tripy."""

import nvtripy as tp


class ClickModelPort(tp.Module):
    def __init__(self, dense: int = 6, rows: tuple = (30, 20, 25), width: int = 8) -> None:
        super().__init__()
        self.tables = [tp.Embedding(r, width) for r in rows]
        self.bottom0 = tp.Linear(dense, 12)
        self.bottom2 = tp.Linear(12, width)
        count = len(rows) + 1
        self.top0 = tp.Linear(width + count * (count - 1) // 2, 10)
        self.top2 = tp.Linear(10, 1)
        self.scale = tp.ones((1,))
        self.width = width
        self.places = [i * count + j for i in range(count) for j in range(i)]

    def pool(self, rows: tp.Tensor, weights: tp.Tensor) -> tp.Tensor:
        """rows [B, P, D], weights [B, P] -> [B, D]"""
        weighted = rows * tp.unsqueeze(weights, -1)
        return tp.sum(weighted, dim=1)

    def interact(self, vectors: list) -> tp.Tensor:
        """vectors, K + 1 of [B, D] -> [B, (K + 1) K / 2]"""
        count = len(vectors)
        stacked = tp.stack(vectors, dim=1)
        dots = stacked @ tp.transpose(stacked, 1, 2)
        flat = tp.reshape(dots, (-1, count * count))
        places = tp.Tensor(self.places)
        return tp.gather(flat, 1, places)

    def forward(self, features: tp.Tensor, ids: tp.Tensor, weights: tp.Tensor) -> tp.Tensor:
        """features [B, F], ids [B, K, P], weights [B, K, P] of the ids -> click probability [B]"""
        x = tp.log(features + 1.0)
        x = tp.relu(self.bottom0(x))
        x = tp.relu(self.bottom2(x))
        vectors = [x]
        for position, table in enumerate(self.tables):
            chosen = tp.squeeze(ids[:, position : position + 1], 1)
            share = tp.squeeze(weights[:, position : position + 1], 1)
            vectors.append(self.pool(table(chosen), share))
        pairs = self.interact(vectors)
        pairs = pairs * self.scale
        joined = tp.concatenate([x, pairs], dim=1)
        hidden = tp.relu(self.top0(joined))
        logit = self.top2(hidden)
        return tp.squeeze(tp.sigmoid(logit), -1)
