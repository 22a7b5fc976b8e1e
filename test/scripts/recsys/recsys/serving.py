"""The ranker as it is served: one pass over flattened rows, weights folded together."""

import torch
from torch import nn
from torch.nn import functional as F


class ServedBlock(nn.Module):
    def __init__(self, block, exact_gelu=True):
        super().__init__()
        self.scale = nn.Parameter(block.norm.weight.detach().clone())
        self.shift = nn.Parameter(block.norm.bias.detach().clone())
        self.up = nn.Parameter(block.up.weight.detach().t().contiguous())
        self.up_bias = nn.Parameter(block.up.bias.detach().clone())
        self.down = nn.Parameter(block.down.weight.detach().t().contiguous())
        self.down_bias = nn.Parameter(block.down.bias.detach().clone())
        self.approximation = "none" if exact_gelu else "tanh"

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.pow(2).mean(-1, keepdim=True)
        normed = centred / torch.sqrt(variance + 1e-5) * self.scale + self.shift
        hidden = torch.addmm(self.up_bias, normed, self.up)
        active = F.gelu(hidden, approximate=self.approximation)
        return torch.addmm(self.down_bias, active, self.down) + x


class ServedRanker(nn.Module):
    def __init__(self, ranker, exact_gelu=True, pool="mean"):
        super().__init__()
        self.user_table = nn.Parameter(ranker.user.weight.detach().clone())
        self.item_table = nn.Parameter(ranker.item.weight.detach().clone())
        self.blocks = nn.ModuleList(ServedBlock(block, exact_gelu) for block in ranker.blocks)
        self.weight = nn.Parameter(ranker.head.weight.detach().clone())
        self.bias = nn.Parameter(ranker.head.bias.detach().clone())
        self.pool = pool

    def forward(self, user, items, history):
        rows = F.embedding(history, self.item_table)
        if self.pool == "mean":
            pooled = rows.sum(1) / rows.shape[1]
        else:
            pooled = rows.sum(1) / rows.shape[1] ** 0.5  # pooled by the root of the length
        query = self.user_table.index_select(0, user) + pooled
        for block in self.blocks:
            query = block(query)
        candidates = self.item_table[items]
        return torch.einsum("bkd,bd,d->bk", candidates, query, self.weight[0]) + self.bias
