"""One compiled Tripy program: as a trace on disk, as something that small programs can be evaluated from, as bytes."""

import base64
import json
import os
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from .host_arithmetic import evaluate
from .session import Session
from .trace_builder import TraceBuilder
from .wire import to_json

Feeds = Dict[str, Tuple[str, Sequence[int], bytes]]


class TripyProgram:
    def __init__(self, trace: Any, session: Session, ran_on: Dict[str, Any]) -> None:
        self.trace = trace
        self.session = session
        self.ran_on = ran_on
        # Its line in capture.json, once it was written.
        self.entry: Optional[Dict[str, Any]] = None
        self.output_count = len(trace.outputs)
        self.output_names = _output_names(self.output_count)
        self.input_names: List[str] = []
        self.label = _label(trace)
        self.name = ""
        self.path = ""
        # Constants of an eager program that are arguments of the model, by input name.
        self.constant_inputs: Dict[str, Any] = {}

    def on_host(self, arguments: Sequence[np.ndarray]) -> Optional[List[np.ndarray]]:
        """The outputs, where neither a model's program nor floating-point arithmetic is in it."""
        return evaluate(self.trace, arguments)

    def feeds(self, arguments: Sequence[Any]) -> Feeds:
        values = dict(zip(self.input_names, arguments))
        values.update(self.constant_inputs)
        return {name: _as_feed(value) for name, value in values.items()}

    def serialise(self) -> bytes:
        """`Executable.save` keeps this: the trace with its values."""
        if self.entry is None:
            write_program(self)
        with open(self.path, encoding="utf-8") as file:
            trace = json.load(file)
        values = ""
        if "tensorsFile" in trace:
            with open(os.path.join(self.session.folder, trace["tensorsFile"]), "rb") as tensors:
                values = base64.b64encode(tensors.read()).decode()
        return json.dumps({"trace": trace, "values": values}).encode()


class LoadedProgram:
    """A program that `Executable.load` read from a file."""

    def __init__(self, name: str, path: str, label: str, entry: Dict[str, Any], trace: Dict[str, Any]) -> None:
        self.name, self.path, self.label, self.entry = name, path, label, entry
        self.input_names = [port["name"] for port in trace["inputs"]]
        self.output_names = [port["name"] for port in trace["outputs"]]
        self.output_count = len(self.output_names)
        self._content = trace

    def on_host(self, arguments: Sequence[np.ndarray]) -> None:
        return None

    def feeds(self, arguments: Sequence[Any]) -> Feeds:
        return {name: _as_feed(value) for name, value in zip(self.input_names, arguments)}

    def serialise(self) -> bytes:
        values = ""
        tensors = os.path.join(os.path.dirname(self.path), self._content.get("tensorsFile", ""))
        if os.path.isfile(tensors):
            with open(tensors, "rb") as file:
                values = base64.b64encode(file.read()).decode()
        return json.dumps({"trace": self._content, "values": values}).encode()


def write_program(program: TripyProgram, parameters: Sequence[Tuple[Any, Any]] = ()) -> None:
    """
    Writes the program's trace: ops, constants and parameters. What it computes has no values yet.
    `parameters` are those of the model, with their trace tensors; the program's own are found without them.
    """
    trace = program.trace
    builder = program.session.new_trace("tripy", program.label)
    _ProgramWriter(program, builder).write_all(parameters)
    builder.ran_on = {**program.ran_on, "precision": _precision(trace)}
    program.name, program.path = builder.name, builder.path
    program.entry = program.session.finish_trace(builder, program="compile" if _is_compiled(trace) else "eval")


def load_program(content: bytes, session: Session) -> LoadedProgram:
    saved = json.loads(content)
    trace = saved["trace"]
    builder = session.new_trace("tripy", trace["label"])
    builder.close()
    tensors = builder.name + ".safetensors"
    if saved["values"]:
        trace["tensorsFile"] = tensors
        with open(os.path.join(session.folder, tensors), "wb") as file:
            file.write(base64.b64decode(saved["values"]))
    entry = session.add_written(builder, trace)
    return LoadedProgram(builder.name, builder.path, trace["label"], entry, trace)


def value_of(runtime: Any, dtype: str, shape: Sequence[int], values: bytes) -> Any:
    code = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "bool": "i1"}.get(dtype) or dtype.replace("int", "i")
    numpy_type = np.dtype(np.uint16 if dtype == "bfloat16" else np.bool_ if dtype == "bool" else dtype)
    array = np.frombuffer(bytearray(values), numpy_type).reshape(tuple(shape))
    return runtime.MemRefValue(array, runtime.PointerType.device, runtime.ScalarTypeCode[code])


