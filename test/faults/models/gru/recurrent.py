"""A gated recurrent encoder with attention over its states: torch's own cell against one written out."""

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self, items=30, width=10, hidden=12):
        super().__init__()
        self.embed = nn.Embedding(items, width)
        self.cell = nn.GRUCell(width, hidden)
        self.score = nn.Linear(hidden, 1)
        self.project = nn.Linear(hidden, width)

    def forward(self, items):
        x = self.embed(items)
        state = x.new_zeros(x.shape[0], self.cell.hidden_size)
        states = []
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
            states.append(state)
        states = torch.stack(states, dim=1)
        weights = torch.softmax(self.score(states), dim=1)
        summary = (weights * states).sum(dim=1)
        return nn.functional.normalize(self.project(summary), dim=-1)


class WrittenOutEncoder(nn.Module):
    """The same for export: no cell, no normalize, the same names."""

    def __init__(self, items=30, width=10, hidden=12):
        super().__init__()
        self.hidden = hidden
        self.embed = nn.Embedding(items, width)
        self.cell = nn.Module()
        self.cell.weight_ih = nn.Parameter(torch.zeros(3 * hidden, width))
        self.cell.weight_hh = nn.Parameter(torch.zeros(3 * hidden, hidden))
        self.cell.bias_ih = nn.Parameter(torch.zeros(3 * hidden))
        self.cell.bias_hh = nn.Parameter(torch.zeros(3 * hidden))
        self.score = nn.Linear(hidden, 1)
        self.project = nn.Linear(hidden, width)

    def step(self, x, state):
        from_input = torch.matmul(x, self.cell.weight_ih.t()) + self.cell.bias_ih
        from_state = torch.matmul(state, self.cell.weight_hh.t()) + self.cell.bias_hh
        reset_x, update_x, new_x = from_input.split(self.hidden, dim=-1)
        reset_h, update_h, new_h = from_state.split(self.hidden, dim=-1)
        reset = torch.sigmoid(reset_x + reset_h)
        update = torch.sigmoid(update_x + update_h)
        candidate = torch.tanh(new_x + reset * new_h)
        return (1.0 - update) * candidate + update * state

    def forward(self, items):
        x = self.embed(items)
        state = torch.zeros(x.shape[0], self.hidden)
        states = []
        for index in range(x.shape[1]):
            state = self.step(x[:, index], state)
            states.append(state)
        states = torch.stack(states, dim=1)
        scores = self.score(states)
        weights = torch.softmax(scores, dim=1)
        summary = torch.sum(weights * states, dim=1)
        projected = self.project(summary)
        length = torch.sqrt(torch.sum(projected * projected, dim=-1, keepdim=True))
        return projected / torch.clamp(length, min=1e-12)
