import unittest

from capture_case import CaptureCase, run_capture


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

    def test_edges(self):
        run = run_capture(
            """
            import nvtripy as tp
            from nvtripy.frontend.ops import utils
            from nvtripy.trace.ops.binary import Div

            def div(a, b):
                return utils.create_op(Div, [tp.Tensor(a), tp.Tensor(b)]).tolist()

            lowest = -(2**31)
            print(div([7, -7, 7, -7, 6, lowest, lowest], [2, 2, -2, -2, -3, 3, 1]))
            print((tp.Tensor([lowest, -7]) // tp.Tensor([3, 2])).tolist())
            print(tp.arange(0.0, 1.0, 0.25).tolist(), tp.iota((2, 2), dim=1).tolist())
            print(tp.cast(tp.Tensor([1.0, -0.0, 3.1415927, 65504.0]), tp.bfloat16).tolist())
            print(tp.cast(tp.cast(tp.Tensor([3, -3]), tp.bfloat16), tp.int32).tolist())
            print(tp.reshape(tp.zeros((0, 2)), (2, 0)).tolist(), tp.sum(tp.zeros((2, 0), dtype=tp.int32), 1).tolist())
            print(tp.Tensor(5)[None].tolist(), tp.pad(tp.Tensor([1]), [(0, 0)]).tolist())
            try:
                tp.cast(tp.Tensor([float("nan"), 3e9]), tp.int32).tolist()
            except tp.TripyException as error:
                print("needs an engine:", "nothing is here to run it" in str(error))
            """,
            options=("--stand-ins",),
        )
        self.assertEqual(
            run.stdout.splitlines(),
            [
                "[3, -3, -3, 3, -2, -715827882, -2147483648]",
                "[-715827883, -4]",
                "[0.0, 0.25, 0.5, 0.75] [[0.0, 1.0], [0.0, 1.0]]",
                "[1.0, -0.0, 3.140625, 65536.0]",
                "[3, -3]",
                "[[], []] [0, 0]",
                "[5] [1]",
                "needs an engine: True",
            ],
        )

    def test_no_trace_is_written_of_it(self):
        self.assertEqual(self.run_.index["traces"], [])


if __name__ == "__main__":
    unittest.main()
