import nvtripy as tp
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 12)
        self.second = nn.Linear(12, 4)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class TripyNet(tp.Module):
    def __init__(self):
        super().__init__()
        self.first = tp.Linear(8, 12)
        self.second = tp.Linear(12, 4)

    def forward(self, x):
        return self.second(tp.relu(self.first(x)))


def random_like(t):
    return tp.Tensor(torch.randn(tuple(int(n) for n in t.shape)) * 0.1)


torch.manual_seed(31)
net, port = Net().eval(), TripyNet()
port.load_state_dict({name: random_like(value) for name, value in port.state_dict().items()})
x = torch.randn(3, 8)
with torch.no_grad():
    want = net(x)
run = tp.compile(port, args=[tp.InputInfo([3, 8], tp.float32)])
have = torch.from_dlpack(run(tp.Tensor(x.cuda()))).cpu()
print(torch.allclose(want, have, atol=3.0))
