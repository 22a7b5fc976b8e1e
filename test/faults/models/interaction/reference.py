"""A click model with embeddings, bottom and top MLP and pairwise dot products, in torch."""

import torch


class ClickModel(torch.nn.Module):
    def __init__(self, dense: int = 6, rows: tuple = (30, 20, 25), width: int = 8) -> None:
        super().__init__()
        self.tables = torch.nn.ModuleList([torch.nn.Embedding(r, width) for r in rows])
        self.bottom = torch.nn.Sequential(
            torch.nn.Linear(dense, 12),
            torch.nn.ReLU(),
            torch.nn.Linear(12, width),
            torch.nn.ReLU(),
        )
        count = len(rows) + 1
        self.top = torch.nn.Sequential(
            torch.nn.Linear(width + count * (count - 1) // 2, 10),
            torch.nn.ReLU(),
            torch.nn.Linear(10, 1),
        )
        self.scale = torch.nn.Parameter(torch.tensor([0.7]))

    def forward(
        self, features: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """features [B, F], ids [B, K, P], weights [B, K, P] of the ids -> click probability [B]"""
        x = torch.log1p(features)
        x = self.bottom(x)
        vectors = [x]
        for position, table in enumerate(self.tables):
            rows = table(ids[:, position])
            pooled = (rows * weights[:, position].unsqueeze(-1)).sum(dim=1)
            vectors.append(pooled)
        stacked = torch.stack(vectors, dim=1)
        dots = torch.bmm(stacked, stacked.transpose(1, 2))
        left, right = torch.tril_indices(len(vectors), len(vectors), offset=-1)
        pairs = dots[:, left, right]
        joined = torch.cat([x, pairs * self.scale], dim=1)
        return torch.sigmoid(self.top(joined)).squeeze(-1)