class _ProgramWriter:
    def __init__(self, program: TripyProgram, builder: TraceBuilder) -> None:
        self._program = program
        self._trace = program.trace
        self._builder = builder
        self._ids: Dict[int, int] = {}
        self._inputs: Set[int] = set()

    def write_all(self, parameters: Sequence[Tuple[Any, Any]]) -> None:
        trace, builder = self._trace, self._builder
        self._add_inputs()
        for op in trace.ops:
            if id(op.outputs[0]) in self._inputs:
                continue
            self._add_op(op)
        for name, tensor in zip(self._program.output_names, trace.outputs):
            builder.outputs.append({"name": name, "tensor": self._tensor(tensor)})
        for parameter, tensor in parameters or self._own_parameters():
            self._add_parameter(parameter, tensor)

    def _add_inputs(self) -> None:
        program, builder = self._program, self._builder
        infos = list(self._trace.input_infos or ())
        for index, tensor in enumerate(self._trace.inputs):
            notes = _notes(tensor)
            name = _port_name(infos[index]) if infos else (notes.argument or f"arg{index}")
            self._inputs.add(id(tensor))
            program.input_names.append(name)
            fresh = self._tensor(tensor)
            builder.inputs.append({"name": name, "tensor": fresh})
            if not infos:
                # An evaluated tensor that an eager program starts from: its value is known.
                self._set_constant(fresh, tensor.producer)
        if infos:
            return
        for op in self._trace.ops:
            argument = _notes(op.outputs[0]).argument
            if type(op).__name__ == "Constant" and argument is not None and argument not in program.input_names:
                self._inputs.add(id(op.outputs[0]))
                program.constant_inputs[argument] = op.data
                fresh = self._tensor(op.outputs[0])
                self._set_constant(fresh, op)
                builder.inputs.append({"name": argument, "tensor": fresh})

    def _add_op(self, op: Any) -> None:
        inputs: List[Optional[int]] = [self._tensor(tensor) for tensor in op.inputs]
        outputs = [self._tensor(tensor) for tensor in op.outputs]
        place = _place(op.outputs[0])
        self._builder.add_op(
            type(op).__name__,
            inputs,
            outputs,
            _attributes(op),
            place.frames if place else (),
            place.instance if place else "",
            place.call if place else 0,
        )
        if type(op).__name__ == "Constant":
            self._set_constant(outputs[0], op)

    def _add_parameter(self, parameter: Any, tensor: Any) -> None:
        fresh = self._tensor(tensor)
        if "key" not in self._builder.tensor(fresh):
            self._set_computed(fresh, tensor)
        self._builder.add_parameter(parameter.name, fresh, parameter.declared)

    def _own_parameters(self) -> List[Tuple[Any, Any]]:
        tensors = [*self._trace.inputs, *(output for op in self._trace.ops for output in op.outputs)]
        noted = [(_notes(tensor).parameter, tensor) for tensor in tensors]
        return [(parameter, tensor) for parameter, tensor in noted if parameter is not None]

    def _set_computed(self, fresh: int, tensor: Any) -> None:
        """A parameter may be an op, such as tp.zeros: where moving values is all it does, its value is known."""
        subtrace = type(self._trace)([tensor])
        values = evaluate(subtrace, ())
        if values is not None:
            self._builder.set_value(fresh, np.ascontiguousarray(values[0]).tobytes(), values[0].shape)

    def _set_constant(self, fresh: int, op: Any) -> None:
        array = getattr(op.data, "array", None)
        if array is None:
            array = _read(op.data)
        if array is not None:
            self._builder.set_value(fresh, np.ascontiguousarray(array).tobytes(), array.shape)

    def _tensor(self, tensor: Any) -> int:
        known = self._ids.get(id(tensor))
        if known is None:
            known = self._ids[id(tensor)] = self._builder.add_tensor(tensor.dtype.name, _shape(tensor))
            notes = _notes(tensor)
            for name in notes.names:
                self._builder.add_name(known, name)
            for name in notes.argument_names:
                self._builder.add_name(known, name, argument=True)
        return known


def _attributes(op: Any) -> Dict[str, Any]:
    skipped = {"inputs", "outputs", "data"}
    return {
        name: to_json(getattr(op, name, None), _tripy_value)
        for name in op.__dataclass_fields__
        if name not in skipped
    }


def _tripy_value(value: Any) -> Optional[Any]:
    module = type(value).__module__ or ""
    if isinstance(value, type):
        # Tripy's data types are classes.
        return getattr(value, "name", value.__name__)
    if module.startswith("nvtripy") and hasattr(value, "kind"):
        return str(value)
    return None


def _shape(tensor: Any) -> List[int]:
    return [size if isinstance(size, int) else -1 for size in tensor.shape or ()]


def _output_names(count: int) -> List[str]:
    return ["output"] if count == 1 else [f"output.{index}" for index in range(count)]


def _port_name(name: str) -> str:
    """Tripy calls nested inputs "states[0].k"; the trace calls them "states.0.k"."""
    return name.replace("[", ".").replace("]", "")


def _label(trace: Any) -> str:
    if _is_compiled(trace):
        return trace.name
    return _notes(trace.outputs[0]).program or "eval"


def _is_compiled(trace: Any) -> bool:
    return trace.input_infos is not None


def _precision(trace: Any) -> str:
    names = [output.dtype.name for op in trace.ops for output in op.outputs if "float" in output.dtype.name]
    return max(set(names), key=names.count) if names else "float32"


def _as_feed(value: Any) -> Tuple[str, Sequence[int], bytes]:
    names = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "i1": "bool"}
    code = value.dtype.name
    dtype = names.get(code) or code.replace("i", "int")
    return dtype, tuple(value.array.shape), np.ascontiguousarray(value.array).tobytes()


def _read(data: Any) -> Optional[np.ndarray]:
    """A constant of the real backend, whose memory is its own; None on the GPU."""
    try:
        return np.array(np.from_dlpack(data))
    except (TypeError, RuntimeError, BufferError, AttributeError):
        return None


def _notes(tensor: Any) -> Any:
    from .tripy_observer import notes_of

    return notes_of(tensor)


def _place(tensor: Any) -> Any:
    from .tripy_observer import place_of

    return place_of(tensor.stack_info)
