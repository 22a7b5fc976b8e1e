"""ple.py for serving, in Tripy: all experts in one product, all gates and towers in another."""

import nvtripy as tp
import torch

from serving_blocks import Crossing, HistoryPool, PerceptronStack
from serving_blocks import mean_pool, normalize, valid_steps


class Mixture(tp.Module):
    """The stack has the first task's own experts, the second's own, then the shared ones."""

    def __init__(self, tasks, own, shared, dim, out):
        super().__init__()
        self.tasks = tasks
        self.own = own
        self.experts = PerceptronStack(tasks * own + shared, dim, 16, out)
        self.w_gate = tp.zeros((tasks, dim, own + shared))
        self.b_gate = tp.zeros((tasks, 1, own + shared))

    def forward(self, x):
        """x [B, D] -> [tasks, B, out]"""
        x = tp.unsqueeze(x, 0)
        outputs = self.experts(x, tp.relu)
        gates = tp.softmax(x @ self.w_gate + self.b_gate, dim=2)
        common = outputs[self.tasks * self.own :]
        mixtures = []
        for task in range(self.tasks):
            first = task * self.own
            choice = tp.concatenate([outputs[first : first + self.own], common], dim=0)
            share = tp.unsqueeze(tp.transpose(gates[task], 0, 1), 2)
            mixtures.append(tp.sum(share * choice, dim=0))
        return tp.stack(mixtures, dim=0)


class Ranker(tp.Module):
    def __init__(self, catalogue=40, dim=8, steps=7, features=5, depth=3):
        super().__init__()
        self.steps = steps
        self.catalogue = tp.Embedding(catalogue, dim)
        self.recency = tp.zeros((steps, dim))
        self.pool = HistoryPool(dim, 12)
        self.user = tp.Linear(features, dim)
        self.crossing = Crossing(depth, 4 * dim)
        self.gain = tp.ones((4 * dim,))
        self.shift = tp.zeros((4 * dim,))
        self.mixture = Mixture(2, 2, 2, 4 * dim, 12)
        self.towers = PerceptronStack(2, 12, 8, 1)

    def forward(self, item, clicked, sizes, stats):
        """item [B], clicked [B, T], sizes [B], stats [B, F] -> clicks [B, 1], purchases [B, 1]"""
        mask = valid_steps(sizes, self.steps)
        query = self.catalogue(item)
        keys = self.catalogue(clicked) + self.recency
        attended = self.pool(query, keys, mask)
        mean = mean_pool(keys, mask)
        user = tp.tanh(self.user(stats))
        fields = tp.concatenate([query, attended, mean, user], dim=1)
        crossed = self.crossing(fields)
        mixtures = self.mixture(normalize(crossed, self.gain, self.shift))
        rates = tp.sigmoid(self.towers(mixtures, tp.silu))
        clicks, conversions = rates[0], rates[1]
        return clicks, clicks * conversions


def load(ranker, state, tasks=2, own=2, shared=2, depth=3):
    """state: the state dict of ple.Ple, whose linear layers are [out, in]"""
    ranker.catalogue.weight = tp.Tensor(state["items.weight"])
    ranker.recency = tp.Tensor(state["positions.weight"])
    ranker.user.weight = tp.Tensor(state["profile.weight"])
    ranker.user.bias = tp.Tensor(state["profile.bias"])
    ranker.gain = tp.Tensor(state["norm.weight"])
    ranker.shift = tp.Tensor(state["norm.bias"])
    scorer = state["attention.scorer.0.weight"].t()
    ranker.pool.w_parts = tp.Tensor(scorer.reshape(4, -1, scorer.shape[1]).contiguous())
    ranker.pool.b_hidden = tp.Tensor(state["attention.scorer.0.bias"])
    ranker.pool.w_score = tp.Tensor(state["attention.scorer.2.weight"].t().contiguous())
    ranker.pool.b_score = tp.Tensor(state["attention.scorer.2.bias"])
    layers = [f"cross.layers.{i}" for i in range(depth)]
    ranker.crossing.kernels, ranker.crossing.biases = stacked(state, layers)
    gates = [f"extraction.gates.{task}" for task in range(tasks)]
    ranker.mixture.w_gate, ranker.mixture.b_gate = stacked(state, gates)
    experts = [f"extraction.own.{task}.{i}" for task in range(tasks) for i in range(own)]
    experts += [f"extraction.shared.{i}" for i in range(shared)]
    load_stack(ranker.mixture.experts, state, experts)
    load_stack(ranker.towers, state, ["click", "purchase"])


def load_stack(stack, state, names):
    stack.w_in, stack.b_in = stacked(state, [f"{name}.0" for name in names])
    stack.w_out, stack.b_out = stacked(state, [f"{name}.2" for name in names])


def stacked(state, names):
    """Weights and biases of linear layers, each as one tensor."""
    weights = [state[f"{name}.weight"].t() for name in names]
    biases = [state[f"{name}.bias"].unsqueeze(0) for name in names]
    return tp.Tensor(torch.stack(weights)), tp.Tensor(torch.stack(biases))
