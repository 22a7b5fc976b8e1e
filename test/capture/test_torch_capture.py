import os
import sys
import unittest

import numpy as np
from capture_case import CaptureCase, run_capture
from safetensors.numpy import load_file


class InPlaceWrites(CaptureCase):
    source = """
        import torch

        class Model(torch.nn.Module):
            def forward(self, x):
                base = x * 1
                row = base[0]
                row.add_(10)
                total = base + 0
                base[1] = -1
                after = row + base
                base.mul_(2)
                detached = base.detach()
                same = base.contiguous()
                return detached

        Model()(torch.ones(2, 3))
    """

    def setUp(self):
        self.trace = self.run_.trace()

    def test_a_value_is_what_it_was_when_it_was_made(self):
        np.testing.assert_array_equal(self.trace.value("/forward.base"), np.ones((2, 3)))
        np.testing.assert_array_equal(self.trace.value("/forward.row"), np.ones(3))

    def test_a_write_makes_a_new_tensor_and_counts_as_an_assignment(self):
        np.testing.assert_array_equal(self.trace.value("/forward.row#1"), np.full(3, 11))
        self.assertEqual(self.trace.maker_of("/forward.row#1")["kind"], "torch.Tensor.add_")

    def test_a_write_through_a_view_reaches_the_readers_of_its_base(self):
        total = self.trace.maker_of("/forward.total")
        np.testing.assert_array_equal(self.trace.value_of(total["inputs"][0]), [[11, 11, 11], [1, 1, 1]])
        alias = self.trace.producer(total["inputs"][0])
        self.assertEqual(alias["kind"], "hstu_capture.alias")
        self.assertEqual(
            alias["inputs"], [self.trace.named("/forward.row#1")["id"], self.trace.named("/forward.base")["id"]]
        )

    def test_item_assignment_is_an_op_that_writes(self):
        after = self.trace.maker_of("/forward.after")
        np.testing.assert_array_equal(self.trace.value_of(after["inputs"][1]), [[11, 11, 11], [-1, -1, -1]])
        kinds = [op["kind"] for op in self.trace.ops]
        self.assertIn("torch.Tensor.__setitem__", kinds)

    def test_detach_is_recorded_and_a_call_without_effect_is_not(self):
        self.assertEqual(self.trace.maker_of("/forward.detached")["kind"], "torch.Tensor.detach")
        self.assertNotIn("torch.Tensor.contiguous", [op["kind"] for op in self.trace.ops])

    def test_no_op_reads_what_is_made_after_it(self):
        made = {tensor for op in self.trace.ops for tensor in op["outputs"]}
        done = set()
        for op in self.trace.ops:
            for tensor in op["inputs"]:
                self.assertTrue(tensor in done or tensor not in made, op)
            done.update(op["outputs"])


class WritesInInferenceMode(CaptureCase):
    source = """
        import torch
        import torch.nn.functional as F

        class Model(torch.nn.Module):
            def forward(self, x):
                h = x - 2
                before = h + 0
                F.relu(h, inplace=True)
                after = h + 0
                apart = F.relu(x - 1, inplace=False)
                return after + apart

        with torch.inference_mode():
            Model()(torch.arange(4.0))
    """

    def test_an_argument_that_asks_for_a_write_is_one(self):
        trace = self.run_.trace()
        np.testing.assert_array_equal(trace.value("/forward.before"), [-2, -1, 0, 1])
        read = trace.maker_of("/forward.after")["inputs"][0]
        np.testing.assert_array_equal(trace.value_of(read), [0, 0, 0, 1])
        self.assertEqual(trace.producer(read)["kind"], "torch.nn.functional.relu")

    def test_the_same_argument_turned_off_is_none(self):
        maker = self.run_.trace().maker_of("/forward.apart")
        self.assertEqual((maker["kind"], len(maker["outputs"])), ("torch.nn.functional.relu", 1))


