"""`build` makes an engine from a checkpoint, `serve` answers with it."""

import os
import sys

import nvtripy as tp
import torch
from torch import nn

HERE = sys.argv[2]
CHECKPOINT, ENGINE = os.path.join(HERE, "model.pt"), os.path.join(HERE, "scorer.engine")


def make_model():
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 2))


class Scorer(tp.Module):
    def __init__(self):
        super().__init__()
        self.inner = tp.Linear(6, 10)
        self.outer = tp.Linear(10, 2)

    def __call__(self, x):
        return self.outer(tp.tanh(self.inner(x)))


def train(seed):
    torch.manual_seed(seed)
    torch.save(make_model().state_dict(), CHECKPOINT)


def tune():
    """New data for the last layer only."""
    state = torch.load(CHECKPOINT)
    state["2.weight"] += 0.3 * torch.sin(torch.arange(20.0)).view(2, 10)
    torch.save(state, CHECKPOINT)


def build():
    state = torch.load(CHECKPOINT)
    scorer = Scorer()
    for layer, index in ((scorer.inner, 0), (scorer.outer, 2)):
        layer.weight = tp.Tensor(state[f"{index}.weight"])
        layer.bias = tp.Tensor(state[f"{index}.bias"])
    tp.compile(scorer, args=[tp.InputInfo([4, 6], tp.float32)]).save(ENGINE)


def serve():
    model = make_model()
    model.load_state_dict(torch.load(CHECKPOINT))
    engine = tp.Executable.load(ENGINE)
    x = torch.linspace(-1, 1, 24).view(4, 6)
    with torch.no_grad():
        want = model(x)
    have = torch.from_dlpack(engine(tp.Tensor(x.cuda()))).cpu()
    print("off by", (want - have).abs().max().item())


for step in sys.argv[1].split("+"):
    name, _, seed = step.partition("=")
    {"train": lambda: train(int(seed)), "tune": tune, "build": build, "serve": serve}[name]()
