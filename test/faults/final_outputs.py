"""Compares final outputs as a user would: numpy.allclose, and Polygraphy's comparator with its default tolerances.

Reads one request a line, {"folder": ..., "others": [...]}, and answers each with one line of JSON. A folder has pairs
`*.reference.npy` and `*.candidate.npy`. "same" says whether the candidates of all folders have the same bits.
"""

import glob
import json
import os
import sys
from contextlib import redirect_stdout

import numpy as np
from polygraphy.comparator import Comparator, IterationResult, RunResults
from polygraphy.logger import G_LOGGER

G_LOGGER.module_severity = {"": G_LOGGER.CRITICAL}


def load(folder: str, side: str) -> "dict[str, np.ndarray]":
    end = f".{side}.npy"
    files = sorted(glob.glob(os.path.join(glob.escape(folder), "*" + end)))
    return {os.path.basename(file)[: -len(end)]: np.load(file) for file in files}


def polygraphy_passes(reference: "dict[str, np.ndarray]", candidate: "dict[str, np.ndarray]") -> bool:
    sides = {"reference": reference, "candidate": candidate}
    return bool(
        Comparator.compare_accuracy(
            RunResults([(name, [IterationResult(outputs=outputs)]) for name, outputs in sides.items()])
        )
    )


def same_bits(one: "dict[str, np.ndarray]", other: "dict[str, np.ndarray]") -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes() for name in one
    )


def answer(request: dict) -> dict:
    reference, candidate = load(request["folder"], "reference"), load(request["folder"], "candidate")
    if not reference:
        return {}
    with np.errstate(all="ignore"):
        return {
            "allclose": all(np.allclose(candidate[name], reference[name], rtol=0, atol=3e-2) for name in reference),
            "polygraphy": polygraphy_passes(reference, candidate),
            "same": all(same_bits(candidate, load(other, "candidate")) for other in request.get("others", [])),
        }


if __name__ == "__main__":
    for line in sys.stdin:
        with redirect_stdout(sys.stderr):
            result = answer(json.loads(line))
        print(json.dumps(result), flush=True)
