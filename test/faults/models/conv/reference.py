"""A small convolutional classifier of series in torch."""

import torch
import torch.nn.functional as F


class Residual(torch.nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.norm = torch.nn.GroupNorm(2, channels)
        self.first = torch.nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = torch.nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, C, T] -> [B, C, T]"""
        h = self.norm(x)
        h = F.silu(self.first(h))
        h = self.second(h)
        return x + h


class SeriesNet(torch.nn.Module):
    def __init__(self, features: int = 5, channels: int = 12, classes: int = 6) -> None:
        super().__init__()
        self.stem = torch.nn.Conv1d(features, channels, 5, stride=2, padding=2)
        self.blocks = torch.nn.ModuleList([Residual(channels, d) for d in (1, 2)])
        self.head = torch.nn.Linear(2 * channels, classes)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """series [B, F, T] -> log probabilities [B, classes]"""
        x = F.relu(self.stem(series))
        for block in self.blocks:
            x = block(x)
        mean = x.mean(dim=2)
        peak = x.amax(dim=2)
        pooled = torch.cat([mean, peak], dim=1)
        logits = self.head(pooled)
        return F.log_softmax(logits, dim=1)
