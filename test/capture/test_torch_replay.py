import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import torch
from capture_case import CaptureCase
from numpy_engine import CAPTURE
from safetensors.torch import load_file, save_file

from hstu_capture import torch_operations
from hstu_capture.torch_resolution import needs_record
from hstu_capture.torch_replay import Replayer

SAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "samples", "hstu")


class ReplayedTrace:
    """A trace that was just recorded, and its evaluations by the names of the script's variables."""

    def __init__(self, out, file, replayer=None):
        self.path = os.path.join(out, file)
        with open(self.path, encoding="utf-8") as content:
            self.json = json.load(content)
        self.folder = tempfile.mkdtemp(prefix="hstu-replay-test-")
        self.replayer = replayer or Replayer(torch)
        self.recorded = load_file(os.path.join(out, self.json["tensorsFile"]))
        self.ops = self.json["ops"]

    def id(self, name):
        if isinstance(name, int):
            return name
        found = [t["id"] for t in self.json["tensors"] if name in t["names"] or "/forward." + name in t["names"]]
        if len(found) != 1:
            raise AssertionError(f"{len(found)} tensors are named {name}")
        return found[0]

    def op_of(self, name):
        return next(op for op in self.ops if self.id(name) in op["outputs"])

    def value(self, name):
        return self.recorded[self.json["tensors"][self.id(name)]["key"]]

    def everything(self):
        return [tensor["id"] for tensor in self.json["tensors"]]

    def ask(self, outputs, double=False, verify=False, **given):
        message = {"id": 7, "trace": self.path, "double": double, "verify": verify}
        message["outputs"] = [self.id(name) for name in outputs]
        message["to"] = os.path.join(self.folder, "to.safetensors")
        for kind, values in given.items():
            file = os.path.join(self.folder, f"{kind}.safetensors")
            save_file({str(self.id(name)): value.contiguous().clone() for name, value in values.items()}, file)
            message[kind] = {"tensors": [self.id(name) for name in values], "file": file}
        return self.replayer.answer(json.loads(json.dumps(message)))

    def evaluate(self, outputs, **options):
        """Values in the order of the outputs; None where one is unavailable."""
        answer = self.ask(outputs, **options)
        if "error" in answer:
            raise AssertionError(answer)
        values = load_file(answer["file"])
        return [values.get(str(self.id(name))) for name in outputs]


