"""The port of the convolutional classifier to Tripy."""

import nvtripy as tp


class ResidualPort(tp.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.norm = tp.GroupNorm(2, channels, dtype=tp.float32, eps=1e-5)
        self.first = tp.Conv(
            channels, channels, (3,), padding=((dilation, dilation),), dilation=(dilation,)
        )
        self.second = tp.Conv(channels, channels, (1,))

    def forward(self, x: tp.Tensor) -> tp.Tensor:
        """x [B, C, T] -> [B, C, T]"""
        h = self.norm(x)
        h = tp.silu(self.first(h))
        h = self.second(h)
        out = x + h
        return out


class SeriesNetPort(tp.Module):
    def __init__(self, features: int = 5, channels: int = 12, classes: int = 6) -> None:
        super().__init__()
        self.stem = tp.Conv(features, channels, (5,), stride=(2,), padding=((2, 2),))
        self.blocks = [ResidualPort(channels, d) for d in (1, 2)]
        self.head = tp.Linear(2 * channels, classes)

    def forward(self, series: tp.Tensor) -> tp.Tensor:
        """series [B, F, T] -> log probabilities [B, classes]"""
        x = tp.relu(self.stem(series))
        for block in self.blocks:
            x = block(x)
        mean = tp.mean(x, dim=2)
        peak = tp.max(x, dim=2)
        pooled = tp.concatenate([mean, peak], dim=1)
        logits = self.head(pooled)
        shifted = logits - tp.max(logits, dim=1, keepdim=True)
        total = tp.sum(tp.exp(shifted), dim=1, keepdim=True)
        return shifted - tp.log(total)
