"""Runs the serving encoder beside the research encoder on one padded batch."""

import argparse
import sys

import torch

from encoder import SequenceEncoder
from fast_encoder import FastEncoder, copy_weights


def randomize(model):
    """Biases, gains and offset tables as after training, not as a fresh model has them."""
    for name, parameter in model.named_parameters():
        if name.endswith("offset_bias.weight"):
            torch.nn.init.normal_(parameter, 0.0, 0.5)
        elif parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 0.0 if name.endswith("bias") else 1.0, 0.2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    model = SequenceEncoder().eval()
    randomize(model)
    port = FastEncoder().eval()
    copy_weights(model, port)

    batch, length = 4, 14
    ids = torch.randint(0, 61, (batch, length))
    segments = torch.randint(0, 3, (batch, length))
    lengths = torch.tensor([length, 9, 4, 11])
    valid = torch.arange(length) < lengths.unsqueeze(1)

    with torch.no_grad():
        expected_embedding, expected_logits = model(ids, segments, valid)
        embedding, logits = port(ids, segments, lengths)

    difference = max(
        (embedding - expected_embedding).abs().max().item(),
        (logits - expected_logits).abs().max().item(),
    )
    print(f"max |difference| = {difference:.3e}")
    return 0 if difference < 3e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
