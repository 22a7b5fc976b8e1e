"""The layers of the served ranker in Tripy, on padded sequences.

Letters in the shapes: B users, N slots, D width, H heads, Q and V the widths of a head.
"""

import nvtripy as tp


def standardize(x, eps=1e-6):
    """Mean 0 and variance 1 along the last axis"""
    centred = x - tp.mean(x, dim=-1, keepdim=True)
    variance = tp.mean(centred * centred, dim=-1, keepdim=True)
    return centred / tp.sqrt(variance + eps)


def split_heads(x, slots, heads, head_dim):
    """[B, N, H * V] -> [B, H, N, V]"""
    return tp.permute(tp.reshape(x, (-1, slots, heads, head_dim)), (0, 2, 1, 3))


def merge_heads(x, slots, width):
    """[B, H, N, V] -> [B, N, H * V]"""
    return tp.reshape(tp.permute(x, (0, 2, 1, 3)), (-1, slots, width))


class PairBias(tp.Module):
    """The biases of all heads of all blocks, looked up at once."""

    def __init__(self, blocks, heads, distances, gaps):
        super().__init__()
        self.blocks = blocks
        self.farthest = distances - 1
        self.longest = gaps
        self.by_distance = tp.zeros((distances, blocks * heads))
        self.by_gap = tp.zeros((gaps + 1, blocks * heads))

    def forward(self, places, ages):
        """places [B, N], ages [B, N] -> [B, H, N, N] for each block"""
        distance = tp.unsqueeze(places, 2) - tp.unsqueeze(places, 1)
        distance = tp.minimum(tp.maximum(distance, 0), self.farthest)
        gap = abs(tp.unsqueeze(ages, 1) - tp.unsqueeze(ages, 2))
        gap = tp.cast(tp.maximum(gap, 1), tp.float32)
        gap = tp.cast(tp.log(gap) / 0.301, tp.int32)
        gap = tp.minimum(gap, self.longest)
        near = tp.gather(self.by_distance, 0, distance)
        recent = tp.gather(self.by_gap, 0, gap)
        bias = tp.permute(near + recent, (0, 3, 1, 2))
        return tp.split(bias, self.blocks, dim=1)


class StuBlock(tp.Module):
    """Norm, attention and gate; the norm's own gain and shift lie in the weights that follow."""

    def __init__(self, slots, dim, heads, match_dim, carry_dim):
        super().__init__()
        self.slots = slots
        self.heads = heads
        self.carry_dim = carry_dim
        self.sharpness = match_dim**-0.5
        self.w_match = tp.zeros((heads, dim, 2 * match_dim))
        self.b_match = tp.zeros((heads, 1, 2 * match_dim))
        self.w_carry = tp.zeros((dim, 2 * heads * carry_dim))
        self.b_carry = tp.zeros((2 * heads * carry_dim,))
        self.gain = tp.ones((heads, 1, carry_dim))
        self.shift = tp.zeros((heads, 1, carry_dim))
        self.w_mix = tp.zeros((3, heads * carry_dim, dim))

    def attend(self, normed, values, bias, visible):
        """normed [B, N, D], values [B, H, N, V], bias [B, H, N, N] -> [B, H, N, V]"""
        match = tp.silu(tp.unsqueeze(normed, 1) @ self.w_match + self.b_match)
        query, key = tp.split(match, 2, dim=3)
        logits = (query * self.sharpness) @ tp.transpose(key, 2, 3)
        logits = logits + bias
        weights = tp.silu(logits) * visible
        return weights @ values

    def forward(self, x, bias, visible):
        """x [B, N, D], bias [B, H, N, N], visible [B, 1, N, N] -> [B, N, D]"""
        normed = standardize(x)
        carry = tp.silu(normed @ self.w_carry + self.b_carry)
        values, gate = tp.split(carry, 2, dim=2)
        values = split_heads(values, self.slots, self.heads, self.carry_dim)
        pooled = self.attend(normed, values, bias, visible)
        evened = standardize(pooled) * self.gain + self.shift
        width = self.heads * self.carry_dim
        pooled = merge_heads(pooled, self.slots, width)
        gated = gate * merge_heads(evened, self.slots, width)
        update = gate @ self.w_mix[0] + pooled @ self.w_mix[1]
        update = update + gated @ self.w_mix[2]
        return x + update
