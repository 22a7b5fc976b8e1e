"""Gated attention written twice, with plain functions and a dictionary of weights."""

import argparse
import math

import torch


def make_weights(width, heads, seed=3):
    rng = torch.Generator().manual_seed(seed)
    names = ["query", "key", "value", "gate", "out"]
    weights = {name: torch.randn(width, width, generator=rng) / math.sqrt(width) for name in names}
    weights["scale"] = torch.rand(width, generator=rng) + 0.5
    weights["heads"] = heads
    return weights


def rms_norm(x, scale, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * scale


def attention(x, weights, mask):
    batch, length, width = x.shape
    heads = weights["heads"]
    normed = rms_norm(x, weights["scale"])
    q, k, v = (
        (normed @ weights[name]).view(batch, length, heads, width // heads).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
    scores = scores.masked_fill(~mask, float("-inf"))
    mixed = torch.softmax(scores, -1) @ v
    mixed = mixed.transpose(1, 2).reshape(batch, length, width)
    gate = torch.sigmoid(normed @ weights["gate"])
    return x + (gate * mixed) @ weights["out"]


def fast_attention(x, weights, mask, slip=None):
    batch, length, width = x.shape
    heads = weights["heads"]
    size = width // heads
    inverse = (x.square().sum(-1, keepdim=True) / width + 1e-6).sqrt().reciprocal()
    normed = inverse * x * weights["scale"]
    fused = torch.cat([weights["query"], weights["key"], weights["value"], weights["gate"]], dim=1)
    q, k, v, gate = torch.split(normed @ fused, width, dim=-1)
    q = q.reshape(batch, length, heads, size)
    k = k.reshape(batch, length, heads, size)
    v = v.reshape(batch, length, heads, size)
    if slip == "scale":
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(width)  # the scale slip
    else:
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(size)
    scores = torch.where(mask, scores, torch.full_like(scores, float("-inf")))
    peak = scores.amax(-1, keepdim=True)
    raised = torch.exp(scores - peak)
    probabilities = raised / raised.sum(-1, keepdim=True)
    mixed = torch.einsum("bhnm,bmhd->bnhd", probabilities, v).reshape(batch, length, width)
    if slip == "gate":
        gated = torch.tanh(gate) * mixed  # the gate slip
    else:
        gated = torch.sigmoid(gate) * mixed
    return x + gated @ weights["out"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--slip", choices=["scale", "gate"])
    options = parser.parse_args()
    torch.manual_seed(0)
    weights = make_weights(24, 3)
    x = torch.randn(2, 7, 24)
    mask = torch.ones(7, 7, dtype=torch.bool).tril()
    expected = attention(x, weights, mask)
    actual = fast_attention(x, weights, mask, options.slip)
    print("max error", (expected - actual).abs().max().item())


if __name__ == "__main__":
    main()
