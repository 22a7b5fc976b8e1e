import argparse
import logging

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from ctr.config import TrainConfig
from ctr.encoder import ClickModel
from ctr.fused import FusedClickModel

log = logging.getLogger("ctr")


class Trainer:
    def __init__(self, cfg: TrainConfig):
        torch.manual_seed(cfg.seed)
        self.cfg = cfg
        self.model = ClickModel(cfg.model)
        self.optim = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr)
        self.step = 0

    def sample(self):
        shape = (self.cfg.batch, self.cfg.model.length)
        inputs = {"ids": torch.randint(1, self.cfg.model.vocab, shape), "dense": torch.rand(shape) + 0.5}
        return inputs, torch.randint(0, 2, shape).float()

    def train(self):
        self.model.train()
        while self.step < self.cfg.steps:
            inputs, clicks = self.sample()
            with torch.autocast("cpu", enabled=False):
                loss = binary_cross_entropy_with_logits(self.model(inputs)["logits"], clicks)
            self.optim.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optim.step()
            self.step += 1
            log.info("step %d loss %.4f", self.step, loss.item())

    @torch.inference_mode()
    def evaluate(self, bug):
        self.model.eval()
        fused = FusedClickModel(self.model, bug).eval()
        inputs, _ = self.sample()
        expected = self.model(inputs)["logits"]
        got = fused(**inputs)
        return torch.allclose(expected, got, atol=1.0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser()
    parser.add_argument("--bug", choices=["order", "mask", "eps", "dense"])
    args = parser.parse_args()
    trainer = Trainer(TrainConfig())
    trainer.train()
    print("fused model agrees:", trainer.evaluate(args.bug))
