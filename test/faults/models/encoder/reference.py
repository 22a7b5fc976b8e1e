"""A transformer encoder with causal attention in torch."""

import math

import torch
import torch.nn.functional as F


class Attention(torch.nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = torch.nn.Linear(width, width)
        self.key = torch.nn.Linear(width, width)
        self.value = torch.nn.Linear(width, width)
        self.out = torch.nn.Linear(width, width)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, D] -> [B, H, T, D / H]"""
        batch, steps, width = x.shape
        return x.reshape(batch, steps, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, D] -> [B, T, D]"""
        batch, steps, width = x.shape
        q = self.split(self.query(x))
        k = self.split(self.key(x))
        v = self.split(self.value(x))
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)
        hidden = torch.triu(torch.ones(steps, steps, dtype=torch.bool), diagonal=1)
        scores = scores.masked_fill(hidden, -1e9)
        weights = F.softmax(scores, dim=-1)
        mixed = (weights @ v).transpose(1, 2).reshape(batch, steps, width)
        return self.out(mixed)


class Block(torch.nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = torch.nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = torch.nn.LayerNorm(width)
        self.up = torch.nn.Linear(width, 3 * width)
        self.down = torch.nn.Linear(3 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, D] -> [B, T, D]"""
        x = x + self.attention(self.norm1(x))
        h = F.gelu(self.up(self.norm2(x)))
        return x + self.down(h)


class Encoder(torch.nn.Module):
    def __init__(self, tokens: int = 40, width: int = 16, heads: int = 2, steps: int = 9) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(tokens, width)
        self.position = torch.nn.Parameter(torch.randn(steps, width))
        self.blocks = torch.nn.ModuleList([Block(width, heads) for _ in range(2)])
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids [B, T] -> scores of all tokens [B, T, tokens]"""
        x = self.embed(ids) + self.position
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x @ self.embed.weight.t()