class ReusedObjects(CaptureCase):
    source = """
        import torch

        class Model(torch.nn.Module):
            def forward(self, x):
                first = [torch.full((4,), float(step)) for step in range(200)]
                numbers = {id(tensor) for tensor in first}
                del first
                second = [torch.full((4,), float(200 + step)) for step in range(200)]
                print(any(id(tensor) in numbers for tensor in second))
                return x + 1

        Model()(torch.zeros(4))
    """

    def test_a_new_tensor_in_the_memory_of_an_old_one_is_another_tensor(self):
        self.assertEqual(self.run_.stdout, "True\n", "no object's number was used again: this proves nothing")
        trace = self.run_.trace()
        fills = [op for op in trace.ops if op["kind"] == "torch.full"]
        self.assertEqual(len({op["outputs"][0] for op in fills}), 400)
        for step, op in enumerate(fills):
            self.assertEqual(trace.value_of(op["outputs"][0])[0], step)


class Views(CaptureCase):
    source = """
        import torch

        class Model(torch.nn.Module):
            def forward(self, x):
                turned = x.transpose(0, 1)
                left, right = torch.split(turned, [1, 2], dim=0)
                shaped = right.reshape(-1)
                scores = torch.einsum("ab,cb->ac", turned, turned)
                viewed = x.view(3, 2)
                normed = torch.nn.functional.layer_norm(scores, [3], eps=1e-3)
                picked = x[:, 1:]
                infinite = torch.full((2,), float("-inf"))
                empty = x[:0]
                return normed.sum() + picked.sum()

        Model()(torch.arange(6.0).reshape(2, 3))
    """

    def setUp(self):
        self.trace = self.run_.trace()

    def attributes(self, name):
        return self.trace.maker_of("/forward." + name)["attributes"]

    def test_values_are_in_c_order(self):
        np.testing.assert_array_equal(self.trace.value("/forward.turned"), [[0, 3], [1, 4], [2, 5]])
        np.testing.assert_array_equal(self.trace.value("/forward.shaped"), [1, 4, 2, 5])
        self.assertEqual(self.trace.named("/forward.empty")["shape"], [0, 3])

    def test_attributes_are_by_name(self):
        self.assertEqual(self.attributes("turned")["dim0"], 0)
        self.assertEqual(self.attributes("left")["split_size_or_sections"], [1, 2])
        self.assertEqual(self.attributes("scores")["equation"], "ab,cb->ac")
        self.assertEqual(self.attributes("viewed")["size"], [3, 2])
        self.assertEqual(self.attributes("normed")["eps"], 1e-3)
        self.assertEqual(self.attributes("normed")["normalized_shape"], [3])
        self.assertEqual(self.attributes("picked")["index"][1], {"slice": [1, None, None]})

    def test_numbers_that_json_lacks_travel_as_words(self):
        self.assertEqual(self.attributes("infinite")["fill_value"], "-Infinity")

    def test_the_values_are_a_sound_safetensors_file(self):
        path = os.path.join(self.run_.out, self.trace.json["tensorsFile"])
        theirs = load_file(path)
        self.assertEqual(set(theirs), set(self.trace.arrays))
        for key, array in theirs.items():
            np.testing.assert_array_equal(array, self.trace.arrays[key])


