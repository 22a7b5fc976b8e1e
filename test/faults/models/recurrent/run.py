"""Compares the two recurrent networks: exit code 0 if they agree."""

import os
import sys

import torch

from port import FastSessionModel
from reference import SessionModel


def main() -> int:
    torch.manual_seed(int(os.environ.get("SEED", "0")))
    model = SessionModel().eval()
    torch.nn.init.normal_(model.norm.weight, mean=1.0, std=0.5)
    torch.nn.init.normal_(model.norm.bias, std=0.5)
    ids = torch.randint(50, (4, 7))
    gaps = torch.rand(4, 7) * 30

    port = FastSessionModel().eval()
    port.take(model)
    with torch.no_grad():
        expected = model(ids, gaps)
        actual = port(ids, gaps)
    return 0 if torch.allclose(actual, expected, rtol=0, atol=3e-2) else 1


if __name__ == "__main__":
    sys.exit(main())
