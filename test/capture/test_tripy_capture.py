import json
import os
import unittest

import numpy as np
from capture_case import CaptureCase, run_capture
from numpy_engine import read_arrays

MODEL = """
        import numpy as np
        import nvtripy as tp

        class Layer(tp.Module):
            def __init__(self):
                super().__init__()
                self.weight = tp.Tensor(np.arange(12, dtype=np.float32).reshape(4, 3))
                self.shift = tp.zeros((3,))
                self.norm = tp.LayerNorm(3, eps=1e-3)
                self.norm.weight = tp.ones((3,))
                self.norm.bias = tp.zeros((3,))
                self.spare = tp.Tensor(np.ones(2, np.float32))

            def forward(self, x: tp.Tensor) -> tp.Tensor:
                width = int(x.shape[1])
                product = x @ self.weight + self.shift
                fresh = tp.Tensor(np.full((1, 3), 2.0, np.float32))
                return self.norm(product) * fresh

        class Model(tp.Module):
            def __init__(self):
                super().__init__()
                self.layers = [Layer()]

            def forward(self, x: tp.Tensor) -> tp.Tensor:
                return self.layers[0](x)

        def host(tensor):
            return np.from_dlpack(tp.copy(tensor, tp.device("cpu")))

        def device(array):
            return tp.copy(tp.Tensor(array), tp.device("gpu"))
"""


class CompiledProgram(CaptureCase):
    engine = True
    source = (
        MODEL
        + """
        compiled = tp.compile(Model(), args=[tp.InputInfo(((1, 2, 4), 4), tp.float32)])
        x = np.array([[1.0, -2.0, 3.0, 0.5]], np.float32)
        out = host(compiled(device(x)))
        print(out.round(4).tolist())
        compiled.save("program.json")
        again = host(tp.Executable.load("program.json")(device(x)))
        print((out == again).all())
    """
    )

    def setUp(self):
        self.trace = self.run_.trace(framework="tripy")

    def test_the_engine_runs_it_and_the_script_goes_on(self):
        product = np.array([[1.0, -2.0, 3.0, 0.5]], np.float32) @ np.arange(12, dtype=np.float32).reshape(4, 3)
        centred = product - product.mean()
        expected = centred / np.sqrt((centred**2).mean() + 1e-3) * 2
        # Before these lines nvtripy itself warns about the size that is asked for while compiling.
        printed, same = self.run_.stdout.splitlines()[-2:]
        np.testing.assert_allclose(json.loads(printed), expected, atol=1e-4)
        self.assertEqual(same, "True")

    def test_inputs_and_outputs_of_each_run_are_kept(self):
        entry = self.run_.index["traces"][0]
        run = entry["executions"][0]
        inputs = read_arrays(os.path.join(self.run_.out, run["inputs"]))
        np.testing.assert_array_equal(inputs["x"], [[1.0, -2.0, 3.0, 0.5]])
        self.assertEqual(list(read_arrays(os.path.join(self.run_.out, run["outputs"]))), ["output"])

    def test_the_trace_says_what_ran(self):
        ran_on = self.trace.json["ranOn"]
        self.assertEqual(self.trace.json["framework"], "tripy")
        self.assertEqual(self.trace.json["label"], "Model")
        self.assertEqual(ran_on["standIns"], ["mlir_tensorrt", "tensorrt"])
        self.assertEqual(ran_on["emulated"], ["cuda on cpu"])
        self.assertIn("nvtripy", ran_on["versions"])

    def test_ops_are_tripys_own_with_their_fields(self):
        norm = next(op for op in self.trace.ops if op["kind"] == "LayerNorm")
        self.assertEqual(norm["attributes"]["normalized_shape"], [3])
        self.assertAlmostEqual(norm["attributes"]["eps"], 1e-3)
        self.assertEqual(norm["instance"], "layers.0.norm")
        constant = next(op for op in self.trace.ops if op["kind"] == "Constant")
        self.assertEqual(constant["attributes"]["device"], "cpu:0")
        self.assertIn(constant["attributes"]["dtype"], ("float32", "int32"))

    def test_shapes_known_at_run_time_only_are_minus_one(self):
        tensors = self.trace.tensors
        self.assertEqual(tensors[self.trace.json["inputs"][0]["tensor"]]["shape"], [-1, 4])
        self.assertEqual(self.trace.json["inputs"][0]["name"], "x")
        self.assertEqual(len(tensors[self.trace.json["outputs"][0]["tensor"]]["shape"]), 2)

    def test_parameters_have_values_and_the_line_that_declares_them(self):
        names = [parameter["name"] for parameter in self.trace.json["parameters"]]
        self.assertEqual(
            names,
            ["layers.0.weight", "layers.0.shift", "layers.0.norm.weight", "layers.0.norm.bias", "layers.0.spare"],
        )
        self.assertEqual(self.trace.declared_line("layers.0.weight"), self.line_of("self.weight ="))
        self.assertEqual(self.trace.declared_line("layers.0.norm.weight"), self.line_of("tp.LayerNorm(3"))
        value = self.trace.value_of(self.trace.parameter("layers.0.weight")["tensor"])
        np.testing.assert_array_equal(value, np.arange(12).reshape(4, 3))

    def test_a_parameter_that_is_an_op_has_its_value_too(self):
        shift = self.trace.parameter("layers.0.shift")["tensor"]
        np.testing.assert_array_equal(self.trace.value_of(shift), np.zeros(3))

    def test_a_constant_made_through_dlpack_has_its_frame(self):
        fresh = self.trace.maker_of("layers.0/forward.fresh")
        self.assertEqual(fresh["kind"], "Constant")
        self.assertEqual(self.trace.frame(fresh["stack"][0])["line"], self.line_of("fresh = "))
        self.assertEqual(fresh["instance"], "layers.0")

    def test_ops_have_the_users_frames_innermost_first(self):
        product = self.trace.maker_of("layers.0/forward.product")
        frames = [self.trace.frame(index) for index in product["stack"]]
        self.assertEqual([frame["function"] for frame in frames], ["forward", "forward", "<module>"])
        self.assertEqual(frames[0]["line"], self.line_of("product = "))

    def test_a_loaded_program_is_listed(self):
        self.assertEqual(self.run_.labels(), ["Model", "Model"])