class ReplayCase(CaptureCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.replayer = Replayer(torch)
        cls.addClassCleanup(cls.replayer.close)
        cls.trace = ReplayedTrace(cls.run_.out, cls.run_.index["traces"][0]["file"], cls.replayer)
        cls.addClassCleanup(shutil.rmtree, cls.trace.folder, True)

    def assert_same(self, value, expected):
        self.assertIsNotNone(value)
        self.assertEqual(value.dtype, expected.dtype)
        torch.testing.assert_close(value, expected, rtol=0, atol=0, equal_nan=True)

    def assert_replays(self, recorded_kinds=()):
        """Every op gives its recorded results again, bit for bit; only ops of the kinds named stand for themselves."""
        answer = self.trace.ask(self.trace.everything(), verify=True)
        self.assertNotIn("error", answer)
        self.assertEqual(answer["mismatches"], [])
        self.assertEqual(answer["unavailable"], {})
        ops = {str(op["id"]): op for op in self.trace.ops}
        stood_in = {ops[number]["kind"] for number in answer["recorded"] if ops[number]["inputs"]}
        self.assertEqual(stood_in, set(recorded_kinds), answer["recorded"])
        for tensor, value in zip(self.trace.everything(), self.trace.evaluate(self.trace.everything())):
            self.assert_same(value, self.trace.value(tensor))


class BroadOps(ReplayCase):
    source = """
        import math
        import numpy as np
        import torch
        import torch.nn.functional as F

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = torch.nn.Conv1d(4, 4, 3, padding=1)
                self.lstm = torch.nn.LSTM(6, 5, batch_first=True)
                self.attention = torch.nn.MultiheadAttention(6, 2, batch_first=True)
                self.norm = torch.nn.BatchNorm1d(4)
                self.table = torch.nn.EmbeddingBag(10, 6)

            def forward(self, x, ids, mask):
                # x [4, 6], ids [4, 6] of int64, mask [4, 6] of bool
                one = [
                    x[0], x[-1, 2:], x[..., 1], x[:, None], x[::2, ::3], x[mask], x[[0, 2]], x[(1, 2)], x[None],
                    x[ids[0, :3] % 4], x[[0, 1], [2, 3]], x[:, ids[0] % 6], x[ids[:, 0] % 4, ids[:, 1] % 6],
                    x[True], x[torch.tensor(1)], x[np.array([1, 0])], x[np.int64(2)], x[..., None, 0],
                    x[:, :, None], x[: torch.tensor(2)], x[[True, False, True, False]], x[slice(1, None), ...],
                    x[(0, 1), :],
                ]
                two = [
                    torch.einsum("ab,cb->ac", x, x), torch.einsum("ab,bc->ac", [x, x.T]),
                    torch.einsum("ii", x[:, :4]), torch.cat([x, x]), torch.cat((x, x), -1), torch.stack([x]),
                    torch.stack([x, x], dim=1), torch.hstack((x, x)), torch.vstack([x, x]), torch.concat([x], 0),
                    torch.cat([x, x], axis=1), torch.tensordot(x, x.T, 1), torch.block_diag(x, x),
                    torch.cartesian_prod(x[0], x[1]),
                ]
                three = [
                    *x.split(2), *torch.split(x, [1, 3]), *x.chunk(3, dim=1), *torch.chunk(x, 2), *x.unbind(),
                    *torch.tensor_split(x, 3, dim=1), *torch.tensor_split(x, (1, 3)),
                    *torch.meshgrid(x[0], x[1], indexing="ij"), *torch.broadcast_tensors(x, x[0]),
                    *torch.hsplit(x, [1, 2]),
                ]
                four = [
                    torch.where(mask, x, 0.0), torch.where(mask, 1.0, x), torch.where(mask, x, -x),
                    x.where(mask, x[0]), *torch.where(mask), torch.masked_fill(x, mask, float("-inf")),
                    x.masked_fill(mask, -1e9), x.masked_fill(~mask, value=math.nan), x.masked_select(mask),
                    torch.nonzero(mask), mask.nonzero(as_tuple=False),
                ]
                five = [
                    x.cumsum(0), torch.cumsum(x, dim=-1, dtype=torch.float64), x.cumprod(1), *x.cummax(0),
                    torch.logcumsumexp(x, 0), x.softmax(-1), F.softmax(x, dim=0),
                    F.softmax(x, -1, dtype=torch.float64), torch.log_softmax(x, 1), torch.logsumexp(x, (0, 1)),
                    F.layer_norm(x, (6,)), F.layer_norm(x, [6], x[0], x[1], 1e-3), F.group_norm(x[None], 2),
                    F.rms_norm(x, (6,)), F.normalize(x, dim=-1), F.normalize(x, p=1.0, eps=1e-6),
                    F.cosine_similarity(x, -x, dim=0),
                ]
                six = [
                    torch.zeros(4, 6).scatter(1, ids, x), x.scatter(1, ids, 7.5), x.scatter_add(0, ids % 4, x),
                    x.gather(1, ids), torch.gather(x, 0, ids % 4), x.index_select(1, ids[0]),
                    torch.index_select(x, 0, ids[:, 0] % 4), torch.take(x, ids), x.scatter(1, ids, x, reduce="add"),
                    torch.take_along_dim(x, ids, dim=1), x.index_add(0, ids[0, :2] % 4, x[:2], alpha=2),
                    x.index_fill(1, ids[0, :2], 3.0), x.scatter_reduce(1, ids, x, "amax", include_self=False),
                    x.index_put((ids[0] % 4, ids[1]), x[0]), x.put(ids[0], x[0], accumulate=True),
                ]
                seven = [
                    x + 1, 1 - x, x / 2, 2 / x, x // 2, x % 2, x**2, 2.0**x, -x, ~mask, x > 0, 0 < x, x @ x.T,
                    ids << 1, ids & 3, mask | mask, x + ids, ids / 2, ids * 1.5, mask + 1, x.half() + 1.0,
                    x.bfloat16() * x.bfloat16(), x.double() + x, ids.float(), x.to(torch.int32),
                    x.to("cpu", torch.float16), x.to(ids), x.type(torch.float64), x.type_as(ids),
                    torch.add(x, x, alpha=2), torch.sub(x, 1, alpha=3), torch.rsub(x, 1), x.add(x, alpha=-1),
                    torch.div(x, 2, rounding_mode="floor"), x.clamp(min=0), x.clamp(0, 1), x.clip(max=1.0),
                    torch.clamp(x, max=x.abs()), torch.pow(2, ids % 3), torch.remainder(x, 0.3),
                    torch.maximum(x, -x), x.addcmul(x, x, value=0.5), torch.lerp(x, -x, 0.25),
                ]
                eight = [
                    F.scaled_dot_product_attention(x[None], x[None], x[None]),
                    F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None], is_causal=True, scale=0.1),
                    F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None], attn_mask=mask[:, :4]),
                    F.embedding(ids, x.T), F.embedding(ids, x.T, padding_idx=2), F.embedding_bag(ids, x.T),
                    F.one_hot(ids, 7), self.table(ids),
                ]
                nine = [
                    torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])),
                    torch.bucketize(x, x[0].sort().values, right=True), torch.searchsorted(x.sort().values, x),
                    *x.topk(2), *torch.topk(x, 3, dim=0, largest=False), *x.sort(descending=True),
                    *torch.sort(x, dim=0, stable=True), x.argsort(-1), x.argmax(), x.argmax(1, keepdim=True),
                    *x.max(1), x.max(), torch.max(x, -x), *x.min(dim=0), *x.median(0), *torch.kthvalue(x, 2),
                    *x.mode(), *torch.unique(ids, return_inverse=True), torch.unique(ids), torch.histc(x, 5),
                    *torch.aminmax(x),
                ]
                ten = [
                    x.sum(), x.sum(0), x.sum((0, 1), keepdim=True), x.mean(-1), x.std(unbiased=False),
                    x.var(0, correction=0), torch.var_mean(x, 1)[0], x.norm(), x.norm(2, -1, True),
                    torch.linalg.norm(x, ord=2, dim=-1, keepdim=True), torch.linalg.vector_norm(x, dim=1),
                    x.prod(1), x.any(0), mask.all(), x.count_nonzero(1), x.amax((0, 1)), torch.quantile(x, 0.3),
                    x.diff(), torch.linalg.svd(x)[1], torch.linalg.inv(x[:4, :4] + 9 * torch.eye(4)),
                ]
                eleven = [
                    x.T, x.mT, x.t(), x.transpose(0, 1), x.permute(1, 0), x.permute([1, 0]), x.reshape(2, 12),
                    x.reshape((3, -1)), x.view(24), x.view(-1, 8), x.flatten(), x.unsqueeze(0), x.squeeze(),
                    x.expand(2, -1, -1), x.expand(3, 4, 6), x.repeat(2, 1), x.repeat_interleave(2, 0),
                    torch.repeat_interleave(x, ids[:, 0], dim=0), x.tile(2), x.flip(0), x.flip([0, 1]), x.roll(1),
                    x.flip(0, 1), x.roll(2, 1), x.roll((1, 2), (0, 1)), x.rot90(), x.narrow(1, 1, 3), x.select(0, 1), x.diagonal(),
                    torch.diag(x[0]), x.tril(), x.triu(1), x.unfold(1, 2, 2), x.as_strided((2, 2), (1, 2)),
                    (x * 1).view(torch.int32), x.contiguous(memory_format=torch.contiguous_format), x.movedim(0, 1),
                    x.swapaxes(0, 1), F.pad(x, (1, 2)), F.pad(x, (1, 1), value=-1.0),
                    F.pad(x[None], (1, 1), mode="reflect"), x.clone(), x.detach(), x.view_as(x), x.reshape_as(x.T),
                    x.unflatten(1, (2, 3)), torch.atleast_3d(x), torch.squeeze(x[None], 0),
                ]
                twelve = [
                    F.relu(x), F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), F.leaky_relu(x, 0.2), F.elu(x),
                    x.sigmoid(), x.tanh(), F.softplus(x, beta=2), F.hardtanh(x, -0.5, 0.5), F.glu(x),
                    F.dropout(x, 0.5, training=False), F.linear(x, x), F.linear(x, x, x[:, 0]),
                    F.conv1d(x[None], torch.ones(2, 4, 3)), F.conv2d(x[None, None], torch.ones(2, 1, 3, 3), None, 2, 1),
                    F.avg_pool2d(x[None, None], 3, 1), F.max_pool1d(x[None], 2),
                    F.avg_pool1d(x[None], 2, stride=1), F.interpolate(x[None], scale_factor=2), F.mse_loss(x, -x),
                    F.cross_entropy(x, ids[:, 0] % 6),
                    F.cross_entropy(x, ids[:, 0], label_smoothing=0.1, reduction="sum"),
                    F.unfold(x[None, None], (2, 2)), F.adaptive_avg_pool1d(x[None], 3),
                    F.bilinear(x, x, torch.ones(2, 6, 6)), torch.baddbmm(x[None], x[None], torch.eye(6)[None]),
                    torch.addmm(x, x, torch.eye(6), beta=0.5, alpha=2), torch.outer(x[0], x[1]), torch.erf(x),
                    torch.special.expit(x), torch.fft.rfft(x).abs(), torch.polar(x, x).real,
                    torch.view_as_real(torch.complex(x, x)), torch.complex(x, x) * (1 + 2j),
                    torch.nan_to_num(x, nan=0.0, posinf=1.0), x.isfinite(), torch.zeros_like(x),
                    torch.full_like(x, 3), x.new_zeros(2), x.new_full((2, 2), 1.5), x.new_tensor([1.0, 2.0]),
                    torch.ones_like(x, dtype=torch.float16), torch.cdist(x, x),
                ]
                modules = [
                    self.conv(x[None]), self.lstm(x[None])[0], self.attention(x[None], x[None], x[None])[0],
                    self.norm(x[:, :4]),
                ]
                return one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, modules

        torch.manual_seed(3)
        x = torch.randn(4, 6)
        with torch.no_grad():
            Model().eval()(x, torch.randint(0, 6, (4, 6)), x > 0)
    """

    def test_every_op_gives_its_recorded_results_again(self):
        self.assertGreater(len(self.trace.ops), 300)
        self.assert_replays()

    def test_every_op_has_a_value_in_double_precision(self):
        everything = self.trace.everything()
        answer = self.trace.ask(everything, double=True)
        self.assertNotIn("error", answer)
        lost = {self.trace.op_of(int(tensor))["kind"] for tensor in answer["unavailable"]}
        # The bits of a float32 read as another type mean nothing in float64.
        self.assertEqual(lost, {"torch.Tensor.view"}, answer["unavailable"])
        values = load_file(answer["file"])
        floats = {value.dtype for value in values.values() if value.dtype.is_floating_point}
        self.assertEqual(floats, {torch.float64})


class InPlaceWrites(ReplayCase):
    source = """
        import torch
        import torch.nn.functional as F

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
                self.register_buffer("count", torch.zeros(3))

            def forward(self, x):
                base = x * 1
                row = base[0]
                row.add_(10).mul_(2)
                second = base[1]
                second.sub_(1)
                total = base + 0
                base[1] = -1
                base[:, 2:] = self.weight[:, 2:]
                after = row + base
                base.mul_(2)
                detached = base.detach()
                self.count += 1
                counted = self.count * x
                into = torch.empty(2, 3)
                torch.add(x, base, out=into)
                values, places = torch.empty(2, 1), torch.empty(2, 1, dtype=torch.int64)
                torch.topk(into, 1, out=(values, places))
                flat = into.view(-1)
                flat[flat > 20] = 0.5
                flat[1:3] += 1
                relu = F.relu(into - 3, inplace=True)
                chunk, other = into.chunk(2, dim=0)
                chunk.copy_(other)
                chunk.masked_fill_(chunk > 1, 0.25).clamp_(min=0)
                filled = into * 1
                zeros = torch.zeros(3)
                zeros.scatter_add_(0, places[:, 0], values[:, 0])
                zeros.index_add_(0, places[:, 0], values[:, 0]).unsqueeze_(0)
                turned = x.t()
                turned[0, 1] = 8
                changed = x + 0
                return detached, counted, relu, filled, zeros, changed, total, after

        with torch.no_grad():
            Model().eval()(torch.arange(6.0).reshape(2, 3))
    """

    def test_every_op_gives_its_recorded_results_again(self):
        self.assert_replays()

    def test_a_pruned_evaluation_sees_writes_through_all_views(self):
        for name in ("total", "after", "filled", "counted", "changed"):
            self.assert_same(*self.trace.evaluate([name]), self.trace.value(name))

    def test_what_is_recorded_stays_as_it_is_from_request_to_request(self):
        everything = self.trace.everything()
        first = self.trace.evaluate(everything)
        for _ in range(2):
            for tensor, value, before in zip(everything, self.trace.evaluate(everything), first):
                self.assert_same(value, before)
                self.assert_same(value, self.trace.value(tensor))

    def test_a_replaced_base_is_what_its_views_and_their_writes_work_on(self):
        base, total = self.trace.evaluate(["base", "total"], replace={"base": torch.full((2, 3), 5.0)})
        self.assert_same(base, self.trace.value("base"))
        self.assert_same(total, torch.tensor([[30.0] * 3, [4.0] * 3]))

    def test_a_replaced_result_of_a_write_is_seen_by_the_base(self):
        written, total = self.trace.evaluate(["second#1", "total"], replace={"second#1": torch.full((3,), 7.0)})
        self.assert_same(written, self.trace.value("second#1"))
        self.assert_same(total, torch.stack([self.trace.value("total")[0], torch.full((3,), 7.0)]))

    def test_a_write_into_a_replaced_view_reaches_its_base(self):
        (total,) = self.trace.evaluate(["total"], replace={"second": torch.full((3,), 7.0)})
        self.assert_same(total, torch.stack([self.trace.value("total")[0], torch.full((3,), 6.0)]))

    def test_a_replaced_view_leaves_its_base_alone_until_it_is_written(self):
        base, row = self.trace.evaluate(["base", "row"], replace={"row": torch.full((3,), 7.0)})
        self.assert_same(base, self.trace.value("base"))
        self.assert_same(row, self.trace.value("row"))


class Substitutions(ReplayCase):
    source = """
        import torch

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.tensor([2.0, 3.0]))

            def forward(self, x, count):
                scaled = x * self.weight
                third = scaled / 3
                narrow = third.half()
                wide = narrow.float()
                mean = wide.mean()
                ones = torch.ones(2)
                moved = third + count
                typed = third.to(torch.bfloat16) + torch.zeros(2, dtype=torch.bfloat16)
                whole = third.to(torch.int64)
                return mean, moved + ones

        with torch.no_grad():
            Model()(torch.tensor([1.0, 5.0]), torch.tensor([1, 2]))
    """

    def test_readers_get_the_replacement_while_the_output_is_what_is_computed(self):
        given = torch.tensor([6.0, 30.0])
        scaled, third, mean = self.trace.evaluate(["scaled", "third", "mean"], replace={"scaled": given})
        self.assert_same(scaled, torch.tensor([2.0, 15.0]))
        self.assert_same(third, torch.tensor([2.0, 10.0]))
        self.assert_same(mean, torch.tensor(6.0))

    def test_a_replaced_input_still_is_an_output_with_its_recorded_value(self):
        x, scaled = self.trace.evaluate(["x", "scaled"], replace={"x": torch.tensor([0.0, 1.0])})
        self.assert_same(x, torch.tensor([1.0, 5.0]))
        self.assert_same(scaled, torch.tensor([0.0, 3.0]))

    def test_a_correction_is_added_to_what_is_computed(self):
        scaled, third = self.trace.evaluate(
            ["scaled", "third"],
            parameters={"x": torch.tensor([2.0, 2.0])},
            correct={"scaled": torch.tensor([2.0, -3.0])},
        )
        self.assert_same(scaled, torch.tensor([4.0, 6.0]))
        self.assert_same(third, torch.tensor([2.0, 1.0]))

    def test_parameters_are_replaced_before_anything_runs(self):
        tensor = self.trace.json["parameters"][0]["tensor"]
        weight, scaled = self.trace.evaluate([tensor, "scaled"], parameters={tensor: torch.tensor([1.0, 1.0])})
        self.assert_same(weight, torch.ones(2))
        self.assert_same(scaled, torch.tensor([1.0, 5.0]))

    def test_double_precision_leaves_narrowing_casts_out(self):
        names = ["third", "narrow", "wide", "ones", "moved", "typed", "whole", "count", "x"]
        self.assertEqual(self.trace.ask(names, double=True)["unavailable"], {})
        third, narrow, wide, ones, moved, typed, whole, count, x = self.trace.evaluate(names, double=True)
        exact = torch.tensor([2.0, 15.0], dtype=torch.float64) / 3
        for value in (third, narrow, wide, typed):
            self.assert_same(value, exact)
        self.assert_same(moved, exact + torch.tensor([1, 2]))
        self.assert_same(ones, torch.ones(2, dtype=torch.float64))
        self.assert_same(whole, torch.tensor([0, 5]))
        self.assert_same(count, torch.tensor([1, 2]))
        self.assert_same(x, torch.tensor([1.0, 5.0], dtype=torch.float64))

    def test_a_replacement_in_single_precision_serves_an_evaluation_in_double(self):
        (third,) = self.trace.evaluate(["third"], double=True, replace={"scaled": torch.tensor([1.0, 2.0])})
        self.assert_same(third, torch.tensor([1.0, 2.0], dtype=torch.float64) / 3)

    def test_a_replacement_in_another_type_is_cast_to_the_type_that_its_readers_knew(self):
        narrow, wide = self.trace.evaluate(["narrow", "wide"], replace={"narrow": torch.tensor([0.1, 0.2])})
        self.assertEqual(narrow.dtype, torch.float16)
        self.assert_same(wide, torch.tensor([0.1, 0.2]).half().float())

    def test_a_replacement_of_another_shape_is_taken_as_it_is(self):
        (third,) = self.trace.evaluate(["third"], replace={"scaled": torch.tensor([3.0, 6.0, 9.0])})
        self.assert_same(third, torch.tensor([1.0, 2.0, 3.0]))

    def test_what_does_not_fit_is_refused_in_words(self):
        wrong_shape = self.trace.ask(["third"], correct={"scaled": torch.zeros(3)})
        self.assertEqual((wrong_shape["id"], wrong_shape["code"]), (7, "bad-feeds"))
        self.assertIn("[3], not [2]", wrong_shape["error"])
        made = self.trace.ask(["third"], parameters={"scaled": torch.zeros(2)})
        self.assertIn("no parameters", made["error"])
        unknown = self.trace.ask([4711])
        self.assertIn("4711", unknown["error"])
        missing = self.replayer.answer({"id": 1, "trace": self.trace.path + "x", "outputs": [], "to": "x"})
        self.assertEqual(missing["code"], "model-refused")

    def test_a_trace_that_was_written_anew_is_read_anew(self):
        folder = tempfile.mkdtemp(prefix="hstu-replay-test-")
        self.addCleanup(shutil.rmtree, folder, True)
        for name in os.listdir(self.run_.out):
            shutil.copy(os.path.join(self.run_.out, name), folder)
        copy = ReplayedTrace(folder, os.path.basename(self.trace.path), self.replayer)
        self.addCleanup(shutil.rmtree, copy.folder, True)
        self.assert_same(*copy.evaluate(["x"]), torch.tensor([1.0, 5.0]))
        values = load_file(os.path.join(folder, copy.json["tensorsFile"]))
        key = copy.json["tensors"][copy.id("x")]["key"]
        save_file({**values, key: torch.tensor([9.0, 9.0])}, os.path.join(folder, "new"))
        os.replace(os.path.join(folder, "new"), os.path.join(folder, copy.json["tensorsFile"]))
        self.assert_same(*copy.evaluate(["x"]), torch.tensor([9.0, 9.0]))


class UnrepeatableOps(ReplayCase):
    source = """
        import torch
        import torch.nn.functional as F

        @torch.library.custom_op("story::twice", mutates_args=())
        def twice(x: torch.Tensor) -> torch.Tensor:
            return x * 2

        class Model(torch.nn.Module):
            def forward(self, x, y):
                dropped = F.dropout(x, 0.5, training=True)
                after = dropped + y
                noise = torch.rand_like(x) + y
                drawn = torch.rand(3) * x
                filled = torch.empty_like(x).uniform_()
                used = filled + x
                own = twice(x) - y
                late = F.dropout(x * 2, 0.5)
                kept = F.dropout(x, 0.5, training=False) * 2
                return after, noise

        with torch.no_grad():
            Model()(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0]))
    """

    def test_their_recorded_results_stand_for_them(self):
        self.assert_replays(
            ["torch.nn.functional.dropout", "torch.rand_like", "torch.empty_like", "torch.Tensor.uniform_", "story.twice"]
        )

    def test_they_are_fine_where_nothing_before_them_was_replaced(self):
        names = ["after", "noise", "own"]
        given = {"y": torch.zeros(3)}
        after, noise, own = self.trace.evaluate(names, parameters=given)
        self.assert_same(after, self.trace.value("dropped"))
        self.assert_same(own, torch.tensor([2.0, 4.0, 6.0]))
        self.assertIsNotNone(noise)

    def test_what_they_make_of_replaced_values_is_unavailable_and_said_why(self):
        answer = self.trace.ask(["after", "noise", "own", "used", "kept", "drawn"], replace={"x": torch.ones(3)})
        self.assertEqual(set(answer["unavailable"]), {str(self.trace.id(name)) for name in ("after", "own")})
        self.assertIn("dropout is random", answer["unavailable"][str(self.trace.id("after"))])
        self.assertIn("known to the script only", answer["unavailable"][str(self.trace.id("own"))])
        values = load_file(answer["file"])
        self.assert_same(values[str(self.trace.id("kept"))], torch.full((3,), 2.0))
        self.assert_same(values[str(self.trace.id("used"))], self.trace.value("filled") + 1)

    def test_a_replacement_of_their_results_makes_what_follows_available(self):
        answer = self.trace.ask(["dropped", "after"], replace={"x": torch.ones(3), "dropped": torch.ones(3)})
        self.assertEqual(set(answer["unavailable"]), {str(self.trace.id("dropped"))})
        values = load_file(answer["file"])
        self.assert_same(values[str(self.trace.id("after"))], torch.tensor([5.0, 6.0, 7.0]))

    def test_their_float32_results_are_no_measure_of_double_precision(self):
        answer = self.trace.ask(["after", "noise", "drawn", "late"], double=True)
        self.assertEqual(set(answer["unavailable"]), {str(self.trace.id("late"))})

    def test_compiled_code_is_not_evaluated_again(self):
        for kind in ("torch.jit", "torch.jit.ScriptFunction", "torch.compile"):
            self.assertIn("compiled code", needs_record(kind, {}))
        self.assertIsNone(needs_record("torch.nn.functional.dropout", {"p": 0.5, "training": False}))


class Surroundings(ReplayCase):
    source = """
        import torch

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = torch.nn.Linear(3, 2)
                self.register_buffer("phases", torch.polar(torch.ones(3), torch.arange(3.0)))

            def forward(self, x):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    narrow = self.linear(x)
                wide = narrow.float() * 2
                turned = torch.view_as_real(torch.view_as_complex(torch.stack([x, x], -1)) * self.phases)
                parameter = torch.view_as_complex(turned).abs()
                return wide, parameter

        torch.manual_seed(0)
        with torch.no_grad():
            Model()(torch.randn(2, 3))
    """

    def test_autocast_and_complex_numbers_are_as_they_were(self):
        self.assertEqual(self.trace.value("narrow").dtype, torch.bfloat16)
        self.assert_replays()

    def test_autocast_is_left_out_in_double_precision(self):
        names = ["x", *[p["tensor"] for p in self.trace.json["parameters"] if p["name"].startswith("linear")]]
        narrow, x, weight, bias = self.trace.evaluate(["narrow", *names], double=True)
        self.assert_same(narrow, torch.nn.functional.linear(x, weight, bias))


class JaggedOps(ReplayCase):
    source = """
        import torch
        import fbgemm_gpu

        class Model(torch.nn.Module):
            def forward(self, dense, lengths):
                ops = torch.ops.fbgemm
                offsets = ops.asynchronous_complete_cumsum(lengths)
                jagged = ops.dense_to_jagged(dense, [offsets])[0]
                thirds = jagged / 3
                padded = ops.jagged_to_padded_dense(thirds, [offsets], [3], -1.0)
                column = thirds[:, 0].contiguous()
                single = ops.jagged_to_padded_dense(values=column, offsets=[offsets], max_lengths=[2])
                added = ops.jagged_dense_elementwise_add(thirds, [offsets], dense)
                multiplied = ops.jagged_dense_elementwise_mul(thirds, [offsets], dense)[0]
                joined = ops.jagged_dense_elementwise_add_jagged_output(thirds, [offsets], dense)[0]
                return padded

        with torch.no_grad():
            Model()(torch.arange(12.0).reshape(2, 3, 2), torch.tensor([3, 1]))
    """

    def test_every_op_gives_its_recorded_results_again(self):
        self.assert_replays()

    def test_they_work_in_double_precision_which_fbgemm_has_no_kernels_for(self):
        names = ["padded", "single", "added", "multiplied", "joined"]
        padded, single, added, multiplied, joined = self.trace.evaluate(names, double=True)
        dense = torch.arange(12.0, dtype=torch.float64).reshape(2, 3, 2)
        valid = torch.tensor([[True, True, True], [True, False, False]])
        self.assert_same(padded, torch.where(valid[..., None], dense / 3, -1.0))
        self.assert_same(single, torch.where(valid, dense[..., 0] / 3, 0.0)[:, :2])
        self.assert_same(added, torch.where(valid[..., None], dense / 3, 0.0) + dense)
        self.assert_same(multiplied, (dense / 3 * dense)[valid])
        self.assert_same(joined, (dense / 3 + dense)[valid])


class UnusualCalls(unittest.TestCase):
    def test_a_call_that_cannot_be_understood_is_described_by_its_name_and_tensors(self):
        class Strange:
            def __array_interface__(self):
                raise RuntimeError

            def __str__(self):
                raise RuntimeError

        x = torch.ones(2)
        operation = torch_operations.describe(torch, torch.add, (x, Strange()), {})
        self.assertEqual(operation.tensors, [x])
        self.assertIn("add", operation.kind)
        self.assertIn("call", operation.attributes)


class SampleModels(unittest.TestCase):
    def test_all_ops_of_both_models_give_their_recorded_results_again(self):
        replayer = Replayer(torch)
        self.addCleanup(replayer.close)
        for config in ("tiny", "ml-1m-large"):
            out = tempfile.mkdtemp(prefix="hstu-replay-test-")
            self.addCleanup(shutil.rmtree, out, True)
            script = os.path.join(SAMPLE, "test_research_pipeline.py")
            subprocess.run(
                [sys.executable, "-m", "hstu_capture", "--out", out, "--", script, "--config", config],
                env={**os.environ, "PYTHONPATH": CAPTURE, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            for label in ("Hstu", "HstuDense"):
                with self.subTest(config=config, model=label):
                    trace = ReplayedTrace(out, f"torch-{label}.trace.json", replayer)
                    self.addCleanup(shutil.rmtree, trace.folder, True)
                    self.assertEqual(trace.json["ranOn"]["threads"], 1)
                    answer = trace.ask(trace.everything(), verify=True)
                    self.assertEqual(answer["mismatches"], [])
                    self.assertEqual(answer["unavailable"], {})
                    self.assertLess(len(answer["recorded"]), 4)
                    output = trace.json["outputs"][0]["tensor"]
                    (exact,) = trace.evaluate([output], double=True)
                    distance = (exact - trace.value(output)).norm() / exact.norm()
                    self.assertEqual(exact.dtype, torch.float64)
                    self.assertLess(distance, 1e-6)
                    self.assertGreater(distance, 1e-9)


if __name__ == "__main__":
    unittest.main()
