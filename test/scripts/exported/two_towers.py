"""Two towers that were exported to Tripy: an encoder and a scorer, each compiled on its own."""

import argparse

import nvtripy as tp
import torch
from torch import nn


class Tower(nn.Module):
    def __init__(self, features, width):
        super().__init__()
        self.first = nn.Linear(features, width)
        self.second = nn.Linear(width, width)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        embedded = self.second(hidden)
        return embedded / embedded.norm(dim=-1, keepdim=True)


class TripyTower(tp.Module):
    def __init__(self, features, width, slip):
        super().__init__()
        self.lin1 = tp.Linear(features, width)
        self.lin2 = tp.Linear(width, width)
        self.slip = slip

    def forward(self, x):
        hidden = tp.relu(self.lin1(x))
        embedded = self.lin2(hidden)
        length = tp.sqrt(tp.sum(embedded * embedded, dim=-1, keepdim=True))
        if self.slip == "length":
            length = tp.max(embedded, dim=-1, keepdim=True)  # another norm
        return embedded / length


class TripyScorer(tp.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, users, items):
        scores = users @ tp.transpose(items, 0, 1)
        return scores / self.temperature


def score(users, items, temperature=0.1):
    scores = users @ items.t()
    return scores / temperature


def to_tripy(tensor):
    return tp.Tensor(tensor.detach().contiguous().cuda())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--slip", choices=["length", "temperature", "weights"])
    options = parser.parse_args()
    torch.manual_seed(5)
    tower = Tower(10, 16).cuda().eval()
    port = TripyTower(10, 16, options.slip)
    names = {"first": "lin1", "second": "lin2"}
    state = {}
    for name, value in tower.state_dict().items():
        layer, kind = name.split(".")
        if options.slip == "weights" and layer == "second":
            value = torch.randn_like(value)
        state[f"{names[layer]}.{kind}"] = to_tripy(value)
    port.load_state_dict(state)

    users, items = torch.randn(4, 10).cuda(), torch.randn(6, 10).cuda()
    encode = tp.compile(port, args=[tp.InputInfo([(1, 4, 8), 10], dtype=tp.float32)])
    scorer = TripyScorer(0.2 if options.slip == "temperature" else 0.1)
    rank = tp.compile(
        scorer,
        args=[
            tp.InputInfo([4, 16], dtype=tp.float32),
            tp.InputInfo([6, 16], dtype=tp.float32),
        ],
    )
    with torch.no_grad():
        expected = score(tower(users), tower(items))
    encoded = [encode(tp.Tensor(side.contiguous())) for side in (users, items)]
    actual = torch.from_dlpack(rank(*encoded))
    print("difference", (actual.cpu() - expected.cpu()).abs().max().item())


if __name__ == "__main__":
    main()
