from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Batch:
    user: torch.Tensor
    items: torch.Tensor
    history: torch.Tensor


@dataclass
class Settings:
    users: int = 40
    items: int = 90
    width: int = 16
    layers: int = 2


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class Ranker(nn.Module):
    def __init__(self, settings):
        super().__init__()
        self.user = nn.Embedding(settings.users, settings.width)
        self.item = nn.Embedding(settings.items, settings.width)
        self.blocks = nn.ModuleList(Block(settings.width) for _ in range(settings.layers))
        self.head = nn.Linear(settings.width, 1)

    def forward(self, batch):
        history = self.item(batch.history)
        pooled = history.mean(dim=1)
        query = self.user(batch.user) + pooled
        for block in self.blocks:
            query = block(query)
        candidates = self.item(batch.items)
        joined = candidates * query.unsqueeze(1)
        return self.head(joined).squeeze(-1)
