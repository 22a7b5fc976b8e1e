"""What Tripy scripts do besides one model: several compiled functions, saved and loaded programs, other frameworks' memory."""

import json
import os
import shutil
import unittest

from capture_case import CaptureCase, run_capture

ON_CUDA = ("--emulate-cuda", "--stand-ins")


class SeveralPrograms(CaptureCase):
    engine = True
    options = ON_CUDA
    source = """
        import nvtripy as tp

        class Dense(tp.Module):
            def __init__(self, value):
                super().__init__()
                self.weight = tp.full((2, 2), value)

            def forward(self, x):
                return x @ self.weight

        class Stack(tp.Module):
            def __init__(self):
                super().__init__()
                self.weight = tp.ones((2,))
                self.inner = Dense(3.0)

            def forward(self, x):
                return self.inner(x) + self.weight

        first, second = Dense(2.0), Stack()

        def pipeline(x):
            return second(first(x)), x + 1.0

        class Trainer:
            def __init__(self):
                self.model = Stack()

            def step(self, x):
                return self.model(x)

        info = tp.InputInfo(((1, 2, 4), 2), dtype=tp.float32)
        run = tp.compile(pipeline, args=[info])
        model = tp.compile(first, args=[info])
        small = tp.iota((1, 2)).eval()
        large = tp.ones((3, 2)).eval()
        for x in (small, large, small, small):
            print([tuple(out.shape) for out in run(x)])
        model(small)
        eager = first(small)
        print(eager.tolist())
        one, other = Trainer(), Trainer()
        for trainer in (one, other, one):
            tp.compile(trainer.step, args=[info])
        integers = tp.compile(lambda n: n * 2, args=[tp.InputInfo((2,), dtype=tp.int32)])
        print(integers(tp.copy(tp.Tensor([4, 5]), tp.device("gpu"))).tolist())
        print(tp.Tensor([1.5, 2.5]), tp.arange(3) , tp.cast(tp.Tensor([1.0]), tp.float16))
    """

    def entries(self, **wanted):
        return [e for e in self.run_.index["traces"] if all(e[name] == value for name, value in wanted.items())]

    def test_the_script_sees_what_it_would_see(self):
        self.assertEqual(self.run_.stdout.splitlines()[:6], [
            "[(1, 2), (1, 2)]", "[(3, 2), (3, 2)]", "[(1, 2), (1, 2)]", "[(1, 2), (1, 2)]", "[[0.0, 0.0]]", "[8, 10]",
        ])  # fmt: skip

    def test_each_different_execution_is_listed_and_repeated_ones_are_counted(self):
        (entry,) = self.entries(label="pipeline")
        self.assertEqual((entry["kind"], entry["calls"], len(entry["executions"])), ("compile", 4, 2))

    def test_a_program_that_needs_no_engine_lists_its_executions_too(self):
        (entry,) = self.entries(label="<lambda>")
        self.assertEqual(entry["calls"], 1)
        self.assertEqual(set(entry["executions"][0]), {"inputs", "outputs"})

    def test_calls_of_one_object_share_its_number(self):
        dense = self.entries(label="Dense")
        self.assertEqual([entry["kind"] for entry in dense], ["compile", "eval"])
        self.assertEqual(dense[0]["object"], dense[1]["object"])
        steps = [entry["object"] for entry in self.entries(label="step")]
        self.assertEqual(steps[0], steps[2])
        self.assertNotEqual(steps[0], steps[1])
        self.assertNotEqual(steps[0], dense[0]["object"])

    def test_modules_that_a_compiled_function_calls_have_their_parameters(self):
        trace = self.run_.trace(0)
        self.assertEqual(
            [parameter["name"] for parameter in trace.json["parameters"]], ["weight", "Stack.weight", "inner.weight"]
        )
        self.assertEqual(trace.value_of(trace.parameter("inner.weight")["tensor"]).tolist(), [[3, 3], [3, 3]])
        products = [op["instance"] for op in trace.ops if op["kind"] == "MatrixMultiply"]
        self.assertEqual(products, ["Dense", "Stack.inner"])

    def test_printing_and_making_constants_leaves_no_trace(self):
        self.assertEqual(self.entries(label="eval"), [])


