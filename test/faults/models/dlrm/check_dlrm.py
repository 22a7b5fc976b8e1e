"""Runs the Tripy port beside the torch model."""

import argparse
import sys

import nvtripy as tp
import torch

from dlrm import Dlrm
from tripy_dlrm import Dlrm as TripyDlrm
from tripy_dlrm import load_torch_weights


def on_gpu(tensor):
    return tp.copy(tp.Tensor(tensor.contiguous()), tp.device("gpu"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = Dlrm().eval()
    dense = torch.randint(0, 50, (6, 5)).float()
    sparse = torch.stack([torch.randint(0, n, (6,)) for n in (40, 25, 60, 12)], dim=1)

    port = TripyDlrm()
    load_torch_weights(port, model)
    compiled = tp.compile(
        port, args=[tp.InputInfo((6, 5), tp.float32), tp.InputInfo((6, 4), tp.int64)]
    )
    with torch.no_grad():
        expected = model(dense, sparse)
    clicks = compiled(on_gpu(dense), on_gpu(sparse))
    actual = torch.from_dlpack(tp.copy(clicks, tp.device("cpu")))

    difference = (actual - expected).abs().max().item()
    print(f"max |difference| = {difference:.3e}")
    return 0 if difference < 3e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
