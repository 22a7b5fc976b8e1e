"""stu.py for serving, in Tripy: a fixed number of slots, folded weights, all tasks in one tower."""

import nvtripy as tp
import torch

from tripy_blocks import PairBias, StuBlock
from tripy_sequence import AgeCode, TokenTable, event_ages, logical_places, visibility


class TaskTower(tp.Module):
    """The hidden layers of all tasks side by side."""

    def __init__(self, offers, tasks, dim, hidden):
        super().__init__()
        self.folded = (-1, offers, tasks, hidden)
        self.w_hidden = tp.zeros((dim, tasks * hidden))
        self.b_hidden = tp.zeros((tasks * hidden,))
        self.w_logit = tp.zeros((tasks, hidden))
        self.b_logit = tp.zeros((tasks,))

    def forward(self, x):
        """[B, K, D] -> [B, K, tasks]"""
        hidden = tp.silu(x @ self.w_hidden + self.b_hidden)
        hidden = tp.reshape(hidden, self.folded)
        return tp.sum(hidden * self.w_logit, dim=3) + self.b_logit


class ServedRanker(tp.Module):
    def __init__(
        self,
        catalogue=50,
        trait_sizes=(7, 4),
        action_codes=8,
        events=9,
        offers=3,
        dim=12,
        heads=3,
        match_dim=4,
        carry_dim=5,
        depth=3,
        distances=8,
        ages=40,
        gaps=28,
        tasks=3,
        hidden=10,
    ):
        super().__init__()
        self.prefix = len(trait_sizes)
        self.events = events
        self.offers = offers
        self.slots = self.prefix + events + offers
        self.root = dim**0.5
        self.tokens = TokenTable(catalogue, trait_sizes, action_codes, dim)
        self.place_rows = tp.zeros((self.prefix + events + 1, dim))
        self.age_code = AgeCode(ages, dim)
        self.pair_bias = PairBias(depth, heads, distances, gaps)
        self.blocks = [StuBlock(self.slots, dim, heads, match_dim, carry_dim) for _ in range(depth)]
        self.final_norm = tp.LayerNorm(dim, eps=1e-5)
        self.tower = TaskTower(offers, tasks, dim, hidden)

    def encode(self, tokens, sizes, ages):
        """tokens [B, N, D], sizes [B], ages [B, N] -> [B, N, D]"""
        places = logical_places(sizes, self.prefix, self.slots)
        to_go = tp.unsqueeze(sizes + self.prefix, 1) - places
        x = tokens * self.root
        x = x + self.age_code(ages)
        x = x + tp.gather(self.place_rows, 0, to_go)
        visible = visibility(sizes, self.prefix, self.events, self.slots)
        biases = self.pair_bias(places, ages)
        for block, bias in zip(self.blocks, biases):
            x = block(x, bias, visible)
        return x

    def forward(self, traits, bought, actions, stamps, sizes, offered, now):
        """traits [B, C], bought, actions and stamps [B, T], sizes [B], offered [B, K], now [B]
        -> a probability [B, K] for each task"""
        offered = self.tokens.goods(offered)
        tokens = self.tokens(traits, bought, actions, offered)
        ages = event_ages(stamps, now, self.prefix, self.offers)
        encoded = self.encode(tokens, sizes, ages)
        encoded = self.final_norm(encoded[:, self.prefix + self.events :])
        rates = tp.sigmoid(self.tower(offered * encoded))
        return rates[:, :, 0], rates[:, :, 1], rates[:, :, 2]


