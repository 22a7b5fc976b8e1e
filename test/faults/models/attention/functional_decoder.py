"""decoder.py as plain functions over a flat dictionary of weights."""

import math

import torch


class FunctionalDecoder(torch.nn.Module):
    def __init__(self, weights, layers=2, heads=3, eps=1e-6, base=10000.0):
        super().__init__()
        self.weights = torch.nn.ParameterDict(
            {name.replace(".", "-"): torch.nn.Parameter(value) for name, value in weights.items()}
        )
        self.num_layers = layers
        self.num_heads = heads
        self.eps = eps
        self.base = base

    def forward(self, tokens):
        table = self.weights["embed-weight"]
        x = table[tokens] * math.sqrt(table.shape[1])
        for index in range(self.num_layers):
            prefix = f"layers-{index}-"
            normed = layer_norm(x, self.weights, prefix + "norm1", self.eps)
            x = x + self.attend(normed, prefix + "attention-")
            normed = layer_norm(x, self.weights, prefix + "norm2", self.eps)
            x = x + mlp(normed, self.weights, prefix)
        x = layer_norm(x, self.weights, "norm", self.eps)
        return torch.einsum("btd,vd->btv", x, table)

    def attend(self, x, prefix):
        qkv = affine(x, self.weights, prefix + "qkv")
        query, key, value = torch.tensor_split(qkv, 3, dim=-1)
        query = split_heads(query, self.num_heads)
        key = split_heads(key, self.num_heads)
        value = split_heads(value, self.num_heads)
        length, head_dim = query.shape[1], query.shape[-1]
        cos, sin = rotary_tables(length, head_dim, self.base)
        query = rotate(query, cos, sin)
        key = rotate(key, cos, sin)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key)
        scores = scores * head_dim**-0.5
        allowed = torch.tril(torch.ones(length, length)) > 0
        scores = torch.where(allowed, scores, torch.tensor(-math.inf))
        probabilities = torch.softmax(scores, dim=-1)
        mixed = torch.einsum("bhqk,bkhd->bqhd", probabilities, value)
        mixed = mixed.flatten(2)
        return affine(mixed, self.weights, prefix + "out")


def layer_norm(x, weights, name, eps):
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x - mean).square().mean(dim=-1, keepdim=True)
    normed = (x - mean) * torch.rsqrt(variance + eps)
    return normed * weights[name + "-weight"] + weights[name + "-bias"]


def affine(x, weights, name):
    return x @ weights[name + "-weight"].t() + weights[name + "-bias"]


def mlp(x, weights, prefix):
    hidden = affine(x, weights, prefix + "up")
    hidden = 0.5 * hidden * (1.0 + torch.erf(hidden / math.sqrt(2.0)))
    return affine(hidden, weights, prefix + "down")


def split_heads(x, heads):
    """[B, T, D] -> [B, T, H, D / H]"""
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads)


def rotary_tables(length, head_dim, base):
    exponents = torch.arange(0, head_dim, 2).float() / head_dim
    frequencies = torch.pow(base, -exponents)
    angles = torch.arange(length).float()[:, None] * frequencies[None, :]
    return angles.cos()[:, None, :], angles.sin()[:, None, :]


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
