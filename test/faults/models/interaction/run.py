"""Compares the two click models: exit code 0 if they agree."""

import os
import sys

import nvtripy as tp
import torch

from port import ClickModelPort
from reference import ClickModel

RENAMED = {"bottom.0": "bottom0", "bottom.2": "bottom2", "top.0": "top0", "top.2": "top2"}


def port_state(model: torch.nn.Module) -> dict:
    state = {}
    for name, value in model.state_dict().items():
        for theirs, ours in RENAMED.items():
            name = name.replace(theirs, ours)
        state[name] = tp.Tensor(value.contiguous())
    return state


def main() -> int:
    torch.manual_seed(int(os.environ.get("SEED", "0")))
    model = ClickModel().eval()
    features = torch.rand(5, 6) * 4
    ids = torch.randint(20, (5, 3, 4))
    weights = torch.rand(5, 3, 4)

    port = ClickModelPort()
    port.load_state_dict(port_state(model))
    compiled = tp.compile(
        port,
        args=[
            tp.InputInfo((5, 6), dtype=tp.float32),
            tp.InputInfo((5, 3, 4), dtype=tp.int64),
            tp.InputInfo((5, 3, 4), dtype=tp.float32),
        ],
    )

    with torch.no_grad():
        expected = model(features, ids, weights)
    gpu = [tp.copy(tp.Tensor(t), tp.device("gpu")) for t in (features, ids, weights)]
    actual = torch.from_dlpack(tp.copy(compiled(*gpu), tp.device("cpu")))
    return 0 if torch.allclose(actual, expected, rtol=0, atol=3e-2) else 1


if __name__ == "__main__":
    sys.exit(main())
