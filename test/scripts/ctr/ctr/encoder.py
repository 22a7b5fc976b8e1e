import math

import torch
from torch import nn


class SelfAttention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.heads = cfg.heads
        self.q_proj = nn.Linear(cfg.width, cfg.width)
        self.k_proj = nn.Linear(cfg.width, cfg.width)
        self.v_proj = nn.Linear(cfg.width, cfg.width)
        self.o_proj = nn.Linear(cfg.width, cfg.width)

    def forward(self, x):
        b, n, d = x.shape
        size = d // self.heads

        def heads(t):
            return t.view(b, n, self.heads, size).permute(0, 2, 1, 3)

        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        logits = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(size)
        future = torch.triu(torch.ones(n, n, dtype=torch.bool), diagonal=1)
        logits = logits.masked_fill(future, torch.finfo(x.dtype).min)
        attended = torch.matmul(logits.softmax(dim=-1), v)
        return self.o_proj(attended.permute(0, 2, 1, 3).reshape(b, n, d))


class Layer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.attention = SelfAttention(cfg)
        self.norm1 = nn.LayerNorm(cfg.width)
        self.norm2 = nn.LayerNorm(cfg.width)
        self.mlp = nn.Sequential(
            nn.Linear(cfg.width, 2 * cfg.width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * cfg.width, cfg.width)
        )

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ClickModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.items = nn.Embedding(cfg.vocab, cfg.width, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(cfg.length, cfg.width) * 0.02)
        self.layers = nn.ModuleList([Layer(cfg) for _ in range(cfg.depth)])
        self.norm = nn.LayerNorm(cfg.width)
        self.click = nn.Linear(cfg.width, 1)

    def forward(self, inputs):
        ids, dense = inputs["ids"], inputs["dense"]
        x = self.items(ids) + self.positions[: ids.shape[1]]
        x = x * dense.unsqueeze(-1)
        for layer in self.layers:
            x = layer(x)
        return {"logits": self.click(self.norm(x)).squeeze(-1)}
