# %%
import sys

import nvtripy as tp
import torch

torch.manual_seed(1)
slip = sys.argv[1] if len(sys.argv) > 1 else ""

# %% [markdown]
# ## The model as it was trained

# %%
net = torch.nn.Sequential(
    torch.nn.LayerNorm(12),
    torch.nn.Linear(12, 20),
    torch.nn.SiLU(),
    torch.nn.Linear(20, 8),
)
net.eval()
x = torch.randn(5, 12)
with torch.no_grad():
    y = net(x)
print(y.shape)

# %% [markdown]
# ## The same in Tripy, evaluated line by line

# %%
w1, b1 = net[1].weight.detach(), net[1].bias.detach()
w2, b2 = net[3].weight.detach(), net[3].bias.detach()
x_tp = tp.Tensor(x)
mean = tp.mean(x_tp, dim=-1, keepdim=True)
var = tp.mean((x_tp - mean) ** 2.0, dim=-1, keepdim=True)
normed = (x_tp - mean) * tp.rsqrt(var + 1e-5)
print(normed)

# %%
hidden = normed @ tp.transpose(tp.Tensor(w1), 0, 1) + tp.Tensor(b1)
if slip == "activation":
    active = hidden * tp.sigmoid(hidden * 1.702)
else:
    active = hidden * tp.sigmoid(hidden)
out = active @ tp.transpose(tp.Tensor(w2), 0, 1) + tp.Tensor(b2)
out.eval()

# %%
result = torch.from_dlpack(out)
print("difference:", (result.cpu() - y).abs().max())
