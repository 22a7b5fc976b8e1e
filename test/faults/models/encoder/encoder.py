"""A small sequence encoder in torch: grouped attention beside a depthwise convolution."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def sinusoids(length, width):
    table = torch.zeros(length, width)
    for position in range(length):
        for pair in range(width // 2):
            angle = position / 10000.0 ** (2 * pair / width)
            table[position, 2 * pair] = math.sin(angle)
            table[position, 2 * pair + 1] = math.cos(angle)
    return table


class Embedder(nn.Module):
    def __init__(self, vocabulary, segments, width, longest):
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.segment = nn.Embedding(segments, width)
        nn.init.normal_(self.token.weight, std=width**-0.5)
        self.norm = nn.LayerNorm(width)
        self.register_buffer("positions", sinusoids(longest, width), persistent=False)

    def forward(self, ids, segments):
        x = self.token(ids) * math.sqrt(self.token.embedding_dim)
        x = x + self.segment(segments) + self.positions[: ids.shape[1]]
        return self.norm(x)


class GroupedAttention(nn.Module):
    """Groups of query heads share a key/value head; near and far offsets have a learned bias."""

    def __init__(self, width, heads, groups, head_dim, reach, window):
        super().__init__()
        self.groups = groups
        self.head_dim = head_dim
        self.reach = reach
        self.window = window
        self.q = nn.Linear(width, heads * head_dim)
        self.k = nn.Linear(width, groups * head_dim)
        self.v = nn.Linear(width, groups * head_dim)
        self.out = nn.Linear(heads * head_dim, width)
        self.offset_bias = nn.Embedding(2 * reach + 1, heads)
        slopes = 2.0 ** -torch.arange(1, heads + 1).float()
        self.register_buffer("slopes", slopes.view(groups, -1), persistent=False)

    def forward(self, x, valid):
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, self.groups, -1, self.head_dim)
        k = self.k(x).view(batch, length, self.groups, self.head_dim)
        v = self.v(x).view(batch, length, self.groups, self.head_dim)
        scores = torch.einsum("bqgrd,bkgd->bgrqk", q, k) / math.sqrt(self.head_dim)

        steps = torch.arange(length, device=x.device)
        offsets = steps[None, :] - steps[:, None]
        bias = self.offset_bias(offsets.clamp(-self.reach, self.reach) + self.reach)
        bias = bias.permute(2, 0, 1).reshape(self.groups, -1, length, length)
        scores = scores + bias - self.slopes[:, :, None, None] * offsets.abs()

        allowed = valid[:, None, :].expand(batch, length, length)
        if self.window is not None:
            allowed = allowed & (offsets.abs() <= self.window)
        scores = scores.masked_fill(~allowed[:, None, None], -1e9)
        mixed = torch.einsum("bgrqk,bkgd->bqgrd", scores.softmax(dim=-1), v)
        return self.out(mixed.reshape(batch, length, -1))


class ConvBranch(nn.Module):
    def __init__(self, width, kernel, dilation):
        super().__init__()
        self.expand = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(
            width,
            width,
            kernel,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=width,
        )
        self.norm = nn.LayerNorm(width)
        self.contract = nn.Linear(width, width)

    def forward(self, x, valid):
        x = F.glu(self.expand(x), dim=-1)
        x = x * valid.unsqueeze(-1)
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.contract(F.silu(self.norm(x)))


class GatedMlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate = nn.Linear(width, hidden)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, width, heads, groups, head_dim, reach, window, kernel, dilation, hidden):
        super().__init__()
        self.mix_norm = nn.RMSNorm(width, eps=1e-6)
        self.attention = GroupedAttention(width, heads, groups, head_dim, reach, window)
        self.convolution = ConvBranch(width, kernel, dilation)
        self.branch_scale = nn.Parameter(torch.ones(width))
        self.mlp_norm = nn.RMSNorm(width, eps=1e-6)
        self.mlp = GatedMlp(width, hidden)

    def forward(self, x, valid):
        normed = self.mix_norm(x)
        local = self.convolution(normed, valid)
        x = x + self.attention(normed, valid) + self.branch_scale * local
        return x + self.mlp(self.mlp_norm(x))


class AttentionPool(nn.Module):
    """Several weighted means of the valid tokens, and the last valid token behind them."""

    def __init__(self, width, hidden, pools):
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, pools)

    def forward(self, x, valid):
        scores = self.score(torch.tanh(self.hidden(x))) * 4.0
        scores = scores.masked_fill(~valid.unsqueeze(-1), float("-inf"))
        shares = scores.softmax(dim=1)
        means = shares.transpose(1, 2) @ x
        last = valid.sum(dim=1) - 1
        ends = x[torch.arange(x.shape[0], device=x.device), last]
        return torch.cat([means.flatten(1), ends], dim=1)


class SequenceEncoder(nn.Module):
    def __init__(
        self,
        vocabulary=61,
        segments=3,
        width=32,
        heads=6,
        groups=2,
        head_dim=8,
        reach=4,
        windows=(3, 5, None),
        kernel=5,
        dilations=(1, 2, 1),
        hidden=44,
        pools=2,
        embedding=12,
        classes=5,
        longest=32,
    ):
        super().__init__()
        self.embedder = Embedder(vocabulary, segments, width, longest)
        self.blocks = nn.ModuleList(
            Block(width, heads, groups, head_dim, reach, window, kernel, dilation, hidden)
            for window, dilation in zip(windows, dilations)
        )
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.pool = AttentionPool(width, 16, pools)
        summary = width * (pools + 1)
        self.projection = nn.Linear(summary, embedding)
        self.classifier = nn.Sequential(
            nn.LayerNorm(summary),
            nn.Linear(summary, 24),
            nn.GELU(approximate="tanh"),
            nn.Linear(24, classes),
        )

    def forward(self, ids, segments, valid):
        x = self.embedder(ids, segments)
        for block in self.blocks:
            x = block(x, valid)
        summary = self.pool(self.norm(x), valid)
        embedding = F.normalize(self.projection(summary), dim=-1)
        return embedding, self.classifier(summary)