def load(ranker, state, depth=3, tasks=("click", "like", "finish")):
    """state: the state dict of stu.StuRanker, whose linear layers are [out, in]"""
    front = {
        name.removeprefix("preprocessor."): value
        for name, value in state.items()
        if name.startswith("preprocessor.")
    }
    load_tokens(ranker.tokens, front)
    ranker.place_rows = tp.Tensor(front["position_table.weight"])
    ranker.age_code.rows.weight = tp.Tensor(front["age_table.weight"])
    layers = [f"layers.{i}" for i in range(depth)]
    distance = [state[f"{layer}.bias.position_weight"] for layer in layers]
    gap = [state[f"{layer}.bias.time_weight"] for layer in layers]
    ranker.pair_bias.by_distance = tp.Tensor(torch.cat(distance).t().contiguous())
    ranker.pair_bias.by_gap = tp.Tensor(torch.cat(gap).t().contiguous())
    for block, layer in zip(ranker.blocks, layers):
        load_block(block, state, layer)
    ranker.final_norm.weight = tp.Tensor(state["postprocessor.weight"])
    ranker.final_norm.bias = tp.Tensor(state["postprocessor.bias"])
    load_tower(ranker.tower, state, [f"head.towers.{task}" for task in tasks])


def load_tokens(tokens, front):
    """Every action code and every trait value gets the row that torch works out at run time."""
    goods = front["items.weight"]
    tokens.goods.weight = tp.Tensor(goods)
    dim = goods.shape[1]
    weight = front["merge.weight"].t()
    tokens.w_goods = tp.Tensor(weight[:dim].contiguous())
    tokens.b_goods = tp.Tensor(front["merge.bias"])
    vectors = front["action_encoder.vectors"]
    count, width = vectors.shape
    of_action = weight[dim:].reshape(count, width, dim)
    per_action = (vectors.unsqueeze(2) * of_action).sum(dim=1)
    codes = torch.arange(2**count).unsqueeze(1)
    taken = codes // 2 ** torch.arange(count) % 2
    tokens.action_rows.weight = tp.Tensor(taken.float() @ per_action)
    tokens.candidate_row = tp.Tensor(front["action_encoder.unknown"] @ weight[dim:])
    rows = []
    for i in range(len(tokens.trait_sizes)):
        table = front[f"trait_encoder.tables.{i}.weight"]
        projection = front[f"trait_encoder.projections.{i}.weight"]
        rows.append(table @ projection.t() + front[f"trait_encoder.projections.{i}.bias"])
    tokens.trait_rows.weight = tp.Tensor(torch.cat(rows))


def load_block(block, state, layer):
    """u, v, q and k become values and gate in one weight, query and key of each head in another."""
    heads, carry = block.heads, block.carry_dim
    kernel = state[f"{layer}.uvqk.weight"]
    offset = state[f"{layer}.uvqk.bias"] + kernel @ state[f"{layer}.input_norm.bias"]
    kernel = kernel * state[f"{layer}.input_norm.weight"]
    fused = torch.cat([kernel, offset.unsqueeze(1)], dim=1)
    match = (fused.shape[0] - 2 * heads * carry) // 2
    gate, values, query, key = fused.split([heads * carry, heads * carry, match, match])
    query, key = query.unflatten(0, (heads, -1)), key.unflatten(0, (heads, -1))
    pairs = torch.cat([query, key], dim=1).transpose(1, 2).contiguous()
    block.w_match = tp.Tensor(pairs[:, :-1].contiguous())
    block.b_match = tp.Tensor(pairs[:, -1:].contiguous())
    carried = torch.cat([values, gate]).t()
    block.w_carry = tp.Tensor(carried[:-1].contiguous())
    block.b_carry = tp.Tensor(carried[-1].contiguous())
    block.gain = tp.Tensor(state[f"{layer}.output_norm.weight"].reshape(heads, 1, carry))
    block.shift = tp.Tensor(state[f"{layer}.output_norm.bias"].reshape(heads, 1, carry))
    mix = state[f"{layer}.output.weight"].t()
    block.w_mix = tp.Tensor(mix.reshape(3, heads * carry, -1).contiguous())


def load_tower(tower, state, names):
    hidden = [state[f"{name}.0.weight"].t() for name in names]
    tower.w_hidden = tp.Tensor(torch.cat(hidden, dim=1))
    tower.b_hidden = tp.Tensor(torch.cat([state[f"{name}.0.bias"] for name in names]))
    tower.w_logit = tp.Tensor(torch.cat([state[f"{name}.2.weight"] for name in names]))
    tower.b_logit = tp.Tensor(torch.cat([state[f"{name}.2.bias"] for name in names]))
