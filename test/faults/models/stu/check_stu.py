"""Runs the served ranker beside the torch model."""

import argparse
import sys

import nvtripy as tp
import torch

from stu import StuRanker
from tripy_ranker import ServedRanker, load


def initialize(model):
    """Weights and biases that matter as much as trained ones: torch starts them small."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                torch.nn.init.normal_(module.bias, 0.0, 0.2)
        if isinstance(module, (torch.nn.LayerNorm, torch.nn.GroupNorm)):
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, 0.0, 0.5)


def make_features(config, users=6):
    """Ids beyond a user's length are as random as the others."""
    events = (users, config.max_history)
    traits = torch.stack([torch.randint(0, n, (users,)) for n in config.trait_sizes], dim=1)
    items = torch.randint(0, config.num_items, events)
    actions = torch.randint(0, 2**config.num_actions, events)
    gaps = torch.exp(torch.rand(events) * 9).long() + 1
    request_times = torch.randint(1_700_000_000, 1_700_900_000, (users,))
    times = request_times.unsqueeze(1) - gaps.flip(1).cumsum(1).flip(1)
    lengths = torch.randint(1, config.max_history + 1, (users,), dtype=torch.int32)
    candidates = torch.randint(0, config.num_items, (users, config.num_candidates))
    return [traits, items, actions, times, lengths, candidates, request_times]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    torch.manual_seed(parser.parse_args().seed)
    model = StuRanker().eval()
    initialize(model)
    features = make_features(model.config)

    ranker = ServedRanker()
    load(ranker, model.state_dict())
    dtypes = [tp.int32 if x.dtype == torch.int32 else tp.int64 for x in features]
    shapes = [tp.InputInfo(tuple(x.shape), dtype) for x, dtype in zip(features, dtypes)]
    compiled = tp.compile(ranker, args=shapes)
    with torch.no_grad():
        expected = model(*features)
    actual = compiled(*[tp.copy(tp.Tensor(x), tp.device("gpu")) for x in features])

    actual = [torch.from_dlpack(tp.copy(x, tp.device("cpu"))) for x in actual]
    difference = max((a - e).abs().max().item() for a, e in zip(actual, expected))
    print(f"max |difference| = {difference:.3e}")
    return 0 if difference < 3e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
