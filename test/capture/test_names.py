import unittest

from capture_case import CaptureCase

class GrammarInTorch(CaptureCase):
    source = """
        import torch

        def unchanged(given):
            return given

        def free(x, y):
            inner = x + y
            inner = inner * 2.0
            return inner

        class Layer(torch.nn.Module):
            def forward(self, x):
                u, v = torch.split(x, [2, 2], dim=-1)
                u = free(u, v)
                u = free(u, v)
                pair = (u, v)
                joined = torch.cat([u, v], -1)
                return joined, u

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = torch.nn.ModuleList([Layer(), Layer()])
                self.last = Layer()

            def forward(self, x, extra):
                for layer in self.layers:
                    x, u = layer(x)
                doubled = free(x + x, extra)
                made = [free(item, item) for item in (x,)]
                passed = unchanged(x * 3)
                return self.last(doubled)[0]

        Model()(torch.ones(1, 4), torch.ones(1, 4))
    """

    def setUp(self):
        self.trace = self.run_.trace()

    def test_a_tuple_assignment_names_each_variable(self):
        split = self.trace.maker_of("layers.0/forward.u")
        self.assertEqual(split["kind"], "torch.split")
        self.assertEqual(split, self.trace.maker_of("layers.0/forward.v"))

    def test_a_reassignment_is_counted(self):
        self.assertEqual(self.trace.maker_of("layers.1/forward.u#2")["kind"], "torch.Tensor.mul")

    def test_a_second_call_of_a_function_is_counted_within_the_instance(self):
        names = self.trace.names()
        self.assertIn("layers.0/free.inner#1", names)
        self.assertIn("layers.0/free@1.inner#1", names)
        self.assertIn("layers.1/free.inner", names)
        self.assertIn("/free@1.inner", names)

    def test_names_of_the_makers_come_before_those_of_the_receivers(self):
        first = self.trace.named("layers.0/free.inner#1")["names"]
        self.assertEqual(
            first,
            [
                "layers.0/free.inner#1",
                "layers.0/free.return",
                "layers.0/forward.u#1",
                "layers.0/free@1.x",
            ],
        )

    def test_a_name_as_an_argument_comes_last_even_where_it_is_the_first_one(self):
        self.assertEqual(
            self.trace.named("/forward.passed")["names"],
            ["/unchanged.return", "/forward.passed", "/unchanged.given"],
        )

    def test_an_expression_passed_on_has_the_receivers_name(self):
        self.assertEqual(self.trace.named("/free.x")["names"], ["/free.x"])

    def test_what_a_function_returns_unnamed_is_called_return(self):
        joined = self.trace.named("layers.0/forward.joined")["names"]
        self.assertEqual(joined, ["layers.0/forward.joined", "layers.0/forward.return.0", "/forward.x#1", "layers.1/forward.x"])

    def test_elements_of_a_collection_carry_their_place(self):
        self.assertIn("layers.0/forward.pair.1", self.trace.named("layers.0/forward.v")["names"])

    def test_a_name_belongs_to_one_tensor(self):
        names = [name for tensor in self.trace.json["tensors"] for name in tensor["names"]]
        self.assertEqual(len(names), len(set(names)))


class GrammarInTripy(CaptureCase):
    source = """
        import nvtripy as tp

        def free(x, y):
            inner = x + y
            inner = inner * 2.0
            return inner

        class Layer(tp.Module):
            def __init__(self):
                super().__init__()

            def forward(self, x: tp.Tensor):
                u, v = tp.split(x, [2, 2], dim=-1)
                u = free(u, v)
                u = free(u, v)
                pair = (u, v)
                joined = tp.concatenate([u, v], -1)
                return joined, u

        class Model(tp.Module):
            def __init__(self):
                super().__init__()
                self.layers = [Layer(), Layer()]
                self.by_name = {"last": Layer()}

            def forward(self, x: tp.Tensor, extra: tp.Tensor):
                for layer in self.layers:
                    x, u = layer(x)
                doubled = free(x + x, extra)
                made = [free(item, item) for item in (x,)]
                return self.by_name["last"](doubled)[0]

        tp.compile(Model(), args=[tp.InputInfo((1, 4), tp.float32), tp.InputInfo((1, 4), tp.float32)])
    """

    def setUp(self):
        self.trace = self.run_.trace()

    def test_tripy_tensors_have_the_names_that_torch_tensors_have(self):
        names = self.trace.names()
        for name in (
            "/forward.x",
            "/forward.extra",
            "layers.0/forward.u",
            "layers.0/forward.v",
            "layers.1/forward.u#2",
            "layers.0/free@1.inner#1",
            "layers.0/forward.pair.1",
            "/forward.x#2",
            "/forward.doubled",
            "by_name.last/forward.joined",
            "/forward.return",
        ):
            self.assertIn(name, names)

    def test_names_of_the_makers_come_before_those_of_the_receivers(self):
        self.assertEqual(
            self.trace.named("layers.0/free.inner#1")["names"],
            ["layers.0/free.inner#1", "layers.0/free.return", "layers.0/forward.u#1", "layers.0/free@1.x"],
        )


if __name__ == "__main__":
    unittest.main()
