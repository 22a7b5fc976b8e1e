"""Moves a sentence classifier to Tripy. The checkpoint's keys and layouts are those of an older code base."""

import argparse
import re

import nvtripy as tp
import torch
from torch import nn

gpu = tp.device("gpu")


class TorchEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.fc = nn.ModuleList([nn.Linear(16, 16) for _ in range(3)])
        self.norms = nn.ModuleList([nn.LayerNorm(16) for _ in range(3)])

    def forward(self, tokens):
        h = self.embed(tokens)
        for fc, norm in zip(self.fc, self.norms):
            h = h + torch.tanh(fc(norm(h)))
        return h.mean(1)


class TorchHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(16, 8)
        self.classes = nn.Linear(8, 3)

    def forward(self, pooled):
        return torch.softmax(self.classes(torch.relu(self.dense(pooled))), -1)


class Dense(tp.Module):
    """y = x W + b with W stored as (in, out)."""

    def __init__(self, rows, columns):
        super().__init__()
        self.kernel = tp.zeros((rows, columns))
        self.offset = tp.zeros((columns,))

    def forward(self, x):
        return x @ self.kernel + self.offset


class Stage(tp.Module):
    def __init__(self):
        super().__init__()
        self.norm = tp.LayerNorm(16, dtype=tp.float32)
        self.dense = Dense(16, 16)

    def forward(self, h):
        return h + tp.tanh(self.dense(self.norm(h)))


class Encoder(tp.Module):
    def __init__(self, bug):
        super().__init__()
        self.table = tp.Embedding(50, 16)
        self.stages = [Stage() for _ in range(3)]
        self.bug = bug

    def forward(self, tokens):
        h = self.table(tokens)
        for stage in self.stages:
            h = stage(h)
        if self.bug == "pool":
            return tp.max(h, dim=1)
        return tp.mean(h, dim=1)


class Head(tp.Module):
    def __init__(self, bug):
        super().__init__()
        self.hidden = Dense(16, 8)
        self.output = Dense(8, 3)
        self.bug = bug

    def forward(self, pooled):
        hidden = self.hidden(pooled)
        if self.bug == "relu":
            hidden = tp.gelu(hidden)
        else:
            hidden = tp.relu(hidden)
        return tp.softmax(self.output(hidden), dim=-1)


def upload(tensor):
    return tp.Tensor(tensor.detach().cuda().contiguous())


def convert(encoder, head, bug):
    e, h = {}, {}
    for key, value in encoder.state_dict().items():
        key = re.sub(r"^embed", "table", key)
        key = re.sub(r"^norms\.(\d+)", r"stages.\1.norm", key)
        match = re.match(r"fc\.(\d+)\.(weight|bias)", key)
        if match:
            if match[2] == "weight":
                square = value if bug == "transpose" else value.t()
                e[f"stages.{match[1]}.dense.kernel"] = upload(square)
            else:
                e[f"stages.{match[1]}.dense.offset"] = upload(value)
        else:
            e[key] = upload(value)
    for ours, theirs in (("dense", "hidden"), ("classes", "output")):
        layer = getattr(head, ours)
        h[f"{theirs}.kernel"] = upload(layer.weight.t())
        h[f"{theirs}.offset"] = upload(layer.bias)
    if bug == "partial":
        del h["output.offset"]
        e = {k: v for k, v in e.items() if not k.endswith("offset")}
    return e, h


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bug", default="", choices=["", "pool", "relu", "transpose", "partial"])
    bug = ap.parse_args().bug
    torch.manual_seed(77)
    torch_encoder, torch_head = TorchEncoder().cuda().eval(), TorchHead().cuda().eval()
    encoder, head = Encoder(bug), Head(bug)
    encoder_state, head_state = convert(torch_encoder, torch_head, bug)
    encoder.load_state_dict(encoder_state, strict=False)
    head.load_state_dict(head_state, strict=False)

    run_encoder = tp.compile(encoder, args=[tp.InputInfo([(1, 3, 8), 7], dtype=tp.int32)])
    run_head = tp.compile(head, args=[tp.InputInfo([(1, 3, 8), 16], dtype=tp.float32)])

    tokens = torch.randint(0, 50, (3, 7), device="cuda", dtype=torch.int32)
    with torch.no_grad():
        expected = torch_head(torch_encoder(tokens))
    pooled = run_encoder(tp.Tensor(tokens))
    actual = torch.from_dlpack(run_head(pooled))
    assert actual.shape == expected.shape
    print("same class:", bool((actual.argmax(-1) == expected.argmax(-1)).all()))


if __name__ == "__main__":
    main()
