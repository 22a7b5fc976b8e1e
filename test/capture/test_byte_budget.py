"""What is kept of a run that records more bytes than it may."""

import math
import os
import subprocess
import sys
import unittest

import numpy as np
from capture_case import CAPTURE, CaptureCase, run_capture
from hstu_capture.byte_budget import sampled_rows, summarise

SOURCE = """
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(300))
            self.hidden = torch.arange(600.0).reshape(2, 300)

        def forward(self, x):
            a = x * self.weight
            a[0, 0], a[0, 1] = float("nan"), float("inf")
            count = (a > 3).sum(0)
            small = a[:3] * 2
            b = a[:2] + self.hidden
            c = a - 1
            return c * 2, b

    Model()(torch.arange(30_000.0).reshape(100, 300))
"""


class OverTheBudget(CaptureCase):
    source = SOURCE
    options = ("--byte-budget", "1")

    def tensor(self, name):
        return self.run_.trace().named(f"/forward.{name}")

    def test_parameters_inputs_and_outputs_keep_their_values(self):
        trace = self.run_.trace()
        kept = [port["tensor"] for port in (*trace.json["inputs"], *trace.json["outputs"], *trace.json["parameters"])]
        self.assertEqual(len(kept), 4)
        for number in kept:
            self.assertIn("key", trace.tensors[number])
            self.assertNotIn("statistics", trace.tensors[number])
        self.assertEqual(trace.value_of(trace.json["outputs"][0]["tensor"])[2, 5], (605 - 1) * 2)

    def test_what_comes_from_outside_the_model_keeps_its_values(self):
        trace = self.run_.trace()
        op = trace.maker_of("/forward.b")
        self.assertEqual(trace.value_of(op["inputs"][1]).tolist(), np.arange(600.0).reshape(2, 300).tolist())

    def test_results_are_kept_as_statistics_and_rows(self):
        trace = self.run_.trace()
        c = self.tensor("c")
        self.assertNotIn("key", c)
        self.assertEqual(c["shape"], [100, 300])
        values = np.arange(30_000.0) - 1
        finite = values[2:]
        self.assertEqual(c["statistics"]["nan"], 1)
        self.assertEqual(c["statistics"]["inf"], 1)
        self.assertEqual(c["statistics"]["zeros"], 0)
        self.assertEqual((c["statistics"]["min"], c["statistics"]["max"]), (1, 29_998))
        self.assertAlmostEqual(c["statistics"]["mean"], finite.mean())
        self.assertAlmostEqual(c["statistics"]["rms"], math.sqrt((finite**2).mean()))
        rows = c["sample"]["rows"]
        self.assertEqual((len(rows), rows[0], rows[-1]), (16, 0, 99))
        whole = values.reshape(100, 300).copy()
        whole[0, :2] = np.nan, np.inf
        np.testing.assert_array_equal(trace.arrays[c["sample"]["key"]], whole[rows])

    def test_integers_and_what_has_few_rows_keep_their_values(self):
        for name in ("count", "small"):
            self.assertIn("key", self.tensor(name))

    def test_the_index_says_so(self):
        reduced = self.run_.index["traces"][0]["reduced"]
        self.assertEqual(set(reduced), {"tensors", "bytes"})
        trace = self.run_.trace()
        self.assertEqual(reduced["tensors"], sum("sample" in tensor for tensor in trace.json["tensors"]))
        self.assertGreaterEqual(reduced["bytes"], 84 * 300 * 4)


class WithinTheBudget(unittest.TestCase):
    def test_nothing_is_reduced(self):
        for budget in ("0", "100000000"):
            run = run_capture(SOURCE, options=("--byte-budget", budget))
            self.assertNotIn("reduced", run.index["traces"][0])
            self.assertTrue(all("key" in tensor for tensor in run.trace().json["tensors"]))


class Summaries(unittest.TestCase):
    def test_rows_are_spread_from_the_first_to_the_last(self):
        self.assertEqual(sampled_rows(5), [0, 1, 2, 3, 4])
        for height in (17, 100, 12345):
            rows = sampled_rows(height)
            self.assertEqual((len(set(rows)), rows[0], rows[-1], rows), (16, 0, height - 1, sorted(rows)))

    def test_half_precision_is_read_as_what_it_means(self):
        halves = np.linspace(-2, 2, 340).astype(np.float16)
        summary = summarise("float16", (34, 10), halves.tobytes())
        self.assertEqual((summary.statistics["min"], summary.statistics["max"]), (-2, 2))
        bits = (halves.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        brain = summarise("bfloat16", (34, 10), bits.tobytes())
        self.assertEqual((brain.statistics["min"], brain.statistics["max"]), (-2, 2))
        self.assertEqual(brain.sample, bits.reshape(34, 10)[brain.rows].tobytes())

    def test_without_a_finite_number_there_is_no_mean(self):
        summary = summarise("float32", (20, 1), np.full(20, np.nan, np.float32).tobytes())
        self.assertEqual((summary.statistics["mean"], summary.statistics["nan"]), ("NaN", 20))

    def test_torch_and_numpy_agree(self):
        code = (
            "import sys, torch, numpy\n"
            "from hstu_capture.byte_budget import summarise\n"
            "values = torch.randn(2_000_000, 1).numpy().tobytes()\n"
            "one = summarise('float32', (2_000_000, 1), values).statistics\n"
            "del sys.modules['numpy']\n"
            "two = summarise('float32', (2_000_000, 1), values).statistics\n"
            "assert one.keys() == two.keys() and all(abs(one[k] - two[k]) < 1e-9 for k in one), (one, two)\n"
        )
        environment = {**os.environ, "PYTHONPATH": CAPTURE, "PYTHONDONTWRITEBYTECODE": "1"}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        self.assertEqual((run.returncode, run.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
