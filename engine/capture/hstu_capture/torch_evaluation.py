"""One evaluation of a recorded torch trace on other values."""

import contextlib
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from .evaluation_request import BadRequest, Request
from .fbgemm_double import double_form
from .recorded_trace import ALIAS, RecordedTrace
from .replayed_tensors import bits_equal, difference, has_type, index_of, like, storage, tensors_in
from .safetensors_file import code_of_dtype
from .torch_call_encoding import Call, NotReplayable, decode_call, rebuild_call
from .torch_resolution import function_of, needs_record, reads_shape_only
from .torch_operations import schemas_of
from .torch_values import dense_values, dtype_name

_CASTS = {"torch.Tensor.float", "torch.Tensor.half", "torch.Tensor.bfloat16"}


class Evaluation:
    """
    Real tensors are kept for real aliasing: a write through a view is seen by its base. `values` are the outputs as
    (key, code of the type, dense tensor); `unavailable` says why one could not be computed.
    """

    def __init__(self, torch: Any, trace: RecordedTrace, request: Request) -> None:
        self.values: List[Tuple[str, str, Any]] = []
        self.unavailable: Dict[str, str] = {}
        self.mismatches: List[Dict[str, Any]] = []
        # Ops whose recorded results stand for them, and why.
        self.recorded: Dict[str, str] = {}
        self.wrote_into_recorded = False
        self._torch = torch
        self._trace = trace
        self._request = request
        self._wanted = set(request.outputs)
        # What the readers of a tensor get.
        self._objects: Dict[int, Any] = {}
        # A replaced view has memory of its own: the view that it stands for, which its base still shows.
        self._behind: Dict[int, Any] = {}
        # Tensors whose value may differ from the recorded one, and those that cannot be had, with the reason.
        self._changed: Set[int] = set()
        self._lost: Dict[int, str] = {}
        self._writes_follow = False
        unknown = [t for t in (*request.outputs, *self._given()) if t not in trace.tensors]
        if unknown:
            raise BadRequest(f"the trace has no tensors {unknown}")
        made = [tensor for tensor in request.parameters if tensor in trace.producer]
        if made:
            raise BadRequest(f"the tensors {made} are no parameters: ops make them")

    def run(self) -> None:
        torch = self._torch
        default = torch.get_default_dtype()
        try:
            with torch.no_grad():
                if self._request.double:
                    torch.set_default_dtype(torch.float64)
                self._run()
        finally:
            torch.set_default_dtype(default)

    def _run(self) -> None:
        trace = self._trace
        given = set(self._request.replace) - self._wanted if self._request.trial and not trace.writers else set()
        needed = trace.needed_ops(self._wanted, given)
        written = set(trace.writers)
        writers = [index for index in needed if index in written]
        self._writes_follow = bool(writers)
        read: List[int] = [t for index in needed for t in trace.ops[index]["inputs"] if t is not None]
        last_use = {t: index for index in needed for t in trace.ops[index]["inputs"]}
        for tensor in dict.fromkeys((*self._wanted, *read)):
            if tensor in given:
                self._lose(tensor, "it is replaced")
            elif tensor not in trace.producer:
                self._add_external(tensor)
        guarded = [(tensor, tensor._version) for tensor in self._objects.values()]
        last_write = max(writers, default=-1)
        for index in needed:
            self._writes_follow = index <= last_write
            op = trace.ops[index]
            self._evaluate(op)
            for tensor in (*op["inputs"], *op["outputs"]):
                if last_use.get(tensor, -1) <= index:
                    self._objects.pop(tensor, None)
        if not writers:
            self.wrote_into_recorded = any(tensor._version != version for tensor, version in guarded)

    def _given(self) -> Iterator[int]:
        yield from self._request.replace
        yield from self._request.correct
        yield from self._request.parameters

    def _add_external(self, tensor: int) -> None:
        given = self._request.parameters.get(tensor)
        value = self._trace.value(tensor) if given is None else given
        if value is None:
            self._lose(tensor, "its value was not recorded")
            return
        if given is not None:
            self._changed.add(tensor)
        if self._writes_follow:
            value = value.clone()
        self._settle(tensor, self._on_device(self._widened(value)), False)

    def _evaluate(self, op: Dict[str, Any]) -> None:
        inputs = [tensor for tensor in op["inputs"] if tensor is not None]
        if op["kind"] == ALIAS:
            self._follow_write(op)
            return
        reason = needs_record(op["kind"], op["attributes"])
        if not inputs:
            # Nothing that is replaced can reach it.
            reason = f"{op['kind']} has no tensor among its inputs"
        if reason is None:
            lost = next((self._lost[tensor] for tensor in inputs if tensor in self._lost), None)
            if lost is not None:
                for output in op["outputs"]:
                    self._lose(output, lost)
                return
            try:
                self._call(op, inputs)
                return
            except MemoryError:
                raise
            except NotReplayable as error:
                reason = str(error)
            except Exception as error:
                if "not enough memory" in str(error) or "out of memory" in str(error).lower():
                    raise
                reason = f"{op['kind']} cannot be evaluated on these values: {type(error).__name__}: {error}"
        self._take_recorded(op, inputs, reason)

    def _call(self, op: Dict[str, Any], inputs: Sequence[int]) -> None:
        torch = self._torch
        tensors = [self._operand(op, position, tensor) for position, tensor in enumerate(inputs)]
        function = function_of(torch, op["kind"])
        args, kwargs = self._arguments(op, function, tensors)
        if self._request.double and op["kind"] in _CASTS:
            function, args, kwargs = torch.Tensor.double, [tensors[0]], {}
        versions = [tensor._version for tensor in tensors]
        with self._surroundings(op):
            try:
                result = function(*args, **kwargs)
            except NotImplementedError:
                other = double_form(torch, op["kind"], function) if self._request.double else None
                if other is None:
                    raise
                result = other(*args, **kwargs)
        written = [tensor for tensor, version in zip(tensors, versions) if tensor._version != version]
        fed = any(reader in op["outputs"] for reader, _ in self._request.operands)
        changed = fed or any(tensor in self._changed for tensor in inputs)
        for output, made in zip(op["outputs"], self._results(op, result, tensors, written)):
            is_written = index_of(written, made) >= 0
            if is_written:
                self._mirror(inputs[index_of(tensors, made)], output, made)
            else:
                if index_of(tensors, made) >= 0:
                    # What was a copy when it was recorded must not be the same memory now.
                    made = made.clone()
                made = self._widened(made)
            if changed or (self._request.double and made.is_floating_point()):
                self._changed.add(output)
            if self._request.verify:
                self._compare(op, output, made)
            self._settle(output, made, is_written, tensors)

    def _operand(self, op: Dict[str, Any], position: int, tensor: int) -> Any:
        value = self._objects[tensor]
        fed = self._request.operands.get((op["outputs"][0], position)) if op["outputs"] else None
        if fed is not None:
            value = fed.to(device=value.device, dtype=value.dtype)
        stored = op["attributes"].get("call", {}).get("stored", {}).get(str(position))
        wanted = None if stored is None else getattr(self._torch, stored, None)
        if wanted is None or value.dtype == wanted or value.is_complex():
            return value
        if wanted.is_complex:
            return self._torch.view_as_complex(value.contiguous())
        return value if self._request.double else value.to(wanted)

    def _arguments(self, op: Dict[str, Any], function: Any, tensors: Sequence[Any]) -> Call:
        torch, attributes = self._torch, op["attributes"]
        call = attributes.get("call", {})
        if "args" in call:
            args, kwargs = decode_call(torch, call, tensors)
        else:
            args, kwargs = rebuild_call(
                torch, function, op["kind"], attributes, tensors, lambda: schemas_of(torch, function, op["kind"])
            )
        if self._request.double and op["kind"].endswith(".view") and has_type(torch.dtype, args, kwargs):
            raise NotReplayable(f"{op['kind']} reads the bits of another type")
        return [self._adapted(value) for value in args], {name: self._adapted(v) for name, v in kwargs.items()}

    def _adapted(self, value: Any) -> Any:
        """Types become wider in double precision; a device that is not there becomes the CPU, as it was emulated."""
        torch = self._torch
        if isinstance(value, torch.dtype):
            if not self._request.double or not (value.is_floating_point or value.is_complex):
                return value
            return torch.complex128 if value.is_complex else torch.float64
        if isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda")):
            is_cuda = str(value).startswith("cuda")
            return "cpu" if is_cuda and not torch.cuda.is_available() else value
        if self._request.double and isinstance(value, str) and value in _TENSOR_TYPES:
            return "torch.DoubleTensor"
        return value

    @contextlib.contextmanager
    def _surroundings(self, op: Dict[str, Any]) -> Iterator[None]:
        torch = self._torch
        call = op["attributes"].get("call", {})
        if self._request.double or not ("autocast" in call or "defaultDtype" in call):
            yield
            return
        default = torch.get_default_dtype()
        autocast = call.get("autocast")
        try:
            if "defaultDtype" in call:
                torch.set_default_dtype(getattr(torch, call["defaultDtype"]))
            if autocast is None:
                yield
                return
            device = autocast["device"] if torch.cuda.is_available() else "cpu"
            with torch.autocast(device, dtype=getattr(torch, autocast["dtype"])):
                yield
        finally:
            torch.set_default_dtype(default)

    def _results(self, op: Dict[str, Any], result: Any, tensors: Sequence[Any], written: Sequence[Any]) -> List[Any]:
        """The tensors that stand for the op's outputs: what it returned and wrote, less what was there before."""
        outputs = op["outputs"]
        candidates: List[Any] = []
        for tensor in (*tensors_in(self._torch.Tensor, result), *written):
            if index_of(candidates, tensor) < 0:
                candidates.append(tensor)
        fresh = [t for t in candidates if index_of(tensors, t) < 0 or index_of(written, t) >= 0]
        for found in (fresh, candidates):
            if len(found) == len(outputs):
                return found
        shapes = [list(dense_values(self._torch, tensor).shape) for tensor in candidates]
        chosen: List[Any] = []
        for output in outputs:
            wanted = self._trace.tensors[output]["shape"]
            if wanted not in shapes:
                raise NotReplayable(f"{op['kind']} gave {len(candidates)} tensors now, and {len(outputs)} before")
            chosen.append(candidates.pop(shapes.index(wanted)))
            shapes.remove(wanted)
        return chosen

    def _follow_write(self, op: Dict[str, Any]) -> None:
        """The tensor before is the same object as after the write; one that was never seen has its record only."""
        source, before = op["inputs"][0], op["inputs"][1] if len(op["inputs"]) > 1 else None
        output = op["outputs"][0]
        for tensor in op["inputs"]:
            if tensor in self._lost:
                self._lose(output, self._lost[tensor])
                return
        written = self._behind.get(source, self._objects[source])
        if before is not None:
            for holder in (self._behind.get(before), self._objects[before]):
                if holder is not None and storage(holder) == storage(written):
                    if not self._changed.isdisjoint(op["inputs"]) or (
                        self._request.double and holder.is_floating_point()
                    ):
                        self._changed.add(output)
                    if self._request.verify:
                        self._compare(op, output, holder)
                    self._settle(output, holder, True)
                    return
        self._take_recorded(op, op["inputs"], "how it hangs together with what was written was not recorded")

    def _take_recorded(self, op: Dict[str, Any], inputs: Sequence[int], reason: str) -> None:
        self.recorded[str(op["id"])] = reason
        free = reads_shape_only(op["kind"])
        changed = not free and any(tensor in self._changed or tensor in self._lost for tensor in inputs)
        for position, output in enumerate(op["outputs"]):
            value = self._trace.value(output)
            if changed:
                self._lose(output, f"{reason}, and what it reads has changed")
            elif value is None:
                self._lose(output, f"{reason}, and its value was not recorded")
            else:
                target = self._objects.get(inputs[0]) if position == 0 and self._writes_first(op, inputs) else None
                if target is not None:
                    target.copy_(value)
                    self._mirror(inputs[0], output, target)
                    self._settle(output, target, True)
                else:
                    self._settle(output, self._on_device(self._widened(value.clone())), False)

    def _writes_first(self, op: Dict[str, Any], inputs: Sequence[int]) -> bool:
        name = op["kind"].rpartition(".")[2]
        return bool(inputs) and (name.endswith("_") or op["attributes"].get("inplace") is True)

    def _settle(self, tensor: int, computed: Any, written: bool, operands: Sequence[Any] = ()) -> None:
        """Keeps an output as it was computed, and what its readers get."""
        request = self._request
        if tensor in self._wanted:
            self._keep(tensor, computed)
        given = request.replace.get(tensor)
        if given is None and tensor in request.correct:
            given = computed + self._fitted(tensor, request.correct[tensor], computed)
        if given is None:
            self._objects[tensor] = computed
            return
        self._changed.add(tensor)
        if tensor in request.replace and given.shape != computed.shape and not (written or computed.is_complex()):
            # What follows decides whether it can be computed with another shape.
            self._objects[tensor] = given.to(device=computed.device, dtype=computed.dtype)
            return
        value = self._fitted(tensor, given, computed)
        if written:
            # Views and bases of what was written in place read the same memory.
            computed.copy_(value)
            self._objects[tensor] = computed
            return
        self._objects[tensor] = like(self._torch, computed, value)
        if any(storage(computed) == storage(operand) for operand in operands):
            self._behind[tensor] = computed

    def _mirror(self, before: int, after: int, written: Any) -> None:
        """A write into a replaced view is one into its base too."""
        behind = self._behind.get(before)
        if behind is not None:
            behind.copy_(written)
            self._behind[after] = behind

    def _fitted(self, tensor: int, given: Any, computed: Any) -> Any:
        torch = self._torch
        value = given
        if computed.is_complex() and not given.is_complex():
            value = torch.view_as_complex(given.to(computed.real.dtype).contiguous())
        if value.shape != computed.shape:
            raise BadRequest(
                f"the value given for tensor {tensor} has shape {list(value.shape)}, not {list(computed.shape)}"
            )
        return value.to(device=computed.device, dtype=computed.dtype)

    def _lose(self, tensor: int, reason: str) -> None:
        """A value that is given in its place serves its readers all the same."""
        if tensor in self._wanted:
            self.unavailable[str(tensor)] = reason
        given = self._request.replace.get(tensor)
        if given is None:
            self._lost[tensor] = reason
            return
        recorded = getattr(self._torch, self._trace.tensors[tensor]["dtype"])
        self._changed.add(tensor)
        self._objects[tensor] = self._on_device(self._widened(given.to(recorded)))

    def _keep(self, tensor: int, computed: Any) -> None:
        value = dense_values(self._torch, computed)
        if self._writes_follow and storage(value) == storage(computed):
            value = value.clone()
        self.values.append((str(tensor), code_of_dtype(dtype_name(self._torch, computed.dtype)), value))

    def _widened(self, value: Any) -> Any:
        torch = self._torch
        if not self._request.double:
            return value
        if value.is_complex():
            return value.to(torch.complex128)
        return value.double() if value.is_floating_point() else value

    def _on_device(self, value: Any) -> Any:
        device = self._trace.ran_on.get("device", "cpu")
        return value.to(device) if device.startswith("cuda") and self._torch.cuda.is_available() else value

    def _compare(self, op: Dict[str, Any], output: int, made: Any) -> None:
        torch = self._torch
        recorded = self._trace.value(output)
        if recorded is None:
            return
        value = dense_values(torch, made)
        if value.dtype == recorded.dtype and value.shape == recorded.shape and bits_equal(torch, value, recorded):
            return
        mismatch: Dict[str, Any] = {"op": op["id"], "kind": op["kind"], "tensor": output}
        if value.shape != recorded.shape:
            mismatch["shapes"] = [list(value.shape), list(recorded.shape)]
        else:
            mismatch.update(difference(torch, value, recorded))
            if dense_values(torch, made).dtype == made.dtype and made.shape == recorded.shape:
                made.copy_(recorded)
        self.mismatches.append(mismatch)


_TENSOR_TYPES = ("torch.FloatTensor", "torch.HalfTensor", "torch.BFloat16Tensor")
