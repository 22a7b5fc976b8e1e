"""The encoder as plain functions over a dictionary of weights, in Tripy."""

import math

import nvtripy as tp

HEADS = 2
EPS = 1e-5


def linear(weights: dict, name: str, x: tp.Tensor) -> tp.Tensor:
    """x [..., D] -> [..., E]"""
    weight = tp.transpose(weights[f"{name}.weight"], 0, 1)
    return x @ weight + weights[f"{name}.bias"]


def layer_norm(weights: dict, name: str, x: tp.Tensor) -> tp.Tensor:
    """x [..., D], same shape out"""
    centered = x - tp.mean(x, dim=-1, keepdim=True)
    variance = tp.mean(centered * centered, dim=-1, keepdim=True)
    normed = centered * tp.rsqrt(variance + EPS)
    return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def split_heads(x: tp.Tensor, steps: int, width: int) -> tp.Tensor:
    """x [B, T, D] -> [B, H, T, D / H]"""
    split = tp.reshape(x, (-1, steps, HEADS, width // HEADS))
    return tp.permute(split, (0, 2, 1, 3))


def attention(weights: dict, name: str, x: tp.Tensor, steps: int, width: int) -> tp.Tensor:
    """x [B, T, D] -> [B, T, D]"""
    q = split_heads(linear(weights, f"{name}.query", x), steps, width)
    k = split_heads(linear(weights, f"{name}.key", x), steps, width)
    v = split_heads(linear(weights, f"{name}.value", x), steps, width)
    scores = q @ tp.transpose(k, 2, 3)
    scores = scores / math.sqrt(width // HEADS)
    visible = tp.tril(tp.ones((steps, steps), dtype=tp.float32))
    scores = tp.where(visible > 0.5, scores, tp.full((1,), -1e9, dtype=tp.float32))
    attended = tp.softmax(scores, dim=-1)
    mixed = tp.permute(attended @ v, (0, 2, 1, 3))
    merged = tp.reshape(mixed, (-1, steps, width))
    return linear(weights, f"{name}.out", merged)


def block(weights: dict, name: str, x: tp.Tensor, steps: int, width: int) -> tp.Tensor:
    """x [B, T, D] -> [B, T, D]"""
    normed = layer_norm(weights, f"{name}.norm1", x)
    attended = attention(weights, f"{name}.attention", normed, steps, width)
    x = x + attended
    normed = layer_norm(weights, f"{name}.norm2", x)
    h = tp.gelu(linear(weights, f"{name}.up", normed))
    h = linear(weights, f"{name}.down", h)
    return x + h


class EncoderPort(tp.Module):
    def __init__(self, weights: dict, steps: int = 9, width: int = 16) -> None:
        super().__init__()
        self.weights = {name: tp.Tensor(value.contiguous()) for name, value in weights.items()}
        self.steps = steps
        self.width = width

    def forward(self, ids: tp.Tensor) -> tp.Tensor:
        """ids [B, T] -> scores of all tokens [B, T, tokens]"""
        table = self.weights["embed.weight"]
        x = tp.gather(table, 0, ids) + self.weights["position"]
        for index in range(2):
            x = block(self.weights, f"blocks.{index}", x, self.steps, self.width)
        x = layer_norm(self.weights, "norm", x)
        return x @ tp.transpose(table, 0, 1)
