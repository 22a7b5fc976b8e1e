"""A generative ranker in torch: STU layers over traits, past events and candidates in one sequence.

The sequences lie packed, [sum of lengths, ...], one user's tokens after another's.
"""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class StuConfig:
    num_items: int = 50
    trait_sizes: tuple = (7, 4)
    trait_dim: int = 5
    num_actions: int = 3
    action_dim: int = 4
    max_history: int = 9
    num_candidates: int = 3
    embedding_dim: int = 12
    num_heads: int = 3
    attention_dim: int = 4
    linear_dim: int = 5
    num_layers: int = 3
    max_distance: int = 8
    age_buckets: int = 40
    gap_buckets: int = 28
    norm_eps: float = 1e-6
    tower_dim: int = 10
    tasks: tuple = ("click", "like", "finish")

    @property
    def num_traits(self):
        return len(self.trait_sizes)

    @property
    def max_tokens(self):
        return self.num_traits + self.max_history + self.num_candidates


@dataclass
class Batch:
    traits: torch.Tensor  # [B, C]
    items: torch.Tensor  # [B, T], padded at the end
    actions: torch.Tensor  # [B, T], one bit for each action
    times: torch.Tensor  # [B, T], in seconds
    lengths: torch.Tensor  # [B]
    candidates: torch.Tensor  # [B, K]
    request_times: torch.Tensor  # [B]


def to_dense(packed, lengths):
    """[sum of lengths, ...] -> [B, longest, ...], zeros at the end"""
    present = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    dense = packed.new_zeros(*present.shape, *packed.shape[1:])
    dense[present] = packed
    return dense


def to_packed(dense, lengths):
    return dense[torch.arange(dense.shape[1]) < lengths.unsqueeze(1)]


class TraitEncoder(nn.Module):
    """One token for each categorical trait of the user."""

    def __init__(self, config):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(n, config.trait_dim) for n in config.trait_sizes])
        self.projections = nn.ModuleList(
            [nn.Linear(config.trait_dim, config.embedding_dim) for _ in config.trait_sizes]
        )

    def forward(self, traits):
        tokens = [
            projection(table(traits[:, i]))
            for i, (table, projection) in enumerate(zip(self.tables, self.projections))
        ]
        return torch.stack(tokens, dim=1)


class ActionEncoder(nn.Module):
    """The vectors of the actions that were taken, side by side; a candidate has its own."""

    def __init__(self, config):
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(config.num_actions, config.action_dim))
        self.unknown = nn.Parameter(torch.randn(config.num_actions * config.action_dim))

    def forward(self, actions):
        bits = (actions.unsqueeze(-1) >> torch.arange(self.vectors.shape[0])) & 1
        return (bits.unsqueeze(-1) * self.vectors).flatten(-2)


class Preprocessor(nn.Module):
    """Packs traits, events and candidates of every user, with position and age added."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.items = nn.Embedding(config.num_items, config.embedding_dim)
        self.trait_encoder = TraitEncoder(config)
        self.action_encoder = ActionEncoder(config)
        self.merge = nn.Linear(
            config.embedding_dim + config.num_actions * config.action_dim, config.embedding_dim
        )
        self.position_table = nn.Embedding(
            config.num_traits + config.max_history + 1, config.embedding_dim
        )
        self.age_table = nn.Embedding(config.age_buckets, config.embedding_dim)

    def forward(self, batch):
        """-> tokens [S, D], positions [S], times [S], lengths [B] of the whole sequences"""
        config = self.config
        trait_tokens = self.trait_encoder(batch.traits)
        rows, positions, times, from_end, ages = [], [], [], [], []
        for user, length in enumerate(batch.lengths.tolist()):
            events = torch.cat(
                [
                    self.items(batch.items[user, :length]),
                    self.action_encoder(batch.actions[user, :length]),
                ],
                dim=-1,
            )
            unknown = self.action_encoder.unknown.expand(config.num_candidates, -1)
            candidates = torch.cat([self.items(batch.candidates[user]), unknown], dim=-1)
            merged = self.merge(torch.cat([events, candidates]))
            rows.append(torch.cat([trait_tokens[user], merged]))

            # All candidates stand where the next event would.
            end = config.num_traits + length
            position = torch.arange(end + config.num_candidates).clamp(max=end)
            request = batch.request_times[user]
            time = torch.cat(
                [
                    request.expand(config.num_traits),
                    batch.times[user, :length],
                    request.expand(config.num_candidates),
                ]
            )
            positions.append(position)
            from_end.append(end - position)
            times.append(time)
            ages.append(request - time)

        minutes = torch.cat(ages).float() / 60
        age_bucket = torch.sqrt(minutes).long().clamp(max=config.age_buckets - 1)
        tokens = torch.cat(rows) * config.embedding_dim**0.5
        tokens = tokens + self.position_table(torch.cat(from_end)) + self.age_table(age_bucket)
        lengths = batch.lengths + config.num_traits + config.num_candidates
        return tokens, torch.cat(positions), torch.cat(times), lengths


class RelativeBias(nn.Module):
    """A bias for each head by distance, and one by the time between two tokens."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.position_weight = nn.Parameter(torch.randn(config.num_heads, config.max_distance))
        self.time_weight = nn.Parameter(torch.randn(config.num_heads, config.gap_buckets + 1))

    def forward(self, positions, times):
        """[B, n], [B, n] -> [B, H, n, n]"""
        distance = positions.unsqueeze(2) - positions.unsqueeze(1)
        distance = distance.clamp(0, self.config.max_distance - 1)
        gap = (times.unsqueeze(2) - times.unsqueeze(1)).abs().clamp(min=1)
        bucket = (torch.log(gap.float()) / 0.301).long().clamp(max=self.config.gap_buckets)
        bias = self.position_weight[:, distance] + self.time_weight[:, bucket]
        return bias.transpose(0, 1)