class FramesAndParameters(CaptureCase):
    source = """
        import torch

        class Layer(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.scale = torch.nn.Parameter(torch.ones(3))
                self.scale = torch.nn.Parameter(torch.zeros(3))
                self.project = torch.nn.Linear(3, 3)
                self.register_buffer("mask", torch.ones(3))
                self.register_buffer("scratch", torch.zeros(1), persistent=False)
                self.register_parameter("absent", None)

            def forward(self, x):
                ä = "ä"; scaled = x * self.scale
                return self.project(scaled
                                    * self.mask)

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = torch.nn.ModuleList([Layer() for _ in range(2)])
                self.tied = self.layers[0].scale

            def forward(self, batch, *, scale=1.0):
                x = batch["x"]["inner"]
                for layer in self.layers:
                    x = layer(x)
                return {"out": x, "both": (x, batch["more"][0])}

        Model()({"x": {"inner": torch.ones(2, 3)}, "more": [torch.zeros(1)]})
    """

    def setUp(self):
        self.trace = self.run_.trace()

    def test_parameters_and_buffers_have_state_dict_names(self):
        names = [(p["name"], p.get("buffer", False)) for p in self.trace.json["parameters"]]
        self.assertIn(("layers.1.project.bias", False), names)
        self.assertIn(("layers.0.mask", True), names)
        self.assertIn(("layers.0.scratch", True), names)
        self.assertIn(("tied", False), names)
        self.assertNotIn("layers.0.absent", [name for name, _ in names])
        self.assertEqual(self.trace.parameter("tied")["tensor"], self.trace.parameter("layers.0.scale")["tensor"])

    def test_a_parameter_is_declared_on_the_users_line(self):
        self.assertEqual(self.trace.declared_line("layers.1.scale"), self.line_of("Parameter(torch.ones(3))"))
        self.assertEqual(self.trace.declared_line("layers.0.project.weight"), self.line_of("torch.nn.Linear"))
        self.assertEqual(self.trace.declared_line("layers.0.mask"), self.line_of('"mask"'))

    def test_ops_have_the_users_frames_innermost_first(self):
        op = self.trace.maker_of("layers.1/forward.scaled")
        frames = [self.trace.frame(index) for index in op["stack"]]
        self.assertEqual([frame["function"] for frame in frames], ["forward", "forward", "<module>"])
        self.assertEqual(frames[0]["line"], self.line_of("scaled = x"))
        self.assertEqual(frames[0]["file"], "../script.py")

    def test_columns_count_characters_from_one(self):
        frame = self.trace.frame(self.trace.maker_of("layers.0/forward.scaled")["stack"][0])
        text = '        ä = "ä"; scaled = x * self.scale'
        if sys.version_info < (3, 11):
            self.assertNotIn("column", frame, "Python gives columns since 3.11")
            return
        self.assertEqual(frame["column"], text.index("x *") + 1)
        self.assertEqual(frame["endColumn"], len(text) + 1)

    def test_an_op_inside_a_library_module_has_its_instance_and_the_users_line(self):
        linear = [op for op in self.trace.ops if op["kind"] == "torch.nn.functional.linear"]
        self.assertEqual([op["instance"] for op in linear], ["layers.0.project", "layers.1.project"])
        self.assertEqual(self.trace.frame(linear[0]["stack"][0])["line"], self.line_of("self.project(scaled"))

    def test_an_op_inside_a_library_module_says_where_the_user_made_that_module(self):
        linear = [op for op in self.trace.ops if op["kind"] == "torch.nn.functional.linear"]
        made = {self.trace.frame(op["constructedAt"])["line"] for op in linear}
        self.assertEqual(made, {self.line_of("self.project = ")})
        own = self.trace.maker_of("layers.0/forward.scaled")
        self.assertNotIn("constructedAt", own)

    def test_ports_are_named_by_their_path(self):
        self.assertEqual([port["name"] for port in self.trace.json["inputs"]], ["batch.x.inner", "batch.more.0"])
        self.assertEqual(
            [port["name"] for port in self.trace.json["outputs"]], ["output.out", "output.both.0", "output.both.1"]
        )

    def test_every_index_in_the_trace_exists(self):
        json = self.trace.json
        for op in json["ops"]:
            for tensor in op["inputs"] + op["outputs"]:
                self.assertIn(tensor, self.trace.tensors)
            for frame in op["stack"]:
                self.assertLess(frame, len(json["frames"]))
        for tensor in json["tensors"]:
            self.assertIn(tensor["key"], self.trace.arrays)
            self.assertEqual(list(self.trace.arrays[tensor["key"]].shape), tensor["shape"])
        self.assertEqual(len(json["sources"][0]["sha256"]), 64)


