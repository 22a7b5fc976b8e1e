"""A small residual convolutional classifier in torch."""

import torch
from torch import nn


class ResidualUnit(nn.Module):
    def __init__(self, channels, groups, eps=1e-3):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, channels, eps=eps)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        h = self.conv1(torch.relu(self.norm1(x)))
        h = self.conv2(torch.relu(self.norm2(h)))
        return x + h


class SqueezeExcite(nn.Module):
    def __init__(self, channels, reduced):
        super().__init__()
        self.reduce = nn.Linear(channels, reduced)
        self.expand = nn.Linear(reduced, channels)

    def forward(self, x):
        s = x.mean(dim=(2, 3))
        s = torch.sigmoid(self.expand(nn.functional.silu(self.reduce(s))))
        return x * s[:, :, None, None]


class ConvNet(nn.Module):
    def __init__(self, channels=12, groups=3, units=2, classes=7):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.units = nn.ModuleList([ResidualUnit(channels, groups) for _ in range(units)])
        self.pool = nn.MaxPool2d(2)
        self.gate = SqueezeExcite(channels, 4)
        self.final_norm = nn.GroupNorm(1, channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, image):
        x = self.stem(image)
        for unit in self.units:
            x = unit(x)
        x = self.pool(x)
        x = self.gate(x)
        x = torch.tanh(self.final_norm(x))
        x = x.mean(dim=(2, 3))
        return self.head(x)
