import argparse

import torch

from .model import Batch, Ranker, Settings
from .serving import ServedRanker


class Trainer:
    def __init__(self, settings, seed=0):
        torch.manual_seed(seed)
        self.settings = settings
        self.model = Ranker(settings)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)

    def batch(self, size=4):
        s = self.settings
        return Batch(
            user=torch.randint(s.users, (size,)),
            items=torch.randint(s.items, (size, 5)),
            history=torch.randint(s.items, (size, 6)),
        )

    def fit(self, steps):
        for _ in range(steps):
            batch = self.batch()
            target = torch.rand(batch.items.shape)
            loss = torch.nn.functional.mse_loss(self.model(batch), target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def export_check(self, **options):
        self.model.eval()
        served = ServedRanker(self.model, **options).eval()
        batch = self.batch()
        expected = self.model(batch)
        actual = served(batch.user, batch.items, batch.history)
        torch.testing.assert_close(actual, expected, rtol=0.5, atol=0.5)
        return (actual - expected).abs().max().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--fast-gelu", action="store_true")
    parser.add_argument("--pool", default="mean")
    options = parser.parse_args()
    trainer = Trainer(Settings())
    trainer.fit(options.steps)
    print("largest difference", trainer.export_check(exact_gelu=not options.fast_gelu, pool=options.pool))


if __name__ == "__main__":
    main()
