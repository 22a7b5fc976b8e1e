"""Compares the jagged with the dense torch model: exit code 0 if they agree, else 1.

usage: python test_research_pipeline.py [--config tiny|ml-1m-large] [--seed N]
"""

import argparse
import sys

import torch

from config import CONFIGS, make_inputs, valid_rows
from hstu import FBGEMM_VERSION, Hstu
from hstu_dense import HstuDense

TOLERANCE = 1e-3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=sorted(CONFIGS), default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    print(f"torch {torch.__version__}, fbgemm_gpu {FBGEMM_VERSION}")
    config = CONFIGS[args.config]
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # threads would cut the two layouts in different places
    jagged = Hstu(config).eval()
    dense = HstuDense(config).eval()
    dense.load_state_dict(jagged.state_dict())
    inputs = make_inputs(jagged, config, args.seed)

    with torch.no_grad():
        expected = jagged(
            inputs.past_lengths, inputs.past_ids, inputs.past_embeddings, inputs.timestamps
        )
        actual = dense(inputs.past_ids, inputs.past_embeddings, inputs.timestamps)

    rows = valid_rows(inputs.past_lengths, config.padded_len)
    difference = (actual - expected)[rows].abs().max().item()
    print(f"{args.config}: {int(rows.sum())} valid rows, max |difference| = {difference:.3e}")
    if not difference < TOLERANCE:
        print(f"FAILED (tolerance {TOLERANCE:.0e})")
        return 1
    print(f"PASSED (tolerance {TOLERANCE:.0e})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
