"""Runs the served ranker beside the torch model."""

import argparse
import sys

import nvtripy as tp
import torch

from ple import Ple
from serving_ranker import Ranker, load


def initialize(model):
    """Weights and biases that matter as much as trained ones: torch starts them small."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_normal_(module.weight)
            torch.nn.init.normal_(module.bias, 0.0, 0.1)
    torch.nn.init.normal_(model.norm.weight, 1.0, 0.2)
    torch.nn.init.normal_(model.norm.bias, 0.0, 0.1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    torch.manual_seed(parser.parse_args().seed)
    model = Ple().eval()
    initialize(model)
    item = torch.randint(0, 40, (6,))
    history = torch.randint(0, 40, (6, 7))
    lengths = torch.randint(1, 8, (6,), dtype=torch.int32)
    profile = torch.randn(6, 5)
    inputs = [item, history, lengths, profile]

    ranker = Ranker()
    load(ranker, model.state_dict())
    dtypes = [tp.int64, tp.int64, tp.int32, tp.float32]
    shapes = [tp.InputInfo(tuple(x.shape), dtype) for x, dtype in zip(inputs, dtypes)]
    compiled = tp.compile(ranker, args=shapes)
    with torch.no_grad():
        expected = model(*inputs)
    actual = compiled(*[tp.copy(tp.Tensor(x), tp.device("gpu")) for x in inputs])

    actual = [torch.from_dlpack(tp.copy(x, tp.device("cpu"))) for x in actual]
    difference = max((a - e).abs().max().item() for a, e in zip(actual, expected))
    print(f"max |difference| = {difference:.3e}")
    return 0 if difference < 3e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
