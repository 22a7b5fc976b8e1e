import os
import subprocess
import sys
import unittest

import numpy as np
from capture_case import CaptureCase, run_capture


def run_alone(folder):
    """The script without any observer."""
    path = os.path.join(folder, "script.py")
    return subprocess.run([sys.executable, path], cwd=folder, capture_output=True, text=True, check=False)


class Unchanged(CaptureCase):
    """Each part prints what it computed: under capture it must be the same, and nothing else."""

    source = """
        import collections
        import threading

        import torch
        import torch.nn as nn
        import torch.nn.functional as F
        import torch.utils.checkpoint

        torch.manual_seed(0)

        def show(name, value):
            print(name, value)

        class Base(nn.Module):
            def __init__(self, body=None):
                super().__init__()
                self.w = nn.Parameter(torch.arange(1.0, 4.0))
                self.body = body

            def forward(self, *args, **kwargs):
                return self.body(self, *args, **kwargs)

        Pair = collections.namedtuple("Pair", "left right")

        def structures(self, pair, extra=None, *, flags=()):
            empty = pair.left[:0]
            return Pair(pair.left * self.w, {"none": None, "empty": empty.sum(), "flags": len(flags)})

        show("namedtuple", Base(structures)(Pair(torch.ones(3), torch.zeros(0, 3)), None, flags=[1, 2]))

        def integers(self, x):
            ids = (x * 2).long()
            return ids.bitwise_and(3), ids > 2, ~(ids > 2), ids // 2, ids.float().argmax()

        show("integers", Base(integers)(torch.arange(3.0)))

        def strides(self, x):
            expanded = x[:1].expand(4, 3)
            return expanded.t() + 0, expanded.sum(0), torch.as_strided(x, (2, 2), (1, 1))

        show("strides", Base(strides)(torch.arange(6.0).reshape(2, 3)))

        def writes(self, x):
            y = x.clone()
            y[y > 3] = -1
            y[0].copy_(self.w)
            out = torch.empty(2, 3)
            torch.add(y, 1, out=out)
            out.view(-1)[2:4].zero_()
            F.relu_(out)
            y.T.masked_fill_(y.T < 0, 7)
            return out, y

        with torch.no_grad():
            show("writes", Base(writes)(torch.arange(6.0).reshape(2, 3)))
        with torch.inference_mode():
            show("inference", Base(writes)(torch.arange(6.0).reshape(2, 3)))

        with torch.autocast("cpu", dtype=torch.bfloat16):
            show("autocast", nn.Linear(3, 2)(torch.ones(1, 3)).dtype)

        def shapes(self, x):
            found = torch.nonzero(x > 1)
            return torch.masked_select(x, x > 1), found, torch.unique(x), x[found[:, 0]]

        show("data-dependent", Base(shapes)(torch.arange(4.0)))

        def transforms(self, x):
            batched = torch.vmap(lambda row: (row * self.w).sum())(x)
            slope = torch.func.grad(lambda w: (w * x[0]).sum())(self.w.detach())
            jacobian = torch.func.jacrev(lambda w: w * 2)(self.w.detach())
            return batched, slope, jacobian.diagonal()

        show("functorch", Base(transforms)(torch.arange(6.0).reshape(2, 3)))
        net = nn.Linear(3, 1)
        params = {name: p.detach() * 0 + 1 for name, p in net.named_parameters()}
        show("functional_call", torch.func.functional_call(net, params, (torch.ones(2, 3),)))
        show("vmap module", torch.vmap(lambda row: torch.func.functional_call(net, params, (row,)))(torch.ones(2, 3)))

        def odd(self, x):
            c = torch.complex(x, x * 2)
            sparse = torch.eye(3).to_sparse()
            quantised = torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)
            return c.conj() * c, torch.sparse.mm(sparse, x[:, None]).T, quantised.dequantize(), torch.view_as_real(c)[0]

        show("odd", Base(odd)(torch.arange(3.0)))

        def ragged(self, x):
            nested = torch.nested.nested_tensor([x[:1], x])
            return torch.nested.to_padded_tensor(nested * 2, 0.0)

        show("nested", Base(ragged)(torch.arange(3.0)))

        def jagged_layout(self, x):
            nested = torch.nested.nested_tensor([x[:1], x], layout=torch.jagged)
            return (nested * 2).values()

        show("jagged", Base(jagged_layout)(torch.arange(3.0)))

        meta = nn.Linear(3, 3, device="meta")
        show("meta", meta(torch.ones(1, 3, device="meta")).shape)

        class Tagged(torch.Tensor):
            pass

        tagged = torch.ones(3).as_subclass(Tagged)
        show("subclass", type(Base(lambda self, x: x * self.w)(tagged)).__name__)

        seen = []
        hooked = nn.Linear(3, 3)
        hooked.register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape)) or out * 2)
        hooked.register_full_backward_hook(lambda module, gi, go: seen.append("backward"))
        hooked(torch.ones(1, 3, requires_grad=True)).sum().backward()
        show("hooks", seen)

        class Check(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Linear(3, 3)

            def forward(self, x):
                return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)

        check = Check()
        check(torch.ones(1, 3, requires_grad=True)).sum().backward()
        show("checkpoint", check.inner.bias.grad)

        results = {}
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())

        def work(number):
            results[number] = model(torch.full((1 + number, 3), 1.0)).shape

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        show("threads", sorted(results.items()))

        class Recursive(nn.Module):
            def forward(self, x, depth=3):
                return x if depth == 0 else self(x + 1, depth - 1)

        show("recursive", Recursive()(torch.zeros(2)))

        def rows(x):
            for row in x:
                yield row * 2

        show("generator", list(rows(torch.ones(2, 2))))
        lstm = nn.LSTM(3, 2)
        show("lstm", lstm(torch.ones(4, 1, 3))[0].shape)
        show("attention", nn.MultiheadAttention(4, 2)(*[torch.ones(2, 1, 4)] * 3)[0].shape)
        packed = nn.utils.rnn.pack_sequence([torch.ones(2, 3), torch.ones(1, 3)])
        show("packed", lstm(packed)[0].data.shape)
        torch.set_default_dtype(torch.float64)
        show("float64", nn.Linear(2, 2)(torch.ones(2)).dtype)
        opt = torch.optim.AdamW(net.parameters())
        net.double()(torch.ones(1, 3)).sum().backward()
        opt.step()
        show("deepcopy", type(__import__("copy").deepcopy(net)(torch.ones(3))).__name__)
        torch.save(net.state_dict(), "net.pt")
        show("load", net.load_state_dict(torch.load("net.pt")))
    """

    def test_the_script_prints_what_it_always_does(self):
        alone = run_alone(self.run_.folder)
        self.assertEqual(self.run_.stdout, alone.stdout)
        # Relative to the folder where it started, in which it was named; alone it was named absolutely.
        self.assertEqual(self.run_.stderr, alone.stderr)

    def test_nothing_was_left_incomplete(self):
        notes = [(entry["label"], entry.get("note")) for entry in self.run_.index["traces"] if "note" in entry]
        self.assertEqual(notes, [])

    def test_a_backward_pass_makes_no_traces(self):
        self.assertEqual(self.run_.labels().count("Check"), 1)
        self.assertNotIn("inner", self.run_.labels())