def attention_mask(lengths, num_traits, num_candidates):
    """[B, 1, n, n]: past and present, all traits among themselves, no candidate by another"""
    index = torch.arange(int(lengths.max()))
    query, key = index.unsqueeze(1), index.unsqueeze(0)
    visible = (key <= query) | ((key < num_traits) & (query < num_traits))
    first_candidate = (lengths - num_candidates).view(-1, 1, 1)
    visible = visible & ((key < first_candidate) | (key == query))
    visible = visible & (key < lengths.view(-1, 1, 1))
    return visible.unsqueeze(1)


class StuLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        attention_width = config.num_heads * config.attention_dim
        linear_width = config.num_heads * config.linear_dim
        self.splits = [linear_width, linear_width, attention_width, attention_width]
        self.input_norm = nn.LayerNorm(config.embedding_dim, eps=config.norm_eps)
        self.uvqk = nn.Linear(config.embedding_dim, sum(self.splits))
        self.bias = RelativeBias(config)
        self.output_norm = nn.GroupNorm(config.num_heads, linear_width, eps=config.norm_eps)
        self.output = nn.Linear(3 * linear_width, config.embedding_dim, bias=False)

    def heads(self, packed, lengths):
        """[S, H * d] -> [B, H, n, d]"""
        return to_dense(packed, lengths).unflatten(2, (self.config.num_heads, -1)).transpose(1, 2)

    def forward(self, x, positions, times, lengths):
        """x [S, D], positions [S], times [S], lengths [B] -> [S, D]"""
        config = self.config
        u, v, q, k = torch.nn.functional.silu(self.uvqk(self.input_norm(x))).split(self.splits, -1)
        q, k, v = self.heads(q, lengths), self.heads(k, lengths), self.heads(v, lengths)
        scores = torch.einsum("bhid,bhjd->bhij", q, k) / config.attention_dim**0.5
        scores = scores + self.bias(to_dense(positions, lengths), to_dense(times, lengths))
        scores = torch.nn.functional.silu(scores) / config.max_tokens
        mask = attention_mask(lengths, config.num_traits, config.num_candidates)
        scores = scores.masked_fill(~mask, 0.0)
        attended = torch.einsum("bhij,bhjd->bihd", scores, v).flatten(2)
        attended = to_packed(attended, lengths)
        gated = u * self.output_norm(attended)
        return x + self.output(torch.cat([u, attended, gated], dim=-1))


class PredictionHead(nn.Module):
    """A tower for each task over what the candidate and its context have in common."""

    def __init__(self, config):
        super().__init__()
        self.towers = nn.ModuleDict(
            {
                task: nn.Sequential(
                    nn.Linear(config.embedding_dim, config.tower_dim),
                    nn.SiLU(),
                    nn.Linear(config.tower_dim, 1),
                )
                for task in config.tasks
            }
        )

    def forward(self, encoded, item_embeddings):
        shared = encoded * item_embeddings
        return tuple(torch.sigmoid(tower(shared)).squeeze(-1) for tower in self.towers.values())


class StuRanker(nn.Module):
    def __init__(self, config=StuConfig()):
        super().__init__()
        self.config = config
        self.preprocessor = Preprocessor(config)
        self.layers = nn.ModuleList([StuLayer(config) for _ in range(config.num_layers)])
        self.postprocessor = nn.LayerNorm(config.embedding_dim, eps=1e-5)
        self.head = PredictionHead(config)

    def forward(self, *features):
        """The features of a Batch -> a probability [B, K] for each task"""
        batch = Batch(*features)
        x, positions, times, lengths = self.preprocessor(batch)
        for layer in self.layers:
            x = layer(x, positions, times, lengths)
        count = self.config.num_candidates
        ends = torch.cumsum(lengths, dim=0).unsqueeze(1)
        encoded = self.postprocessor(x[ends - count + torch.arange(count)])
        return self.head(encoded, self.preprocessor.items(batch.candidates))
