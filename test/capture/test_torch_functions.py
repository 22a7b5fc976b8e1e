import unittest

import numpy as np
from capture_case import CaptureCase, run_capture


class PlainFunctions(CaptureCase):
    source = """
        import torch
        import torch.nn.functional as F

        SCALE = torch.tensor(0.5)

        def make_params(d):
            g = torch.Generator().manual_seed(0)
            params = {
                "uvqk": torch.randn(d, 4 * d, generator=g),
                "norm": {"weight": torch.ones(d)},
            }
            params["out"] = torch.randn(d, d, generator=g)
            return params

        def attention(params, x):
            u, v, q, k = torch.split(F.silu(x @ params["uvqk"]), x.shape[-1], dim=-1)
            scores = F.silu(q @ k.transpose(-1, -2)) * SCALE
            return scores @ v * u

        def hstu_forward(params: dict, x, ts):
            normed = F.layer_norm(x, x.shape[-1:]) * params["norm"]["weight"]
            mixed = attention(params, normed + ts[..., None].float())
            return {"out": mixed @ params["out"], "length": 3}

        def main():
            params = make_params(4)
            x = torch.ones(2, 3, 4)
            ts = torch.arange(6).reshape(2, 3)
            for _ in range(3):
                y = hstu_forward(params, x, ts)
            print(y["out"].shape)

        main()
    """

    def setUp(self):
        self.trace = self.run_.trace()

    def test_the_outermost_function_is_the_trace(self):
        self.assertEqual(self.run_.labels(), ["hstu_forward"])
        entry = self.run_.index["traces"][0]
        self.assertEqual((entry["kind"], entry["calls"]), ("function", 3))
        self.assertNotIn("incomplete", entry)

    def test_inputs_and_parameters_are_told_apart(self):
        self.assertEqual([port["name"] for port in self.trace.json["inputs"]], ["x", "ts"])
        names = [parameter["name"] for parameter in self.trace.json["parameters"]]
        self.assertEqual(names, ["params.uvqk", "params.norm.weight", "params.out", "SCALE"])
        self.assertEqual([port["name"] for port in self.trace.json["outputs"]], ["output.out"])

    def test_a_parameter_has_the_line_that_made_it(self):
        self.assertEqual(self.trace.declared_line("params.uvqk"), self.line_of('"uvqk": torch.randn'))
        self.assertEqual(self.trace.declared_line("params.out"), self.line_of('params["out"] = '))

    def test_variables_have_names_from_the_first_line_on(self):
        self.assertEqual(self.trace.maker_of("/hstu_forward.normed")["kind"], "torch.Tensor.mul")
        self.assertIn("/attention.scores", self.trace.names())
        self.assertIn("/hstu_forward.x", self.trace.named("/hstu_forward.x")["names"])
        self.assertIn("/hstu_forward.mixed", self.trace.named("/attention.return")["names"])

    def test_the_recorded_values_are_those_of_the_function(self):
        out = self.trace.value_of(self.trace.json["outputs"][0]["tensor"])
        mixed = self.trace.value("/hstu_forward.mixed")
        weight = self.trace.value_of(self.trace.parameter("params.out")["tensor"])
        np.testing.assert_allclose(out, mixed @ weight, rtol=1e-5)


class Wrappers(CaptureCase):
    source = """
        import torch

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = torch.nn.Linear(3, 3)

            def forward(self, x):
                return self.linear(x)

        def prepare(batch):
            return (batch["x"] - 1.0) / 2.0

        def evaluate(model, batch):
            x = prepare(batch)
            y = model(x * 1.0)
            return y.softmax(-1)

        def reference(w, x):
            hidden = x @ w
            return hidden.relu()

        def candidate(w, x):
            return torch.einsum("ab,bc->ac", x, w).clamp(min=0)

        def check(w, x):
            shifted = x + 1
            a = reference(w, shifted)
            b = candidate(w, shifted)
            assert torch.allclose(a, b)

        def show(x):
            print((x * 2).sum().item())

        evaluate(Net().eval(), {"x": torch.ones(2, 3)})
        check(torch.ones(3, 3), torch.ones(2, 3))
        show(torch.ones(2))
    """

    def test_a_wrapper_is_no_trace_but_what_it_calls_is(self):
        labels = self.run_.labels()
        self.assertEqual(sorted(labels), ["Net", "candidate", "prepare", "reference"])

    def test_what_is_cut_out_is_a_trace_of_its_own(self):
        number = self.run_.labels().index("reference")
        trace = self.run_.trace(number)
        self.assertEqual([op["kind"] for op in trace.ops], ["torch.Tensor.matmul", "torch.Tensor.relu"])
        self.assertEqual([port["name"] for port in trace.json["inputs"]], ["x"])
        self.assertEqual([parameter["name"] for parameter in trace.json["parameters"]], ["w"])
        np.testing.assert_array_equal(trace.value("/reference.hidden"), np.full((2, 3), 6.0))
        self.assertEqual(trace.value_of(trace.json["outputs"][0]["tensor"]).shape, (2, 3))
        made = {tensor for op in trace.ops for tensor in op["outputs"]}
        for op in trace.ops:
            self.assertTrue(set(op["outputs"]) <= set(trace.tensors))
        self.assertIn(trace.json["outputs"][0]["tensor"], made)


