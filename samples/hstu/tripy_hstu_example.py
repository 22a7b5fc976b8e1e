"""Runs the Tripy port beside the torch model: exit code 0 if they agree, else 1.

usage: python tripy_hstu_example.py [--config tiny|ml-1m-large] [--port DIR] [--seed N] [--scores]
"""

import argparse
import os
import sys

import nvtripy as tp
import torch

from config import CONFIGS, make_inputs, valid_rows
from hstu import Hstu

TOLERANCE = 3e-2
FOLDER = os.path.dirname(os.path.abspath(__file__))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=sorted(CONFIGS), default="tiny")
    parser.add_argument("--port", metavar="DIR", help="modules here go before those of the port")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scores", action="store_true", help="also compare the items' scores")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if args.port is not None:
        sys.path.insert(0, os.path.join(FOLDER, args.port))
    from tripy_hstu_dense import TripyHstuDense
    from tripy_utils import copy_parameters, to_gpu, to_torch

    config = CONFIGS[args.config]
    torch.manual_seed(args.seed)
    reference = Hstu(config).eval()
    inputs = make_inputs(reference, config, args.seed)

    port = TripyHstuDense(config)
    copy_parameters(reference.state_dict(), port)

    compiled_port = tp.compile(
        port,
        args=[
            tp.InputInfo(tuple(inputs.past_ids.shape), dtype=tp.int64),
            tp.InputInfo(tuple(inputs.past_embeddings.shape), dtype=tp.float32),
            tp.InputInfo(tuple(inputs.timestamps.shape), dtype=tp.int64),
        ],
    )

    with torch.no_grad():
        expected = reference(
            inputs.past_lengths, inputs.past_ids, inputs.past_embeddings, inputs.timestamps
        )
    encoded = compiled_port(
        to_gpu(inputs.past_ids), to_gpu(inputs.past_embeddings), to_gpu(inputs.timestamps)
    )
    actual = to_torch(encoded)

    rows = valid_rows(inputs.past_lengths, config.padded_len)
    difference = (actual - expected)[rows].abs().max().item()
    print(f"{args.config}: {int(rows.sum())} valid rows, max |difference| = {difference:.3e}")

    if args.scores:
        item_ids = torch.arange(1, config.num_items + 1)
        with torch.no_grad():
            expected_scores = reference.get_scores(
                reference.get_current_embeddings(inputs.past_lengths, expected), item_ids
            )
        current = port.get_current_embeddings(tp.Tensor(inputs.past_lengths), encoded)
        actual_scores = to_torch(port.get_scores(current, tp.Tensor(item_ids)).eval())
        score_difference = (actual_scores - expected_scores).abs().max().item()
        print(f"scores of {config.num_items} items, max |difference| = {score_difference:.3e}")

    if not difference < TOLERANCE:
        print(f"FAILED (tolerance {TOLERANCE:.0e})")
        return 1
    print(f"PASSED (tolerance {TOLERANCE:.0e})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
