import torch
from torch import nn

torch.manual_seed(3)
net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
net(torch.zeros(4, 6))  # warm-up
x = torch.randn(4, 6)


def port(x, w1, b1, w2, b2):
    h = (x @ w1.T + b1).clamp(min=0)
    return h @ w2.T + b2


with torch.no_grad():
    print((net(x) - port(x, *net.parameters())).abs().max())