class EagerProgram(CaptureCase):
    engine = True
    source = (
        MODEL
        + """
        model = Model()
        x = tp.Tensor(np.ones((2, 4), np.float32))
        out = model(x)
        count = out.shape[0] * 3 + 1
        print(int(count), bool(tp.Tensor([1, 2, 3])[1] == 2))
        print(tp.copy(x, tp.device("gpu")).device, tp.zeros((2, 2)).eval().tolist())
        print(np.allclose(host(out.eval()), [[-2.4495, 0, 2.4495]] * 2, atol=1e-3))
        text = repr(out)
    """
    )

    def test_shape_arithmetic_makes_no_trace_and_the_model_makes_one(self):
        self.assertEqual(self.run_.stdout, "7 True\ngpu:0 [[0.0, 0.0], [0.0, 0.0]]\nTrue\n")
        self.assertEqual(self.run_.labels(), ["Model"])

    def test_its_arguments_are_inputs_and_its_parameters_are_known(self):
        trace = self.run_.trace()
        self.assertEqual([port["name"] for port in trace.json["inputs"]], ["x"])
        np.testing.assert_array_equal(trace.value_of(trace.json["inputs"][0]["tensor"]), np.ones((2, 4)))
        self.assertIn("layers.0.weight", [parameter["name"] for parameter in trace.json["parameters"]])
        self.assertIn("layers.0/forward.product", trace.names())


