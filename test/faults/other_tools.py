"""What plain comparisons of the final outputs say: numpy's allclose, and Polygraphy's comparator with its defaults.

usage: python other_tools.py FOLDER   (FOLDER holds ID.safetensors with "expected" and "actual")
"""

import contextlib
import io
import json
import os
import struct
import sys

import numpy as np
from polygraphy.comparator import Comparator, IterationResult, RunResults
from polygraphy.logger import G_LOGGER


def read(path: str) -> dict:
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[begin:end], dtype=np.float32)
    return tensors


def agrees(expected: np.ndarray, actual: np.ndarray) -> bool:
    results = RunResults()
    for name, values in (("expected", expected), ("actual", actual)):
        results.append((name, [IterationResult(outputs={"output": values}, runner_name=name)]))
    with contextlib.redirect_stdout(io.StringIO()):
        return bool(Comparator.compare_accuracy(results))


def main() -> None:
    folder = sys.argv[1]
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    for name in sorted(os.listdir(folder)):
        tensors = read(os.path.join(folder, name))
        expected, actual = tensors["expected"], tensors["actual"]
        said = {
            "id": name.rpartition(".")[0],
            "allclose": bool(np.allclose(actual, expected, rtol=0, atol=3e-2)),
            "polygraphy": agrees(expected, actual),
        }
        print(json.dumps(said))


if __name__ == "__main__":
    main()
