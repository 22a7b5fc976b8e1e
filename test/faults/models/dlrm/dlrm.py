"""Clicks from dense and sparse features in torch: embeddings, pairwise dots, two perceptrons."""

import torch
from torch import nn


def perceptron(sizes, last):
    layers = []
    for index, (a, b) in enumerate(zip(sizes, sizes[1:])):
        layers.append(nn.Linear(a, b))
        layers.append(nn.ReLU() if index < len(sizes) - 2 else last)
    return nn.Sequential(*layers)


class Dlrm(nn.Module):
    def __init__(self, table_sizes=(40, 25, 60, 12), width=8, dense_features=5):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(size, width) for size in table_sizes])
        self.bottom = perceptron([dense_features, 16, width], nn.ReLU())
        fields = len(table_sizes) + 1
        self.top = perceptron([width + fields * (fields - 1) // 2, 16, 8, 1], nn.Sigmoid())
        rows, columns = torch.tril_indices(fields, fields, offset=-1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, dense, sparse):
        """dense [B, 5] counts, sparse [B, 4] ids -> [B, 1]"""
        x = self.bottom(torch.log1p(dense))
        fields = [x] + [table(sparse[:, i]) for i, table in enumerate(self.tables)]
        stacked = torch.stack(fields, dim=1)
        dots = torch.bmm(stacked, stacked.transpose(1, 2))
        interactions = dots[:, self.rows, self.columns]
        return self.top(torch.cat([x, interactions], dim=1))