class Calls(CaptureCase):
    options = ("--repeat-reference",)
    source = """
        import copy
        import torch

        class Sub(torch.nn.Module):
            def forward(self, x):
                return x + 1

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.sub = Sub()
                self.register_buffer("count", torch.zeros(1))

            def forward(self, x):
                self.count += 1 if self.training else 5
                first = self.sub(x)
                second = self.sub(first)
                noisy = second + torch.rand(()) * 0.1
                return noisy

        model = Model()
        model(torch.ones(2))
        print("count", model.count.item())
        before = model(torch.ones(2))
        Sub()(torch.ones(2))
        model.sub(torch.ones(2))
        with torch.inference_mode():
            model(torch.ones(2))
    """

    def test_only_outermost_calls_make_traces(self):
        self.assertEqual(self.run_.labels(), ["Model", "Sub", "Sub"])

    def test_the_second_call_of_an_instance_is_counted(self):
        trace = self.run_.trace()
        adds = [op for op in trace.ops if op["instance"] == "sub"]
        self.assertEqual([op.get("call", 0) for op in adds], [0, 1])
        self.assertIn("sub/forward@1.x", trace.names())

    def test_non_determinism_is_measured_and_absent_where_there_is_none(self):
        trace = self.run_.trace()
        self.assertGreater(trace.named("/forward.noisy")["nonDeterminism"], 0)
        self.assertNotIn("nonDeterminism", trace.named("/forward.second"))

    def test_measuring_leaves_no_trace_in_the_model(self):
        self.assertEqual(self.run_.stdout, "count 1.0\n")


class RepeatedCalls(unittest.TestCase):
    def test_calls_with_equal_inputs_are_counted_and_the_number_of_traces_is_limited(self):
        run = run_capture(
            """
            import torch

            model = torch.nn.Linear(2, 2)
            for step in range(20):
                model(torch.ones(2))
            for rows in range(1, 10):
                model(torch.ones(rows, 2))
            """,
            options=("--max-traces", "4"),
        )
        self.assertEqual([entry["calls"] for entry in run.index["traces"]], [20, 1, 1, 1])
        self.assertEqual({entry["object"] for entry in run.index["traces"]}, {0})
        self.assertEqual({entry["kind"] for entry in run.index["traces"]}, {"module"})
        self.assertEqual(run.index["skipped"], {"torch": 6})

    def test_calls_of_one_shape_on_other_values_are_recorded_as_long_as_there_is_room(self):
        run = run_capture(
            """
            import torch

            model = torch.nn.Linear(2, 2)
            x = torch.zeros(2)
            for step in range(6):
                x.fill_(step)
                model(x)
                model(x)
                model(x.clone())
            with torch.no_grad():
                model(torch.full((2,), 9.0))
            """
        )
        traces = run.index["traces"]
        self.assertEqual([entry["calls"] for entry in traces], [3, 3, 3, 9, 1])
        self.assertEqual([entry.get("otherValues") for entry in traces], [None, None, None, 6, None])
        self.assertEqual({entry["object"] for entry in traces}, {0})
        for number, value in enumerate([0, 1, 2, 3, 9]):
            trace = run.trace(number)
            np.testing.assert_array_equal(trace.value_of(trace.json["inputs"][0]["tensor"]), np.full(2, value))

    def test_other_values_take_no_room_from_what_was_never_recorded(self):
        run = run_capture(
            """
            import torch

            first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
            for step in range(10):
                first(torch.full((2,), float(step)))
            second(torch.ones(2))
            """,
            options=("--max-traces", "4"),
        )
        self.assertEqual([entry["calls"] for entry in run.index["traces"]], [1, 9, 1])
        self.assertEqual(run.index.get("skipped", {}), {})

    def test_parameters_that_were_loaded_since_make_another_call(self):
        run = run_capture(
            """
            import torch

            model, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
            x = torch.ones(2)
            model(x)
            model.load_state_dict(other.state_dict())
            model(x)
            """
        )
        weights = [run.trace(n).value_of(run.trace(n).parameter("weight")["tensor"]) for n in range(2)]
        self.assertGreater(np.abs(weights[0] - weights[1]).max(), 0)

    def test_equal_calls_with_other_results_say_how_far_they_are_apart(self):
        run = run_capture(
            """
            import torch

            class Noisy(torch.nn.Module):
                step = 0

                def forward(self, x):
                    self.step += 1
                    return x * (1.0 if self.step < 3 else 1.5)

            class Steady(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.scale = torch.nn.Parameter(torch.ones(2))

                def forward(self, x):
                    return x * self.scale

            noisy, steady = Noisy(), Steady()
            for _ in range(4):
                noisy(torch.ones(2))
                steady(torch.ones(2))
            steady.scale.data.mul_(3)
            steady(torch.ones(2))
            """
        )
        noisy, steady = run.index["traces"]
        self.assertAlmostEqual(noisy["differing"], 0.5)
        self.assertEqual(noisy["calls"], 4)
        self.assertEqual(steady["calls"], 5)
        self.assertNotIn("differing", steady)

    def test_training_and_evaluation_are_recorded_apart(self):
        run = run_capture(
            """
            import torch

            model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for step in range(3):
                optimizer.zero_grad()
                model(torch.ones(4, 2)).square().mean().backward()
                optimizer.step()
            model.eval()
            model(torch.ones(4, 2))
            """
        )
        # Each step of the training has other parameters.
        self.assertEqual([entry["calls"] for entry in run.index["traces"]], [1, 1, 1, 1])
        kinds = [[op["kind"].rpartition(".")[2] for op in run.trace(number).ops] for number in (0, 3)]
        self.assertEqual(kinds, [["linear", "dropout"], ["linear"]])


