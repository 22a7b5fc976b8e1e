"""dlrm.py ported to Tripy."""

import nvtripy as tp


class Perceptron(tp.Module):
    def __init__(self, sizes, last):
        super().__init__()
        self.layers = [tp.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
        self.last = last

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = tp.relu(layer(x))
        x = self.layers[-1](x)
        return self.last(x)


class Dlrm(tp.Module):
    def __init__(self, table_sizes=(40, 25, 60, 12), width=8, dense_features=5):
        super().__init__()
        self.width = width
        self.fields = len(table_sizes) + 1
        self.tables = [tp.Embedding(size, width) for size in table_sizes]
        self.bottom = Perceptron([dense_features, 16, width], tp.relu)
        pairs = self.fields * (self.fields - 1) // 2
        self.top = Perceptron([width + pairs, 16, 8, 1], tp.sigmoid)
        # Row major below the diagonal, as positions in the flattened matrix of dots.
        below = [i * self.fields + j for i in range(self.fields) for j in range(i)]
        self.pair_positions = tp.Tensor(below)

    def forward(self, dense, sparse):
        """dense [B, 5] counts, sparse [B, 4] ids -> [B, 1]"""
        logs = tp.log(dense + 1.0)
        x = self.bottom(logs)
        looked_up = [x]
        for index, table in enumerate(self.tables):
            ids = sparse[:, index]
            looked_up.append(table(ids))
        stacked = tp.stack(looked_up, dim=1)
        transposed = tp.transpose(stacked, 1, 2)
        dots = stacked @ transposed
        flat = tp.reshape(dots, (-1, self.fields * self.fields))
        interactions = tp.gather(flat, 1, self.pair_positions)
        features = tp.concatenate([x, interactions], dim=1)
        return self.top(features)


def load_torch_weights(port, model):
    for index, table in enumerate(model.tables):
        port.tables[index].weight = tp.Tensor(table.weight.detach())
    copy_perceptron(port.bottom, model.bottom)
    copy_perceptron(port.top, model.top)


def copy_perceptron(target, source):
    linears = [layer for layer in source if hasattr(layer, "weight")]
    for to, linear in zip(target.layers, linears):
        to.weight = tp.Tensor(linear.weight.detach())
        to.bias = tp.Tensor(linear.bias.detach())
