"""Builds the engine once and reuses it: whether it is stale, nobody asks."""

import os
import sys
import tempfile

import nvtripy as tp
import torch


class Scale(tp.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return tp.relu(x @ self.weight)


class Reference(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 4))

    def forward(self, x):
        return torch.relu(x @ self.weight)


def build(weight, path):
    scale = Scale(tp.Tensor(weight.detach().contiguous().cuda()))
    executable = tp.compile(scale, args=[tp.InputInfo([3, 6], dtype=tp.float32)])
    executable.save(path)


torch.manual_seed(2)
model = Reference()
path = os.path.join(tempfile.mkdtemp(), "engine.tpymodel")
build(model.weight, path)
if "--retrain" in sys.argv:
    with torch.no_grad():
        model.weight += torch.randn(6, 4)

x = torch.randn(3, 6)
engine = tp.Executable.load(path)
out = torch.from_dlpack(engine(tp.Tensor(x.cuda())))
with torch.no_grad():
    print((out.cpu() - model(x)).abs().max())
