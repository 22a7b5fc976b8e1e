"""A gated recurrent network over sessions, written cell by cell in torch."""

import torch


class GatedCell(torch.nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.reset = torch.nn.Linear(inputs + width, width)
        self.update = torch.nn.Linear(inputs + width, width)
        self.propose = torch.nn.Linear(inputs + width, width)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """x [B, F], state [B, D] -> [B, D]"""
        both = torch.cat([x, state], dim=-1)
        r = torch.sigmoid(self.reset(both))
        z = torch.sigmoid(self.update(both))
        proposal = torch.tanh(self.propose(torch.cat([x, r * state], dim=-1)))
        return (1 - z) * state + z * proposal


class SessionModel(torch.nn.Module):
    def __init__(self, items: int = 50, features: int = 6, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.items = torch.nn.Embedding(items, features)
        self.cell = GatedCell(features, width)
        self.norm = torch.nn.LayerNorm(width, eps=1e-6)
        self.out = torch.nn.Linear(width, items)

    def forward(self, ids: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
        """ids [B, T], gaps [B, T] hours since the item before -> scores [B, items]"""
        state = torch.zeros(ids.shape[0], self.width)
        x = self.items(ids)
        decay = torch.exp(-gaps / 24.0)
        for step in range(ids.shape[1]):
            state = state * decay[:, step : step + 1]
            state = self.cell(x[:, step], state)
        state = self.norm(state)
        return self.out(state)