class Opaque(CaptureCase):
    source = """
        import torch

        class Block(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = torch.nn.Linear(3, 3)

            def forward(self, x):
                return self.linear(x).relu()

        class Scripted(Block):
            pass

        class Traced(Block):
            pass

        class Outer(torch.nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                return self.inner(x) + 1

        @torch.jit.script
        def scripted(x):
            return x * 2

        def function(w, x):
            return x @ w

        compiles = []

        def backend(graph, inputs):
            compiles.append(1)
            return graph.forward

        x = torch.ones(2, 3)
        with torch.no_grad():
            torch.jit.script(Scripted())(x)
            torch.jit.trace(Traced(), x)(x)
            Outer(torch.jit.script(Block()))(x)
            scripted(x)
            compiled = torch.compile(Block(), backend=backend)
            for _ in range(4):
                y = compiled(x)
            torch.testing.assert_close(y, compiled._orig_mod(x))
            Outer(compiled)(x)
            inplace = Outer(Block())
            inplace.compile(backend=backend)
            inplace(x)
            inplace(x)
            fast = torch.compile(function, backend=backend)
            w = torch.ones(3, 3)
            fast(w, x)
            fast(w, x)
            decorated = torch.compile(backend=backend)(lambda x: x * 3)
            print(decorated(x).sum().item())
        print(len(compiles), type(compiled).__name__)
    """

    def test_each_is_compiled_once(self):
        # The compiled block and the one within Outer are one; then Outer, the function, and the lambda.
        self.assertEqual(self.run_.stdout, "18.0\n4 OptimizedModule\n")

    def test_compiled_and_scripted_code_is_one_operation(self):
        kinds = {}
        for number, label in enumerate(self.run_.labels()):
            kinds.setdefault(label, []).append([op["kind"] for op in self.run_.trace(number).ops])
        self.assertEqual(kinds["Scripted"], [["torch.jit"]])
        self.assertEqual(kinds["Traced"], [["torch.jit"]])
        self.assertEqual(kinds["scripted"], [["torch.jit"]])
        self.assertEqual(kinds["Block"][0], ["torch.compile"])
        self.assertEqual(kinds["function"], [["torch.compile"]])
        self.assertEqual(
            kinds["Outer"],
            [["torch.jit", "torch.Tensor.add"], ["torch.compile", "torch.Tensor.add"], ["torch.compile"]],
        )

    def test_an_opaque_operation_has_its_inputs_parameters_and_line(self):
        trace = self.run_.trace(self.run_.labels().index("Block"))
        (op,) = trace.ops
        self.assertTrue(op["attributes"]["opaque"])
        names = [parameter["name"] for parameter in trace.json["parameters"]]
        self.assertEqual(names, ["linear.weight", "linear.bias"])
        self.assertEqual(len(op["inputs"]), 3)
        self.assertEqual(trace.frame(op["stack"][0])["line"], self.line_of("    y = compiled(x)"))
        np.testing.assert_array_equal(trace.value_of(op["outputs"][0]).shape, (2, 3))

    def test_calls_are_counted(self):
        entry = self.run_.index["traces"][self.run_.labels().index("function")]
        self.assertEqual((entry["calls"], entry["kind"]), (2, "function"))


