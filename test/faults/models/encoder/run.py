"""Compares the two encoders: exit code 0 if they agree."""

import os
import sys

import nvtripy as tp
import torch

from port import EncoderPort
from reference import Encoder


def main() -> int:
    torch.manual_seed(int(os.environ.get("SEED", "0")))
    model = Encoder().eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=0.7, std=0.3)
    ids = torch.randint(40, (3, 9))

    port = EncoderPort(model.state_dict())
    compiled = tp.compile(port, args=[tp.InputInfo((3, 9), dtype=tp.int64)])

    with torch.no_grad():
        expected = model(ids)
    result = compiled(tp.copy(tp.Tensor(ids), tp.device("gpu")))
    actual = torch.from_dlpack(tp.copy(result, tp.device("cpu")))
    return 0 if torch.allclose(actual, expected, rtol=0, atol=3e-2) else 1


if __name__ == "__main__":
    sys.exit(main())