class FbgemmOffsets(CaptureCase):
    source = """
        import fbgemm_gpu
        import torch

        class Model(torch.nn.Module):
            def forward(self, lengths, dense):
                offsets = torch.ops.fbgemm.asynchronous_complete_cumsum(lengths)
                jagged = torch.ops.fbgemm.dense_to_jagged(dense, [offsets])[0]
                padded = torch.ops.fbgemm.jagged_to_padded_dense(jagged, [offsets], [4], 0.5)
                return padded

        Model()(torch.tensor([1, 0, 3]), torch.ones(3, 4, 2))
    """

    def test_offsets_are_attributes(self):
        trace = self.run_.trace()
        self.assertEqual([op["kind"] for op in trace.ops][0], "fbgemm.asynchronous_complete_cumsum")
        jagged = trace.maker_of("/forward.jagged")
        self.assertEqual(jagged["kind"], "fbgemm.dense_to_jagged")
        self.assertEqual(jagged["attributes"]["offsets"], [0, 1, 1, 4])
        padded = trace.maker_of("/forward.padded")
        self.assertEqual(padded["attributes"]["offsets"], [0, 1, 1, 4])
        self.assertEqual(padded["attributes"]["max_lengths"], [4])
        self.assertEqual(padded["attributes"]["padding_value"], 0.5)


class BFloat16(CaptureCase):
    source = """
        import torch

        class Model(torch.nn.Module):
            def forward(self, x):
                low = x.to(torch.bfloat16)
                flags = low > 1
                return low

        Model()(torch.tensor([1.0, 2.5]))
    """

    def test_every_type_keeps_its_bits(self):
        run = self.run_
        from hstu_capture.safetensors_file import read_safetensors

        trace = run.trace()
        stored = read_safetensors(os.path.join(run.out, trace.json["tensorsFile"]))
        low = trace.named("/forward.low")
        self.assertEqual((low["dtype"], stored[low["key"]][2]), ("bfloat16", b"\x80\x3f\x20\x40"))
        flags = trace.named("/forward.flags")
        self.assertEqual((flags["dtype"], stored[flags["key"]][2]), ("bool", b"\x00\x01"))


if __name__ == "__main__":
    unittest.main()
