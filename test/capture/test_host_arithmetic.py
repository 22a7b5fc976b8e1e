import unittest

from capture_case import CaptureCase


class HostArithmetic(CaptureCase):
    """Without an engine: what is printed was evaluated in the agent."""

    source = """
        import numpy as np
        import nvtripy as tp

        a = tp.Tensor([7, -7, 9])
        b = tp.Tensor([2, 2, -4])
        x = tp.ones((2, 3, 4))

        def show(tensor):
            print(tensor.tolist())

        show(a + b * 3 - 1)
        show(a // b)
        show(tp.maximum(a, b))
        show(tp.sum(a, 0))
        show((a > b))
        show(tp.where(a < 0, 0 - a, a))
        show(tp.concatenate([a, b], 0)[1:5:2])
        show(tp.flip(a, 0))
        show(tp.pad(a, [(1, 2)], value=5))
        show(tp.arange(2, 11, 3, dtype=tp.int32))
        show(tp.permute(tp.reshape(tp.concatenate([a, b], 0), (2, 3)), (1, 0)))
        show(tp.gather(a, 0, tp.Tensor([2, 0])))
        show(tp.cast(tp.Tensor([1.9, -1.9]), tp.int32))
        show(tp.cast(a, tp.bool))
        print(int(tp.permute(x @ tp.ones((4, 5)), (2, 0, 1)).shape[0]))
        print([int(size) for size in tp.reshape(tp.exp(x), (-1, 4)).shape])
        print([int(size) for size in tp.sum(tp.concatenate([x, x], 1), 2, keepdim=True).shape])
        print([int(size) for size in tp.softmax(x[:, 1:, :2], 1).shape])
    """

    def test_results_are_those_of_the_backend(self):
        self.assertEqual(
            self.run_.stdout.splitlines(),
            [
                "[12, -2, -4]",
                "[3, -4, -3]",
                "[7, 2, 9]",
                "9",
                "[True, False, True]",
                "[7, 7, 9]",
                "[-7, 2]",
                "[9, -7, 7]",
                "[5, 7, -7, 9, 5, 5]",
                "[2, 5, 8]",
                "[[7, 2], [-7, 2], [9, -4]]",
                "[9, 7]",
                "[1, -1]",
                "[True, True, True]",
                "5",
                "[6, 4]",
                "[2, 6, 1]",
                "[2, 2, 2]",
            ],
        )

    def test_no_trace_is_written_of_it(self):
        self.assertEqual(self.run_.index["traces"], [])


if __name__ == "__main__":
    unittest.main()