class SavedPrograms(unittest.TestCase):
    def test_a_file_of_an_earlier_run_is_loaded_with_its_name_place_and_parameters(self):
        script = """
            import os, sys
            import nvtripy as tp

            class Scale(tp.Module):
                def __init__(self, factor):
                    super().__init__()
                    self.factor = tp.Tensor([factor])

                def forward(self, x):
                    return x * self.factor

            x = tp.ones((2,)).eval()
            if sys.argv[1] == "save":
                tp.compile(Scale(5.0), args=[tp.InputInfo((2,), dtype=tp.float32)]).save(sys.argv[2])
            else:
                engine = tp.Executable.load(sys.argv[2])
                print(engine(x).tolist(), list(engine.input_infos))
                engine.save(sys.argv[2])
                try:
                    engine(tp.ones((3,)).eval())
                except tp.TripyException as error:
                    print("Unexpected tensor shape" in str(error))
        """
        first = run_capture(script, "save", "engine.json", options=ON_CUDA, engine=True)
        saved = os.path.join(first.folder, "engine.json")
        second = run_capture(script, "load", saved, options=ON_CUDA, engine=True)
        third = run_capture(script, "load", saved, options=ON_CUDA, engine=True)
        for run in (second, third):
            self.assertEqual(run.stdout, "[5.0, 5.0] ['x']\nTrue\n")
            (entry,) = run.index["traces"]
            self.assertEqual((entry["kind"], entry["label"], entry["calls"]), ("loaded", "Scale", 1))
            self.assertEqual(entry["loadedFrom"]["file"], saved)
            frame = entry["loadedFrom"]["frame"]
            self.assertEqual(os.path.basename(frame["file"]), "script.py")
            self.assertEqual(frame["line"], 16)
            trace = run.trace(0)
            self.assertEqual(trace.value_of(trace.parameter("factor")["tensor"]).tolist(), [5.0])
            # The lines are those of the script that saved it.
            source = trace.json["sources"][0]
            self.assertEqual(source["file"], os.path.realpath(os.path.join(first.folder, "script.py")))
            self.assertTrue(source["outside"])
        for run in (first, second, third):
            shutil.rmtree(run.folder, True)


class OtherFrameworksMemory(CaptureCase):
    engine = True
    options = ON_CUDA
    source = """
        import numpy as np
        import nvtripy as tp
        import torch

        on_gpu = tp.Tensor(torch.ones(2, 2, device="cuda"))
        back = torch.from_dlpack(on_gpu + 1.0)
        print(on_gpu.device, back.device, back.sum().item())
        print(torch.from_dlpack(tp.copy(on_gpu, tp.device("cpu"))).device)
        half = tp.Tensor(torch.tensor([1.0, -2.5], dtype=torch.bfloat16))
        print(half.tolist(), torch.from_dlpack(half), half.dtype)
        print(tp.cast(tp.Tensor([1.00390625, 1.01171875]), tp.bfloat16).tolist())
        print(tp.Tensor(np.arange(3, dtype=np.int64)).tolist(), np.from_dlpack(tp.ones((2,))))
        for dtype, words in ((tp.float8, "Unsupported kFloat bits 8"), (tp.int4, "Unsupported kInt bits 4")):
            quantised = tp.quantize(tp.Tensor([1.0, 2.0]), 1.0, dtype).eval()
            try:
                torch.from_dlpack(quantised)
            except Exception as error:
                print(words in str(error), quantised.dtype)
    """

    def setUp(self):
        self.lines = self.run_.stdout.splitlines()

    def test_a_tensor_on_the_emulated_gpu_is_there_on_both_sides(self):
        self.assertEqual(self.lines[:2], ["gpu:0 cuda:0 8.0", "cpu"])

    def test_bfloat16_crosses_over(self):
        self.assertEqual(self.lines[2], "[1.0, -2.5] tensor([ 1.0000, -2.5000], dtype=torch.bfloat16) bfloat16")

    def test_bfloat16_rounds_halves_to_even(self):
        self.assertEqual(self.lines[3], "[1.0, 1.015625]")

    def test_numpy_both_ways(self):
        self.assertEqual(self.lines[4], "[0, 1, 2] [1. 1.]")

    def test_types_that_dlpack_lacks_are_refused_in_the_backends_words(self):
        self.assertEqual(self.lines[5:], ["True float8", "True int4"])


