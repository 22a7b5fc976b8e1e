"""Compares the two classifiers: exit code 0 if they agree."""

import os
import sys

import nvtripy as tp
import torch

from port import SeriesNetPort
from reference import SeriesNet


def main() -> int:
    torch.manual_seed(int(os.environ.get("SEED", "0")))
    model = SeriesNet().eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.5)
    series = torch.randn(3, 5, 20)

    port = SeriesNetPort()
    state = {name: tp.Tensor(value.contiguous()) for name, value in model.state_dict().items()}
    port.load_state_dict(state)
    compiled = tp.compile(port, args=[tp.InputInfo((3, 5, 20), dtype=tp.float32)])

    with torch.no_grad():
        expected = model(series)
    result = compiled(tp.copy(tp.Tensor(series), tp.device("gpu")))
    actual = torch.from_dlpack(tp.copy(result, tp.device("cpu")))
    return 0 if torch.allclose(actual, expected, rtol=0, atol=3e-2) else 1


if __name__ == "__main__":
    sys.exit(main())
