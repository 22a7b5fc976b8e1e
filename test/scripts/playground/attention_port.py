# %% imports
import os

import nvtripy as tp
import torch
import torch.nn as nn

BUG = os.environ.get("BUG", "")
torch.manual_seed(20)

# %% a small block
d, h, n = 16, 2, 6
ln = nn.LayerNorm(d)
attn_in = nn.Linear(d, 3 * d)
attn_out = nn.Linear(d, d)
nn.init.normal_(ln.weight, 1.0, 0.2)


def block(x):
    z = ln(x)
    q, k, v = attn_in(z).chunk(3, dim=-1)
    q, k, v = [t.reshape(n, h, d // h).transpose(0, 1) for t in (q, k, v)]
    a = torch.softmax(q @ k.transpose(1, 2) * (d // h) ** -0.5, dim=-1)
    return x + attn_out((a @ v).transpose(0, 1).reshape(n, d))


# %% try it
x = torch.randn(n, d)
y = block(x).detach()
print(y[0, :4])

# %% again, on other data
x = torch.randn(n, d) * 2
y = block(x).detach()
print(y[0, :4])


# %% first version of the port
class Block(tp.Module):
    def __init__(self):
        super().__init__()
        self.norm = tp.LayerNorm(d, dtype=tp.float32, eps=1e-2 if BUG == "eps" else 1e-5)
        self.proj = tp.Linear(d, 3 * d)
        self.out = tp.Linear(d, d)

    def forward(self, x):
        z = self.norm(x)
        qkv = self.proj(z)
        q, k, v = tp.split(qkv, 3, dim=-1)
        if BUG == "swap":
            k, v = v, k
        q = tp.transpose(tp.reshape(q, (n, h, d // h)), 0, 1)
        k = tp.transpose(tp.reshape(k, (n, h, d // h)), 0, 1)
        v = tp.transpose(tp.reshape(v, (n, h, d // h)), 0, 1)
        scores = q @ tp.transpose(k, 1, 2)
        if BUG == "scale":
            scores = scores / d**0.5
        else:
            scores = scores / (d // h) ** 0.5
        if BUG == "axis":
            a = tp.softmax(scores, dim=1)
        else:
            a = tp.softmax(scores, dim=2)
        mixed = tp.reshape(tp.transpose(a @ v, 0, 1), (n, d))
        return x + self.out(mixed)


port = Block()

# %% weights
params = {"norm": ln, "proj": attn_in, "out": attn_out}
for name, layer in params.items():
    target = getattr(port, name)
    target.weight = tp.Tensor(layer.weight.detach())
    target.bias = tp.Tensor(layer.bias.detach())

# %% eager
x_tp = tp.Tensor(x)
out = port(x_tp)
out.eval()
print(out)

# %% compiled
fast = tp.compile(port, args=[tp.InputInfo((n, d), tp.float32)])
out = fast(tp.copy(x_tp, tp.device("gpu")))

# %% how far off?
err = (torch.from_dlpack(tp.copy(out, tp.device("cpu"))) - y).abs().max()
print(float(err))
