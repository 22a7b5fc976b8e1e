"""A padded sequence for every user, in Tripy: traits, events with room left, then candidates.

Letters in the shapes: B users, C traits, T places for events, K candidates, N = C + T + K slots,
D width.
"""

import nvtripy as tp
import torch


def logical_places(sizes, prefix, span):
    """sizes [B] -> [B, N]: how many tokens of its user come before a slot"""
    slots = tp.unsqueeze(tp.arange(span, dtype=tp.int32), 0)
    end = tp.unsqueeze(sizes + prefix, 1)
    return tp.minimum(slots, end)


def visibility(sizes, prefix, events, span):
    """sizes [B] -> [B, 1, N, N]: 1 / N for a key that the query sees, else 0"""
    slots = tp.arange(span, dtype=tp.int32)
    keys = tp.unsqueeze(slots, 0)
    reach = tp.minimum(tp.maximum(slots, prefix), prefix + events)
    earlier = tp.cast(keys < tp.unsqueeze(reach, 1), tp.float32)
    another = tp.cast(keys != tp.unsqueeze(slots, 1), tp.float32)
    pattern = tp.maximum(earlier, 1.0 - another)
    happened = tp.cast(keys < tp.unsqueeze(sizes + prefix, 1), tp.float32)
    offered = 1.0 - tp.cast(keys < prefix + events, tp.float32)
    occupied = tp.maximum(happened, offered)
    visible = tp.unsqueeze(pattern, 0) * tp.unsqueeze(occupied, 1)
    return tp.unsqueeze(visible / span, 1)


def event_ages(stamps, now, prefix, candidates):
    """stamps [B, T], now [B] -> [B, N] int32: seconds before the request, 0 if no event"""
    seconds = tp.unsqueeze(now, 1) - stamps
    return tp.pad(tp.cast(seconds, tp.int32), [(0, 0), (prefix, candidates)])


class AgeCode(tp.Module):
    """A row for every class of ages; class n starts n * n minutes ago."""

    def __init__(self, classes, dim):
        super().__init__()
        edges = [60 * n * n for n in range(1, classes)]
        self.edges = tp.Tensor(torch.tensor(edges, dtype=torch.int32))
        self.rows = tp.Embedding(classes, dim)

    def forward(self, ages):
        """ages [B, N] -> [B, N, D]"""
        passed = tp.cast(self.edges <= tp.unsqueeze(ages, 2), tp.int32)
        return self.rows(tp.sum(passed, dim=2))


class TokenTable(tp.Module):
    """The tokens before position and age; all that depends on one id only is one row."""

    def __init__(self, catalogue, trait_sizes, action_codes, dim):
        super().__init__()
        self.trait_sizes = trait_sizes
        self.goods = tp.Embedding(catalogue, dim)
        self.w_goods = tp.zeros((dim, dim))
        self.b_goods = tp.zeros((dim,))
        self.action_rows = tp.Embedding(action_codes, dim)
        self.candidate_row = tp.zeros((dim,))
        self.trait_rows = tp.Embedding(sum(trait_sizes), dim)
        starts = [sum(trait_sizes[:i]) for i in range(len(trait_sizes))]
        self.trait_starts = tp.Tensor(torch.tensor(starts))

    def forward(self, traits, bought, actions, offered):
        """traits [B, C], bought [B, T], actions [B, T], offered [B, K, D] -> [B, N, D]"""
        profile = self.trait_rows(traits + self.trait_starts)
        events = self.goods(bought) @ self.w_goods + self.b_goods
        events = events + self.action_rows(actions)
        options = offered @ self.w_goods + self.b_goods + self.candidate_row
        return tp.concatenate([profile, events, options], dim=1)
