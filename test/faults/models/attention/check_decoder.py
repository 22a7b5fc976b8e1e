"""Runs the functional decoder beside the one made of modules."""

import argparse
import sys

import torch

from decoder import Decoder
from functional_decoder import FunctionalDecoder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = Decoder().eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, float(parameter.mean() > 0.5), 0.1)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    port = FunctionalDecoder(weights).eval()
    tokens = torch.randint(0, 50, (2, 9))
    with torch.no_grad():
        expected = model(tokens)
        actual = port(tokens)
    difference = (actual - expected).abs().max().item()
    print(f"max |difference| = {difference:.3e}")
    return 0 if difference < 3e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