class Refusals(CaptureCase):
    """Without the frontend's own checks: what TensorRT does not take must not run here either."""

    engine = True
    options = ON_CUDA
    source = """
        import nvtripy as tp

        tp.config.enable_input_validation = False

        def refused(make):
            try:
                make().eval()
                print("ran")
            except tp.TripyException as error:
                print(" ".join(str(error).split()))

        integers, flags, floats = tp.Tensor([1, 2]), tp.Tensor([True, False]), tp.ones((2, 3))
        refused(lambda: tp.exp(integers))
        refused(lambda: floats @ tp.cast(tp.ones((3, 2)), tp.int32))
        refused(lambda: tp.cumsum(integers, 0))
        refused(lambda: tp.concatenate([floats, tp.ones((2, 4))], dim=0))
        refused(lambda: floats + tp.ones((2, 4)))
        refused(lambda: tp.exp(floats) + tp.exp(tp.ones((2, 4))))
        refused(lambda: tp.exp(floats))
        refused(lambda: tp.cast(tp.cast(floats, tp.float8), tp.int8))
    """

    def setUp(self):
        self.lines = self.run_.stdout.splitlines()

    def test_types_are_refused_with_the_line_that_asks(self):
        for line, words in ((self.lines[0], "Exp takes no tensor of int32"), (self.lines[7], "from float8 to int8")):
            self.assertIn("failed to run pass pipeline", line)
            self.assertIn(words, line)
            self.assertIn("script.py", line)
        self.assertNotEqual(self.lines[1], "ran")
        self.assertNotEqual(self.lines[2], "ran")

    def test_shapes_are_refused_in_tensorrts_words(self):
        self.assertIn("all concat input tensors must have the same dimensions", self.lines[3])
        self.assertIn("broadcast dimensions must be conformable", self.lines[4])
        self.assertIn("broadcast dimensions must be conformable", self.lines[5])

    def test_what_it_takes_runs(self):
        self.assertEqual(self.lines[6], "ran")


class ManyPrograms(unittest.TestCase):
    def test_beyond_the_limit_programs_run_without_being_listed(self):
        run = run_capture(
            """
            import nvtripy as tp
            print(sum(int(tp.exp(tp.ones((n,)) - 1.0).tolist()[0]) for n in range(1, 8)))
            """,
            options=(*ON_CUDA, "--max-traces", "3"),
            engine=True,
        )
        self.assertEqual(run.stdout, "7\n")
        self.assertEqual(len(run.index["traces"]), 3)
        self.assertEqual(run.index["skipped"], {"tripy": 4})
        self.assertEqual([name for name in os.listdir(run.out) if name.startswith("unlisted")], [])

    def test_a_benchmark_of_one_program_does_not_fill_the_disk(self):
        run = run_capture(
            """
            import nvtripy as tp
            double = tp.compile(lambda x: tp.exp(x) * 2.0, args=[tp.InputInfo((1,), dtype=tp.float32)])
            print(sum(double(tp.full((1,), float(n % 20)).eval()).tolist()[0] > 0 for n in range(60)))
            """,
            options=ON_CUDA,
            engine=True,
        )
        self.assertEqual(run.stdout, "60\n")
        (entry,) = run.index["traces"]
        self.assertEqual((entry["calls"], len(entry["executions"])), (60, 16))
        with open(os.path.join(run.out, "capture.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["traces"][0]["calls"], 60)


if __name__ == "__main__":
    unittest.main()
