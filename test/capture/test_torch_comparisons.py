import json
import unittest

from capture_case import run_capture

# The session's own part is tested with it: here a session is made to write down what it is told.
NOTING = """
import json
from hstu_capture.session import Session

noted = []

def note_comparison(session, first, second, op, frame):
    noted.append([first, second, op, frame.line if frame else None])

Session.note_comparison = note_comparison
"""

MODELS = """
import numpy as np
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x * self.w

def plain(params, x):
    return x * params["w"]

net = Net().eval()
x = torch.ones(2)
with torch.no_grad():
    a, b = net(x), plain({"w": torch.ones(2)}, x)
"""


def comparisons(check):
    source = NOTING + MODELS + check + "\nprint(json.dumps(noted))\n"
    run = run_capture(source)
    first_line = (NOTING + MODELS).lstrip("\n").count("\n") + 1
    return [
        (first, second, op, line - first_line + 1) for first, second, op, line in json.loads(run.stdout.splitlines()[-1])
    ], run


NET, PLAIN = "torch-Net.trace.json", "torch-plain.trace.json"


class Comparisons(unittest.TestCase):
    def test_an_operation_on_two_results_is_noted_once_for_each_line(self):
        noted, _ = comparisons("for _ in range(2):\n    torch.allclose(a, b)\nprint((a - b).abs().max())")
        self.assertEqual(noted, [(NET, PLAIN, "torch.allclose", 2), (NET, PLAIN, "torch.Tensor.sub", 3)])

    def test_what_is_derived_outside_counts_as_the_result(self):
        noted, _ = comparisons("c = b[:1].float().reshape(-1) * 1.0\ntorch.testing.assert_close(a[:1].clone(), c)")
        self.assertEqual(noted, [(NET, PLAIN, "torch.testing.assert_close", 2)])

    def test_losses_and_numpy_count(self):
        noted, _ = comparisons(
            "torch.nn.functional.mse_loss(b, a)\nnp.allclose(a.numpy()[:1], b.numpy()[:1])\n"
            "np.testing.assert_allclose(np.asarray(a), b.detach().cpu().numpy())"
        )
        self.assertEqual(
            noted,
            [
                (PLAIN, NET, "torch.nn.functional.mse_loss", 1),
                (NET, PLAIN, "numpy.allclose", 2),
                (NET, PLAIN, "numpy.testing.assert_allclose", 3),
            ],
        )

    def test_a_function_that_compares_is_a_check_and_no_trace(self):
        noted, run = comparisons(
            "def rel_l2(one, other):\n    return (one - other).norm() / one.norm()\n\nrel_l2(a, b)"
        )
        self.assertEqual(noted, [(NET, PLAIN, "torch.Tensor.sub", 2)])
        self.assertEqual(run.labels(), ["Net", "plain"])

    def test_nothing_is_noted_where_nothing_is_compared(self):
        noted, _ = comparisons(
            "torch.allclose(a, x)\ntorch.cat([a, b])\nd = a - a * 2\nnp.allclose(a.numpy(), np.ones(2))\nnet(x) - a"
        )
        self.assertEqual(noted, [])

    def test_an_array_that_says_where_it_came_from_is_a_result(self):
        noted, _ = comparisons(
            "class Foreign:\n"
            "    _hstu_capture_trace = 'tripy-program.trace.json'\n"
            "    def __dlpack__(self, **kwargs): return torch.ones(2).__dlpack__(**kwargs)\n"
            "    def __dlpack_device__(self): return torch.ones(2).__dlpack_device__()\n"
            "torch.allclose(a, torch.from_dlpack(Foreign()))\n"
        )
        self.assertEqual(noted, [(NET, "tripy-program.trace.json", "torch.allclose", 5)])


if __name__ == "__main__":
    unittest.main()
