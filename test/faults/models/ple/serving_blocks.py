"""The parts of the served ranker in Tripy. Weights are [in, out], those of like layers stacked."""

import nvtripy as tp


def valid_steps(sizes, steps):
    """sizes [B] -> [B, T]: 1 for the steps that are there, 0 for the padding"""
    position = tp.unsqueeze(tp.arange(steps, dtype=tp.int32), 0)
    return tp.cast(position < tp.unsqueeze(sizes, 1), tp.float32)


def mean_pool(embedded, mask):
    total = tp.squeeze(tp.unsqueeze(mask, 1) @ embedded, 1)
    count = tp.sum(mask, dim=1, keepdim=True)
    return total / count


def normalize(x, gain, shift, eps=1e-6):
    centred = x - tp.mean(x, dim=-1, keepdim=True)
    variance = tp.mean(centred * centred, dim=-1, keepdim=True)
    return centred / tp.sqrt(variance + eps) * gain + shift


class HistoryPool(tp.Module):
    """Target attention; the first weight lies in four parts, so that nothing is concatenated."""

    def __init__(self, dim, hidden):
        super().__init__()
        self.scale = dim**-0.5
        self.w_parts = tp.zeros((4, dim, hidden))
        self.b_hidden = tp.zeros((hidden,))
        self.w_score = tp.zeros((hidden, 1))
        self.b_score = tp.zeros((1,))

    def forward(self, query, keys, mask):
        """query [B, D], keys [B, T, D], mask [B, T] -> [B, D]"""
        query = tp.unsqueeze(query, 1)
        hidden = query @ self.w_parts[0] + keys @ self.w_parts[1]
        hidden = hidden + (query - keys) @ self.w_parts[2]
        hidden = hidden + (query * keys) @ self.w_parts[3]
        hidden = tp.silu(hidden + self.b_hidden)
        logits = tp.squeeze(hidden @ self.w_score + self.b_score, 2)
        logits = logits * self.scale
        logits = logits - (1.0 - mask) * 1e9
        attention = tp.softmax(logits, dim=1)
        pooled = tp.unsqueeze(attention, 1) @ keys
        return tp.squeeze(pooled, 1)


class Crossing(tp.Module):
    def __init__(self, depth, dim):
        super().__init__()
        self.depth = depth
        self.kernels = tp.zeros((depth, dim, dim))
        self.biases = tp.zeros((depth, 1, dim))

    def forward(self, base):
        crossed = base
        for i in range(self.depth):
            projected = crossed @ self.kernels[i] + self.biases[i]
            crossed = crossed + base * projected
        return crossed


class PerceptronStack(tp.Module):
    """As many perceptrons of one hidden layer as there are, in one product."""

    def __init__(self, count, dim, hidden, out):
        super().__init__()
        self.w_in = tp.zeros((count, dim, hidden))
        self.b_in = tp.zeros((count, 1, hidden))
        self.w_out = tp.zeros((count, hidden, out))
        self.b_out = tp.zeros((count, 1, out))

    def forward(self, x, activation):
        """[count or 1, B, D] -> [count, B, out]"""
        hidden = activation(x @ self.w_in + self.b_in)
        return hidden @ self.w_out + self.b_out
