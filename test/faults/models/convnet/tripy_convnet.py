"""convnet.py ported to Tripy."""

import nvtripy as tp


class GroupNorm(tp.Module):
    """By hand: as many groups as torch has, over all positions of a group."""

    def __init__(self, groups, channels, eps):
        super().__init__()
        self.groups = groups
        self.channels = channels
        self.eps = eps
        self.weight = tp.ones((channels,))
        self.bias = tp.zeros((channels,))

    def forward(self, x):
        batch, channels, height, width = x.shape
        grouped = tp.reshape(x, (batch, self.groups, -1))
        mean = tp.mean(grouped, dim=-1, keepdim=True)
        centred = grouped - mean
        variance = tp.mean(centred * centred, dim=-1, keepdim=True)
        normed = centred / tp.sqrt(variance + self.eps)
        normed = tp.reshape(normed, (batch, channels, height, width))
        weight = tp.reshape(self.weight, (1, self.channels, 1, 1))
        bias = tp.reshape(self.bias, (1, self.channels, 1, 1))
        return normed * weight + bias


class ResidualUnit(tp.Module):
    def __init__(self, channels, groups, eps=1e-3):
        super().__init__()
        self.norm1 = GroupNorm(groups, channels, eps)
        self.conv1 = tp.Conv(channels, channels, (3, 3), padding=[(1, 1), (1, 1)], bias=False)
        self.norm2 = GroupNorm(groups, channels, eps)
        self.conv2 = tp.Conv(channels, channels, (3, 3), padding=[(1, 1), (1, 1)])

    def forward(self, x):
        h = tp.relu(self.norm1(x))
        h = self.conv1(h)
        h = tp.relu(self.norm2(h))
        h = self.conv2(h)
        return x + h


class SqueezeExcite(tp.Module):
    def __init__(self, channels, reduced):
        super().__init__()
        self.reduce = tp.Linear(channels, reduced)
        self.expand = tp.Linear(reduced, channels)

    def forward(self, x):
        squeezed = tp.mean(x, dim=(2, 3))
        hidden = tp.silu(self.reduce(squeezed))
        scale = tp.sigmoid(self.expand(hidden))
        scale = tp.unsqueeze(tp.unsqueeze(scale, -1), -1)
        return x * scale


class ConvNet(tp.Module):
    def __init__(self, channels=12, groups=3, units=2, classes=7):
        super().__init__()
        self.stem = tp.Conv(3, channels, (3, 3), stride=(2, 2), padding=[(1, 1), (1, 1)])
        self.units = [ResidualUnit(channels, groups) for _ in range(units)]
        self.gate = SqueezeExcite(channels, 4)
        self.final_norm = GroupNorm(1, channels, 1e-5)
        self.head = tp.Linear(channels, classes)

    def forward(self, image):
        x = self.stem(image)
        for unit in self.units:
            x = unit(x)
        x = tp.maxpool(x, (2, 2), stride=(2, 2))
        x = self.gate(x)
        x = tp.tanh(self.final_norm(x))
        pooled = tp.mean(x, dim=(2, 3))
        return self.head(pooled)


def copy_weights(state, port):
    """state: a torch state dict with the port's own names."""
    new_state = {}
    for name, parameter in port.state_dict().items():
        value = state[name]
        assert tuple(value.shape) == tuple(map(int, parameter.shape)), name
        new_state[name] = tp.Tensor(value.contiguous())
    port.load_state_dict(new_state)
