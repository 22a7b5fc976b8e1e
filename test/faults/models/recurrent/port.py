"""The recurrent network with joined gates, for speed."""

import torch
import torch.nn.functional as F


class FastSessionModel(torch.nn.Module):
    def __init__(self, items: int = 50, features: int = 6, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.items = torch.nn.Parameter(torch.zeros(items, features))
        self.gates = torch.nn.Parameter(torch.zeros(2 * width, features + width))
        self.gates_bias = torch.nn.Parameter(torch.zeros(2 * width))
        self.propose = torch.nn.Linear(features + width, width)
        self.norm = torch.nn.LayerNorm(width, eps=1e-6)
        self.out = torch.nn.Linear(width, items)

    def take(self, model: torch.nn.Module) -> None:
        """Takes the parameters over from the reference."""
        cell = model.cell
        with torch.no_grad():
            self.items.copy_(model.items.weight)
            self.gates.copy_(torch.cat([cell.reset.weight, cell.update.weight]))
            self.gates_bias.copy_(torch.cat([cell.reset.bias, cell.update.bias]))
        self.propose.load_state_dict(cell.propose.state_dict())
        self.norm.load_state_dict(model.norm.state_dict())
        self.out.load_state_dict(model.out.state_dict())

    def cell(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """x [B, F], state [B, D] -> [B, D]"""
        joined = torch.cat([x, state], dim=1)
        both_gates = torch.sigmoid(F.linear(joined, self.gates, self.gates_bias))
        reset, update = both_gates.chunk(2, dim=1)
        kept = reset * state
        proposal = torch.tanh(self.propose(torch.cat([x, kept], dim=1)))
        step = proposal - state
        return state + update * step

    def forward(self, ids: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
        """ids [B, T], gaps [B, T] hours since the item before -> scores [B, items]"""
        x = F.embedding(ids, self.items)
        rate = 1.0 / 24.0
        decay = torch.exp(-gaps * rate)
        state = x.new_zeros(x.shape[0], self.width)
        for column in range(x.shape[1]):
            faded = state * decay[:, column, None]
            state = self.cell(x[:, column], faded)
        normed = self.norm(state)
        return self.out(normed)
