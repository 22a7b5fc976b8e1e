"""One compiled Tripy program: as a trace on disk, as something that small programs can be evaluated from, as bytes."""

import base64
import json
import os
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from .host_arithmetic import evaluate, shapes_misfit
from .session import Session
from .source_frames import SourceFrame
from .trace_builder import TraceBuilder
from .tripy_values import CARRIERS, CODES, Feeds, arguments_misfit, as_feed, signature_of
from .wire import to_json


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
        self.output_dtypes = [tensor.dtype.name for tensor in trace.outputs]
        # What a compiled program takes: data type and bounds of the shape of each input.
        self._signature = signature_of(trace)
        self.label = _label(trace)
        self.name = ""
        self.path = ""
        # The files with the outputs of its executions, by a digest of their inputs.
        self.results: Dict[bytes, str] = {}
        # Constants of an eager program that are arguments of the model, by input name.
        self.constant_inputs: Dict[str, Any] = {}

    @property
    def made_by(self) -> Optional[int]:
        """The number of the model whose call an eager program's result came out of."""
        return _notes(self.trace.outputs[0]).made_by

    def on_host(self, arguments: Sequence[np.ndarray]) -> Optional[List[np.ndarray]]:
        """
        The outputs, where neither a model's program nor floating-point arithmetic is in it.
        Raises Misfit where the shapes of an op's operands do not go together.
        """
        return evaluate(self.trace, arguments)

    @property
    def is_eager(self) -> bool:
        return not _is_compiled(self.trace)

    def values(self, runtime: Any, arrays: Sequence[np.ndarray]) -> List[Any]:
        """Arrays that were computed here as values of the runtime."""
        space = runtime.PointerType.device
        pairs = zip(arrays, self.output_dtypes)
        return [runtime.MemRefValue(array, space, runtime.ScalarTypeCode[CODES[dtype]]) for array, dtype in pairs]

    def diagnose(self, arguments: Sequence[np.ndarray]) -> Optional[str]:
        """In TensorRT's words why the program cannot run on these arguments, where their shapes are the reason."""
        return shapes_misfit(self.trace, arguments)

    def misfit(self, arguments: Sequence[Any]) -> Optional[str]:
        """Why TensorRT's runtime would refuse these arguments, in its words; None where it takes them."""
        if self.trace.input_infos is None:
            return None
        return arguments_misfit(self._signature, arguments)

    def feeds(self, arguments: Sequence[Any]) -> Feeds:
        values = dict(zip(self.input_names, arguments))
        values.update(self.constant_inputs)
        return {name: as_feed(value) for name, value in values.items()}

    def serialise(self) -> bytes:
        """`Executable.save` keeps this: the trace with its values."""
        if self.entry is None:
            write_program(self)
        with open(self.path, encoding="utf-8") as file:
            trace = json.load(file)
        return _serialised(trace, self.path, self._signature)


class LoadedProgram:
    """A program that `Executable.load` read from a file."""

    is_eager = False

    def __init__(self, name: str, path: str, label: str, entry: Dict[str, Any], saved: Dict[str, Any]) -> None:
        trace = saved["trace"]
        self.name, self.path, self.label, self.entry = name, path, label, entry
        self.input_names = [port["name"] for port in trace["inputs"]]
        self.output_names = [port["name"] for port in trace["outputs"]]
        self.output_count = len(self.output_names)
        types = {tensor["id"]: tensor.get("narrow", tensor["dtype"]) for tensor in trace["tensors"]}
        self.output_dtypes = [types[port["tensor"]] for port in trace["outputs"]]
        self.results: Dict[bytes, str] = {}
        self._content = trace
        self._signature = saved["signature"]

    def misfit(self, arguments: Sequence[Any]) -> Optional[str]:
        return arguments_misfit(self._signature, arguments)

    def diagnose(self, arguments: Sequence[np.ndarray]) -> None:
        return None

    def on_host(self, arguments: Sequence[np.ndarray]) -> None:
        return None

    def feeds(self, arguments: Sequence[Any]) -> Feeds:
        return {name: as_feed(value) for name, value in zip(self.input_names, arguments)}

    def serialise(self) -> bytes:
        return _serialised(self._content, self.path, self._signature)