class Processes(unittest.TestCase):
    def test_workers_of_a_data_loader_are_not_recorded(self):
        for workers in (0, 2):
            run = run_capture(
                f"""
                import torch

                class Data(torch.utils.data.Dataset):
                    def __len__(self):
                        return 4

                    def __getitem__(self, index):
                        return torch.nn.functional.pad(torch.full((2,), float(index)), (0, 1))

                def collate(rows):
                    return torch.stack(rows) * 1.0

                if __name__ == "__main__":
                    model = torch.nn.Linear(3, 1)
                    loader = torch.utils.data.DataLoader(Data(), batch_size=2, num_workers={workers}, collate_fn=collate)
                    print(sum(model(batch).shape[0] for batch in loader))
                """
            )
            self.assertEqual(run.stdout, "4\n")
            linear = [entry for entry in run.index["traces"] if entry["label"] == "Linear"]
            self.assertEqual([entry["calls"] for entry in linear], [1, 1])
            if workers:
                self.assertEqual(run.labels(), ["Linear", "Linear"])

    def test_an_error_of_the_observer_does_not_reach_the_script(self):
        run = run_capture(
            """
            import torch
            from hstu_capture import torch_recorder

            def broken(torch, func, args, kwargs):
                if getattr(func, "__name__", "") == "relu":
                    raise RuntimeError("no idea what this is")
                return original(torch, func, args, kwargs)

            original, torch_recorder.describe = torch_recorder.describe, broken

            class Net(torch.nn.Module):
                def forward(self, x):
                    y = x + 1
                    return y.relu() * 2

            print(Net()(torch.zeros(1)))
            """
        )
        self.assertEqual(run.stdout, "tensor([2.])\n")
        (entry,) = run.index["traces"]
        self.assertTrue(entry["incomplete"])
        self.assertEqual(entry["note"], "recording stopped: RuntimeError: no idea what this is")
        self.assertEqual([op["kind"] for op in run.trace().ops], ["torch.Tensor.add"])

    def test_a_script_that_traces_itself_keeps_its_tracer(self):
        run = run_capture(
            """
            import sys
            import torch

            calls = []

            def tracer(frame, event, value):
                calls.append(frame.f_code.co_name)

            def helper(x):
                return x * 2.0

            def named():
                pass

            sys.settrace(tracer)
            helper(torch.ones(1))
            named()
            print(sys.gettrace() is tracer, "named" in calls)
            """
        )
        self.assertEqual(run.stdout, "True True\n")
        self.assertEqual(run.labels(), ["helper"])


if __name__ == "__main__":
    unittest.main()
