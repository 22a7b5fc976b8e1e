"""Clicks and purchases in torch: attention over the history, crossed features, mixed experts."""

import torch
from torch import nn


def perceptron(width, hidden, out, activation):
    return nn.Sequential(nn.Linear(width, hidden), activation, nn.Linear(hidden, out))


class TargetAttention(nn.Module):
    """Weighs the past items by what a small perceptron says of each beside the target."""

    def __init__(self, width):
        super().__init__()
        self.width = width
        self.scorer = perceptron(4 * width, 12, 1, nn.SiLU())

    def forward(self, target, past, valid):
        target = target.unsqueeze(1).expand_as(past)
        pairs = torch.cat([target, past, target - past, target * past], dim=-1)
        scores = self.scorer(pairs).squeeze(-1) / self.width**0.5
        scores = scores.masked_fill(~valid, float("-inf"))
        weights = torch.softmax(scores, dim=-1)
        return (weights.unsqueeze(-1) * past).sum(dim=1)


class CrossNetwork(nn.Module):
    def __init__(self, width, layers):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])

    def forward(self, x0):
        x = x0
        for layer in self.layers:
            x = x0 * layer(x) + x
        return x


class Extraction(nn.Module):
    """Each task mixes its own experts and the shared ones by a gate of its own."""

    def __init__(self, width, out, tasks=2, own=2, shared=2):
        super().__init__()
        self.own = nn.ModuleList([self.experts(width, out, own) for _ in range(tasks)])
        self.shared = self.experts(width, out, shared)
        self.gates = nn.ModuleList([nn.Linear(width, own + shared) for _ in range(tasks)])

    def experts(self, width, out, count):
        return nn.ModuleList([perceptron(width, 16, out, nn.ReLU()) for _ in range(count)])

    def forward(self, x):
        shared = [expert(x) for expert in self.shared]
        mixed = []
        for experts, gate in zip(self.own, self.gates):
            outputs = torch.stack([expert(x) for expert in experts] + shared, dim=1)
            weights = torch.softmax(gate(x), dim=-1)
            mixed.append(torch.einsum("be,beo->bo", weights, outputs))
        return mixed


class Ple(nn.Module):
    def __init__(self, items=40, width=8, steps=7, features=5, cross_layers=3):
        super().__init__()
        self.items = nn.Embedding(items, width)
        self.positions = nn.Embedding(steps, width)
        self.attention = TargetAttention(width)
        self.profile = nn.Linear(features, width)
        self.cross = CrossNetwork(4 * width, cross_layers)
        self.norm = nn.LayerNorm(4 * width, eps=1e-6)
        self.extraction = Extraction(4 * width, 12)
        self.click = perceptron(12, 8, 1, nn.SiLU())
        self.purchase = perceptron(12, 8, 1, nn.SiLU())

    def forward(self, item, history, lengths, profile):
        """item [B], history [B, T], lengths [B], profile [B, F] -> two probabilities [B, 1]"""
        steps = torch.arange(history.shape[1])
        valid = steps < lengths.unsqueeze(1)
        target = self.items(item)
        past = self.items(history) + self.positions(steps)
        interest = self.attention(target, past, valid)
        average = (past * valid.unsqueeze(-1)).sum(dim=1) / lengths.unsqueeze(1)
        user = torch.tanh(self.profile(profile))
        x = torch.cat([target, interest, average, user], dim=-1)
        click, purchase = self.extraction(self.norm(self.cross(x)))
        click = torch.sigmoid(self.click(click))
        # Nobody buys without a click.
        return click, click * torch.sigmoid(self.purchase(purchase))