class WithoutEngine(unittest.TestCase):
    def test_a_program_that_needs_an_engine_says_so_and_is_kept(self):
        run = run_capture(
            MODEL
            + """
        compiled = tp.compile(Model(), args=[tp.InputInfo((1, 4), tp.float32)])
        compiled(device(np.ones((1, 4), np.float32)))
    """,
            expect=1,
        )
        self.assertIn("--engine-fd", run.stderr)
        self.assertEqual(run.labels(), ["Model"])

    def test_an_engine_that_refuses_is_an_error_of_the_call(self):
        run = run_capture(
            """
            import numpy as np
            import nvtripy as tp

            try:
                tp.softmax(tp.Tensor(np.ones((1, 4), np.float32)), 1).eval()
            except tp.TripyException as error:
                print("NotImplementedError: Softmax" in str(error))
            """,
            engine=True,
        )
        self.assertEqual(run.stdout, "True\n")
        self.assertIn("Softmax", run.index["traces"][0]["executions"][0]["error"])


class FrontendRefusals(unittest.TestCase):
    def test_what_the_real_frontend_refuses_is_refused(self):
        run = run_capture(
            """
            import numpy as np
            import nvtripy as tp
            import torch

            def refused(make, words):
                try:
                    make()
                except Exception as error:
                    print(words in str(error), end=" ")

            refused(lambda: tp.Tensor(np.ones((2, 3), np.float32).T), "Non-canonical strides")
            refused(lambda: tp.Tensor(torch.ones(2, 3).t()), "Non-canonical strides")
            refused(lambda: tp.Tensor(torch.ones(2, requires_grad=True)), "require gradient")
            refused(lambda: tp.Tensor([1.0]) + tp.Tensor([1]), "Invalid inputs")
            """
        )
        self.assertEqual(run.stdout, "True True True True ")


class StackInfo(unittest.TestCase):
    def test_the_fast_equivalent_gives_what_the_original_gives(self):
        run = run_capture(
            """
            import nvtripy as tp
            from nvtripy.utils import stack_info
            import importlib.util, sys

            # A second, unobserved copy of the module holds the original function.
            spec = importlib.util.spec_from_file_location("original", stack_info.__file__)
            original = importlib.util.module_from_spec(spec)
            sys.modules["original"] = original
            spec.loader.exec_module(original)

            def fields(info):
                return [(s.module, s.file, s.line, s.function, s._dispatch_target, s.column_range) for s in info]

            seen = []
            fast = stack_info.get_stack_info

            def both(include_code_index=None):
                slow, quick = original.get_stack_info(include_code_index), fast(include_code_index)
                seen.append((fields(slow)[1:], fields(quick)[1:], slow.include_code_index == quick.include_code_index))
                return quick

            stack_info.get_stack_info = both

            def outer(x):
                return [tp.relu(
                    x + 1.0) for _ in range(2)]

            outer(tp.ones((2, 2)))
            own = lambda info: [entry for entry in info if "hstu_capture" not in entry[1]]
            print(len(seen) > 3, all(own(slow) == quick and same for slow, quick, same in seen))
            """
        )
        self.assertEqual(run.stdout, "True True\n")

    def test_a_stack_is_one_of_nvtripys_own_however_it_is_looked_at(self):
        run = run_capture(
            """
            import copy, pickle
            import nvtripy as tp
            from nvtripy.utils import stack_info

            looks = [
                list, len, bool, repr, copy.copy, copy.deepcopy, lambda s: s + [], lambda s: s[:], lambda s: [*s],
                lambda s: [x for x in reversed(s)], lambda s: s == [], lambda s: s.append(s[0]), lambda s: tuple(s),
                lambda s: stack_info.StackInfo(s), lambda s: s.fetch_source_code(), lambda s: s.get_first_user_frame_index(),
            ]
            wrong = []
            for number, look in enumerate(looks):
                first = stack_info.get_stack_info(3)
                assert isinstance(first, stack_info.StackInfo)
                seen = look(first)
                size = len(seen) if isinstance(seen, (list, tuple)) else 1
                if type(first) is not stack_info.StackInfo or not first or not size or first.include_code_index != 3:
                    wrong.append(number)
            print(wrong)
            """
        )
        self.assertEqual(run.stdout, "[]\n")


if __name__ == "__main__":
    unittest.main()
