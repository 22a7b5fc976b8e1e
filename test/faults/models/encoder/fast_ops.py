"""Functions of the serving encoder; activations are sequence first, [N, B, D]."""

import math

import torch
import torch.nn.functional as F

MASKED = -1e9


def position_table(length, width, base=10000.0):
    rates = torch.exp(torch.arange(0, width, 2).float() * (-math.log(base) / width))
    angles = torch.arange(length).float().unsqueeze(1) * rates
    return torch.stack([torch.sin(angles), torch.cos(angles)], dim=2).reshape(length, width)


def decay_slopes(heads):
    return torch.tensor([0.5 ** (head + 1) for head in range(heads)])


def relative_steps(length):
    """[query, key]: how far the key lies behind the query"""
    steps = torch.arange(length)
    return steps.view(1, length) - steps.view(length, 1)


def offset_buckets(length, reach):
    return torch.clamp(relative_steps(length), min=-reach, max=reach) + reach


def window_bias(length, window):
    distance = relative_steps(length).abs()
    return torch.zeros(length, length).masked_fill(distance > window, MASKED)


def valid_steps(lengths, length):
    """[N, B], 1 for a token and 0 for padding"""
    return (torch.arange(length).unsqueeze(1) < lengths.unsqueeze(0)).float()


def key_padding_bias(valid):
    """[B, 1, 1, N]"""
    return ((1.0 - valid) * MASKED).t()[:, None, None, :]


def layer_norm(x, gain, shift, eps=1e-5):
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x * x).mean(dim=-1, keepdim=True) - mean * mean
    return (x - mean) * torch.rsqrt(variance + eps) * gain + shift


def rms_norm(x, gain, eps=1e-6):
    power = x.square().mean(dim=-1, keepdim=True)
    return x / torch.sqrt(power + eps) * gain


def grouped_attention(query, key, value, bias):
    """query [N, B, H, E], key and value [N, B, G, E], bias [B, H, N, N] -> [N, B, H * E]"""
    repeats = query.shape[2] // key.shape[2]
    key = torch.repeat_interleave(key, repeats, dim=2)
    value = torch.repeat_interleave(value, repeats, dim=2)
    query = query.permute(1, 2, 0, 3)
    key = key.permute(1, 2, 0, 3)
    value = value.permute(1, 2, 0, 3)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    return mixed.permute(2, 0, 1, 3).flatten(2)


def depthwise(x, taps, shift, dilation):
    """x [N, B, C], taps [K, C]"""
    length = x.shape[0]
    count = taps.shape[0]
    margin = dilation * (count // 2)
    padded = F.pad(x, (0, 0, 0, 0, margin, margin))
    total = shift.expand_as(x)
    for tap in range(count):
        start = tap * dilation
        total = total + padded[start : start + length] * taps[tap]
    return total


def swiglu(x, w_in, b_in, w_out, b_out):
    up, gate = torch.chunk(x @ w_in + b_in, 2, dim=-1)
    return (up * F.silu(gate)) @ w_out + b_out


def pool_tokens(x, scores, valid):
    """x [N, B, D], scores [N, B, K] -> [B, K * D]"""
    scores = scores + ((1.0 - valid) * MASKED).unsqueeze(2)
    shares = torch.softmax(scores, dim=0)
    return torch.einsum("nbk,nbd->bkd", shares, x).flatten(1)


def last_tokens(x, lengths):
    rows = (lengths - 1).view(1, -1, 1).expand(1, -1, x.shape[2])
    return torch.gather(x, 0, rows).squeeze(0)


def unit_length(x, eps=1e-12):
    return x * torch.rsqrt(x.square().sum(dim=-1, keepdim=True) + eps)
