"""Runs the Tripy port beside the torch model."""

import argparse
import sys

import nvtripy as tp
import torch

import convnet
import tripy_convnet


def randomize_norms(model):
    """Affine parameters that say something: torch starts them at one and zero."""
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            torch.nn.init.normal_(module.weight, 1.0, 0.2)
            torch.nn.init.normal_(module.bias, 0.0, 0.1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = convnet.ConvNet().eval()
    randomize_norms(model)
    image = torch.randn(2, 3, 16, 20)

    port = tripy_convnet.ConvNet()
    tripy_convnet.copy_weights(model.state_dict(), port)
    with torch.no_grad():
        expected = model(image)
    logits = port(tp.copy(tp.Tensor(image), tp.device("gpu")))
    actual = torch.from_dlpack(tp.copy(logits, tp.device("cpu")))

    difference = (actual - expected).abs().max().item()
    print(f"max |difference| = {difference:.3e}")
    return 0 if difference < 3e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