class FunctionsOfLayers(CaptureCase):
    source = """
        import torch
        from torch import nn

        torch.manual_seed(0)
        norm = nn.LayerNorm(4)
        layers = [nn.Linear(4, 4), nn.Linear(4, 2)]
        net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

        def block(x):
            z = norm(x)
            for layer in layers:
                z = layer(z).tanh()
            return z

        def made_here(x):
            return nn.Linear(4, 4)(x) + x

        class Holder:
            def __init__(self):
                self.__dict__["parts"] = {"only": lambda: nn_layer}

        nn_layer = nn.Linear(4, 4)
        holder = Holder()

        def hidden_away(x):
            return holder.parts["only"]()(x) + x

        def passed_on(rows):
            return layers[0](rows)

        def loss(rows):
            return (layers[0](rows * 2) - 1).square().mean()

        def both(rows):
            return layers[0](rows), nn_layer(rows)

        def whole(rows):
            return net(norm(rows) + 1)

        def checked(rows):
            y = block(rows)
            assert torch.isfinite(y).all()

        block(torch.ones(3, 4))
        made_here(torch.ones(4, 4))
        hidden_away(torch.ones(2, 4))
        passed_on(torch.zeros(5, 4))
        passed_on(torch.zeros(5, 4))
        loss(torch.ones(6, 4))
        both(torch.ones(7, 4))
        whole(torch.ones(8, 4))
        checked(torch.ones(9, 4))
    """

    def of(self, rows):
        """Traces by their label, of what was called with that many rows."""
        found = {}
        for number, label in enumerate(self.run_.labels()):
            trace = self.run_.trace(number)
            shapes = [trace.tensors[port["tensor"]]["shape"] for port in trace.json["inputs"]]
            if shapes == [[rows, 4]]:
                found.setdefault(label, []).append(self.run_.index["traces"][number])
        return found

    def test_a_function_that_computes_with_layers_is_one_trace(self):
        trace = self.run_.trace(self.run_.labels().index("block"))
        self.assertEqual(
            [op["kind"].rpartition(".")[2] for op in trace.ops], ["layer_norm", "linear", "tanh", "linear", "tanh"]
        )
        names = ["norm.weight", "norm.bias", "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
        self.assertEqual([parameter["name"] for parameter in trace.json["parameters"]], names)
        self.assertIn("/block.z#2", trace.names())
        self.assertEqual(trace.json["parameters"][2]["name"], "layers.0.weight")
        self.assertIn("declaredAt", trace.json["parameters"][2])

    def test_a_function_whose_layers_were_initialised_anew_is_recorded_once_more(self):
        run = run_capture(
            """
            import torch

            layer = torch.nn.Linear(3, 3)

            def net(x):
                return layer(x).tanh()

            x = torch.ones(2, 3)
            net(x)
            net(x)
            torch.nn.init.zeros_(layer.weight)
            net(x)
            """
        )
        self.assertEqual([entry["calls"] for entry in run.index["traces"]], [2, 1])
        np.testing.assert_array_equal(run.trace(1).value_of(run.trace(1).parameter("layer.weight")["tensor"]), 0)

    def test_a_layer_that_no_variable_holds_has_parameters_all_the_same(self):
        trace = self.run_.trace(self.run_.labels().index("hidden_away"))
        self.assertEqual([p["name"] for p in trace.json["parameters"]], ["Linear.weight", "Linear.bias"])

    def test_how_a_function_initialises_a_layer_is_none_of_its_operations(self):
        self.assertEqual(list(self.of(4)), ["Linear"])
        entry = self.of(4)["Linear"][0]
        trace = self.run_.trace(self.run_.index["traces"].index(entry))
        self.assertEqual([op["kind"] for op in trace.ops], ["torch.nn.functional.linear"])

    def test_a_function_that_passes_a_layer_on_is_that_layer_and_is_counted(self):
        found = self.of(5)
        self.assertEqual([(label, len(entries)) for label, entries in found.items()], [("Linear", 1)])
        self.assertEqual((found["Linear"][0]["calls"], found["Linear"][0]["kind"]), (2, "module"))

    def test_a_loss_is_no_implementation_but_its_layer_is(self):
        self.assertEqual([label for label in self.of(6)], ["Linear"])

    def test_layers_that_a_function_gives_side_by_side_are_recorded_apart(self):
        found = self.of(7)
        self.assertEqual([(label, len(entries)) for label, entries in found.items()], [("Linear", 2)])
        self.assertEqual(len({entry["object"] for entry in found["Linear"]}), 2)

    def test_a_function_that_uses_a_whole_model_is_left_to_the_model(self):
        self.assertEqual(sorted(self.of(8)), ["LayerNorm", "Sequential"])

    def test_a_function_of_layers_within_a_check_is_a_trace_of_its_own(self):
        self.assertEqual(list(self.of(9)), ["block"])
        entry = self.of(9)["block"][0]
        self.assertEqual(len(self.run_.trace(self.run_.index["traces"].index(entry)).json["parameters"]), 6)


class ObjectsAndClosures(CaptureCase):
    source = """
        import dataclasses
        from types import SimpleNamespace

        import torch

        @dataclasses.dataclass
        class Batch:
            x: torch.Tensor
            mask: torch.Tensor

        class Block:
            def __init__(self, d):
                self.w = torch.full((d, d), 2.0)
                self.more = [torch.ones(d)]

            def __call__(self, batch):
                return Batch(batch.x @ self.w * batch.mask + self.more[0], batch.mask)

        def make(theta):
            def forward(x, cfg):
                return x * theta["a"] + cfg.shift

            return forward

        def trainable(weights, x):
            return (x * weights).sum()

        Block(3)(Batch(torch.ones(2, 3), torch.ones(2, 1)))
        make({"a": torch.ones(3)})(torch.ones(3), SimpleNamespace(shift=torch.ones(3)))
        leaf = torch.ones(3, requires_grad=True)
        trainable(leaf, torch.ones(3)).backward()
        print(leaf.grad)
    """

    def ports(self, label, kind):
        trace = self.run_.trace(self.run_.labels().index(label))
        return [port["name"] for port in trace.json[kind]]

    def test_attributes_of_self_are_parameters(self):
        self.assertEqual(self.run_.labels()[0], "Block.__call__")
        self.assertEqual(self.ports("Block.__call__", "inputs"), ["batch.x", "batch.mask"])
        self.assertEqual(self.ports("Block.__call__", "parameters"), ["self.w", "self.more.0"])
        self.assertEqual(self.ports("Block.__call__", "outputs"), ["output.x", "output.mask"])

    def test_closures_are_parameters_and_a_namespace_is_input(self):
        self.assertEqual(self.ports("forward", "inputs"), ["x", "cfg.shift"])
        self.assertEqual(self.ports("forward", "parameters"), ["theta.a"])

    def test_the_gradient_reaches_the_script(self):
        self.assertEqual(self.run_.stdout, "tensor([1., 1., 1.])\n")
        self.assertEqual(self.ports("trainable", "parameters"), ["weights"])


class MethodsOfModules(CaptureCase):
    source = """
        import torch

        class Encoder(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = torch.nn.Linear(3, 3)

            def encode(self, x):
                return self.linear(x).relu()

        Encoder().encode(torch.ones(2, 3))
        Encoder().forward
        torch.nn.Linear(3, 3).forward(torch.ones(2, 3))
    """

    def test_a_method_called_past_the_modules_own_call_is_a_trace_of_the_module(self):
        self.assertEqual(self.run_.labels(), ["Encoder.encode"])
        trace = self.run_.trace()
        self.assertEqual([parameter["name"] for parameter in trace.json["parameters"]], ["linear.weight", "linear.bias"])
        self.assertEqual([op["instance"] for op in trace.ops], ["linear", ""])
        self.assertEqual([port["name"] for port in trace.json["inputs"]], ["x"])


class Failures(unittest.TestCase):
    def test_a_function_that_raises_keeps_what_it_did(self):
        run = run_capture(
            """
            import torch

            def forward(w, x):
                y = x @ w
                raise ValueError("half-way")

            def safe(w, x):
                try:
                    int("x")
                except ValueError:
                    pass
                y = x @ w
                return y

            safe(torch.ones(3, 3), torch.ones(3))
            forward(torch.ones(3, 3), torch.ones(3))
            """,
            expect=1,
        )
        self.assertIn("half-way", run.stderr)
        self.assertNotIn("hstu_capture", run.stderr)
        entries = {entry["label"]: entry for entry in run.index["traces"]}
        self.assertNotIn("incomplete", entries["safe"])
        self.assertTrue(entries["forward"]["incomplete"])

    def test_constructors_and_functions_that_only_make_inputs_are_no_traces(self):
        run = run_capture(
            """
            import torch

            def init(x, std):
                with torch.no_grad():
                    return x.normal_(0, std)

            def noise(shape):
                return torch.randn(shape)

            class Net(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.w = init(torch.nn.Parameter(torch.empty(3)), 0.1)

                def forward(self, x):
                    return x * self.w

            def fill(x):
                x.fill_(1.0)
                return x

            net = Net()
            net(fill(noise((3,))))
            """
        )
        self.assertEqual(run.labels(), ["Net"])

    def test_a_function_is_recorded_for_each_shape_once(self):
        run = run_capture(
            """
            import torch

            def f(x):
                return x * 2.0

            for rows in (1, 2, 1, 2, 1):
                f(torch.ones(rows))
            """
        )
        self.assertEqual([(entry["label"], entry["calls"]) for entry in run.index["traces"]], [("f", 3), ("f", 2)])
        self.assertEqual(len({entry["object"] for entry in run.index["traces"]}), 1)


if __name__ == "__main__":
    unittest.main()