def write_program(
    program: TripyProgram, parameters: Sequence[Tuple[Any, Any]] = (), number: Optional[int] = None
) -> None:
    """
    Writes the program's trace: ops, constants and parameters. What it computes has no values yet.
    `parameters` are those of the model, with their trace tensors; the program's own are found without them.
    `number` is that of the model or function. An eager program knows its own.
    """
    trace = program.trace
    builder = program.session.new_trace("tripy", program.label)
    _write(program, builder, parameters)
    compiled = _is_compiled(trace)
    made_by = number if compiled else program.made_by
    details = {} if made_by is None else {"object": made_by}
    kind = "compile" if compiled else "eval"
    program.entry = program.session.finish_trace(builder, kind=kind, calls=0, **details)


def write_unlisted(program: TripyProgram, folder: str) -> None:
    """Writes an eager program's trace for the engine alone: one too many to be listed."""
    builder = TraceBuilder(folder, "program", program.label, "tripy", [])
    _write(program, builder, ())
    try:
        builder.write()
    finally:
        builder.close()


def _write(program: TripyProgram, builder: TraceBuilder, parameters: Sequence[Tuple[Any, Any]]) -> None:
    _ProgramWriter(program, builder).write_all(parameters)
    builder.ran_on = {**program.ran_on, "precision": _precision(program.trace)}
    program.name, program.path = builder.name, builder.path


def load_program(
    content: bytes, session: Session, source: Optional[Tuple[str, Optional[SourceFrame]]]
) -> LoadedProgram:
    """`source` is the file and the place where the script loads it."""
    saved = json.loads(content)
    trace = saved["trace"]
    builder = session.new_trace("tripy", trace["label"])
    builder.close()
    trace["sources"] = [_source_here(source, session.folder, builder.roots) for source in trace["sources"]]
    tensors = builder.name + ".safetensors"
    if saved["values"]:
        trace["tensorsFile"] = tensors
        with open(os.path.join(session.folder, tensors), "wb") as file:
            file.write(base64.b64decode(saved["values"]))
    entry = session.add_written(builder, trace)
    entry.update(kind="loaded", calls=0)
    if source is not None:
        file_name, frame = source
        entry["loadedFrom"] = {"file": file_name}
        if frame is not None:
            place = {"file": os.path.abspath(frame.file), "line": frame.line, "function": frame.function}
            entry["loadedFrom"]["frame"] = place
    session.write_index()
    return LoadedProgram(builder.name, builder.path, trace["label"], entry, saved)


def _serialised(trace: Dict[str, Any], path: str, signature: List[Any]) -> bytes:
    """A trace with its values, as one piece that can be read anywhere: its files have absolute names."""
    folder = os.path.dirname(path)
    values = ""
    if "tensorsFile" in trace:
        with open(os.path.join(folder, trace["tensorsFile"]), "rb") as tensors:
            values = base64.b64encode(tensors.read()).decode()
    sources = [
        {**source, "file": os.path.abspath(os.path.join(folder, source["file"])).replace(os.sep, "/"), "outside": True}
        for source in trace["sources"]
    ]
    return json.dumps({"trace": {**trace, "sources": sources}, "values": values, "signature": signature}).encode()


def _source_here(source: Dict[str, Any], folder: str, roots: Sequence[str]) -> Dict[str, Any]:
    """A source of a loaded program as this script's traces name it: relative where it is one of its own files."""
    path = os.path.realpath(source["file"])
    if not any(path.startswith(os.path.join(root, "")) for root in roots):
        return source
    relative = os.path.relpath(path, os.path.realpath(folder)).replace(os.sep, "/")
    return {"file": relative, "sha256": source["sha256"]}


class _ProgramWriter:
    def __init__(self, program: TripyProgram, builder: TraceBuilder) -> None:
        self._program = program
        self._trace = program.trace
        self._builder = builder
        self._ids: Dict[int, int] = {}
        self._inputs: Set[int] = set()
        self._parameters: Dict[str, int] = {}

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
            place.constructed if place else None,
        )
        if type(op).__name__ == "Constant":
            self._set_constant(outputs[0], op)

    def _add_parameter(self, parameter: Any, tensor: Any) -> None:
        fresh = self._tensor(tensor)
        if "key" not in self._builder.tensor(fresh):
            self._set_computed(fresh, tensor)
        name, count = parameter.name, 0
        # Two models of one eager program may call different tensors alike.
        while self._parameters.setdefault(name, fresh) != fresh:
            count += 1
            name = f"{parameter.name}#{count}"
        self._builder.add_parameter(name, fresh, parameter.declared)

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
            dtype = tensor.dtype.name
            known = self._ids[id(tensor)] = self._builder.add_tensor(CARRIERS.get(dtype, dtype), _shape(tensor))
            if dtype in CARRIERS:
                self._builder.tensor(known)["narrow"] = dtype
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
