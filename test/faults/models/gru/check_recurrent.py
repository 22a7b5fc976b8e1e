"""Runs the written-out encoder beside the one with torch's cell."""

import argparse
import sys

import torch

from recurrent import Encoder, WrittenOutEncoder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = Encoder().eval()
    port = WrittenOutEncoder().eval()
    port.load_state_dict(model.state_dict())
    items = torch.randint(0, 30, (4, 6))
    with torch.no_grad():
        expected = model(items)
        actual = port(items)
    difference = (actual - expected).abs().max().item()
    print(f"max |difference| = {difference:.3e}")
    return 0 if difference < 3e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
