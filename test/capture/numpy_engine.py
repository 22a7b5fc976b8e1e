"""
Plays the engine for the tests: evaluates the trace files of Tripy programs with numpy.

    python numpy_engine.py COMMAND…      runs COMMAND with " --engine-fd R,W" put before its "--"
"""

import json
import math
import os
import subprocess
import sys
import threading

import numpy as np

CAPTURE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "engine", "capture")
sys.path.insert(0, CAPTURE)

from hstu_capture.safetensors_file import read_safetensors, write_safetensors  # noqa: E402


def run_with_engine(command, **options):
    """Runs a capture command with an engine at its side; options go to subprocess.Popen. Returns the finished process."""
    from_engine, to_agent = os.pipe()
    from_agent, to_engine = os.pipe()
    separator = command.index("--")
    command = [*command[:separator], "--engine-fd", f"{from_engine},{to_engine}", *command[separator:]]
    process = subprocess.Popen(command, pass_fds=(from_engine, to_engine), **options)
    os.close(from_engine)
    os.close(to_engine)
    server = threading.Thread(target=serve, args=(from_agent, to_agent), daemon=True)
    server.start()
    stdout, stderr = process.communicate()
    server.join(timeout=10)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def serve(read_descriptor, write_descriptor):
    with os.fdopen(read_descriptor) as requests, os.fdopen(write_descriptor, "w") as answers:
        for line in requests:
            request = json.loads(line)
            try:
                outputs = request["inputs"].replace(".inputs.", ".engine.")
                write_safetensors(outputs, evaluate(request["trace"], request["inputs"]))
                answer = {"id": request["id"], "outputs": outputs}
            except Exception as error:
                answer = {"id": request["id"], "error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def evaluate(trace_path, inputs_path):
    with open(trace_path, encoding="utf-8") as file:
        trace = json.load(file)
    stored = {}
    if "tensorsFile" in trace:
        stored = read_arrays(os.path.join(os.path.dirname(trace_path), trace["tensorsFile"]))
    tensors = {tensor["id"]: tensor for tensor in trace["tensors"]}
    values = {number: stored[tensor["key"]] for number, tensor in tensors.items() if "key" in tensor}
    inputs = read_arrays(inputs_path)
    for port in trace["inputs"]:
        values[port["tensor"]] = inputs[port["name"]]
    for op in trace["ops"]:
        if op["kind"] == "Constant":
            continue
        result = compute(op, [values[number] for number in op["inputs"]])
        output = tensors[op["outputs"][0]]
        result = np.asarray(result).astype(output["dtype"])
        known = output["shape"]
        assert result.ndim == len(known), f"op {op['id']} {op['kind']}: {result.shape} for {known}"
        assert all(size in (-1, actual) for size, actual in zip(known, result.shape)), (op, result.shape, known)
        values[op["outputs"][0]] = result
    return {
        port["name"]: (str(values[port["tensor"]].dtype), values[port["tensor"]].shape, values[port["tensor"]].tobytes())
        for port in trace["outputs"]
    }


def read_arrays(path):
    """numpy has no bfloat16: its bits are given as uint16."""
    return {
        name: np.frombuffer(values, np.dtype("uint16" if dtype == "bfloat16" else dtype)).reshape(shape)
        for name, (dtype, shape, values) in read_safetensors(path).items()
    }


def compute(op, inputs):
    kind, attributes = op["kind"], op["attributes"]
    a = inputs[0] if inputs else None
    if "keepdim" in attributes:
        function = {"Sum": np.sum, "Prod": np.prod, "Avg": np.mean, "Max": np.max, "Min": np.min}[kind]
        return function(a, axis=tuple(attributes["dim"]), keepdims=attributes["keepdim"])
    with np.errstate(all="ignore"):
        if kind in ELEMENTWISE:
            return ELEMENTWISE[kind](*inputs)
        if kind == "Div":
            return a / inputs[1] if a.dtype.kind == "f" else np.trunc(a / inputs[1])
        if kind == "LayerNorm":
            axes = tuple(range(a.ndim - len(attributes["normalized_shape"]), a.ndim))
            mean = a.mean(axes, keepdims=True)
            variance = ((a - mean) ** 2).mean(axes, keepdims=True)
            return (a - mean) / np.sqrt(variance + np.float32(attributes["eps"])) * inputs[1] + inputs[2]
    if kind == "Cast":
        return a.astype(attributes["dtype"])
    if kind == "Shape":
        return np.array(a.shape)
    if kind == "GetDimensionSize":
        return a[attributes["dim"]]
    if kind == "Reshape":
        return a.reshape(inputs[1].tolist())
    if kind == "Broadcast":
        return np.broadcast_to(a, inputs[1].tolist())
    if kind == "Concatenate":
        return np.concatenate(inputs, attributes["dim"])
    if kind == "Permute":
        return np.transpose(a, attributes["permutation"])
    if kind == "Gather":
        return np.take(a, inputs[1], attributes["dim"])
    if kind == "Linspace":
        shape = tuple(a.tolist())
        steps = np.atleast_1d(inputs[2])
        return sum((np.indices(shape)[axis] * steps[axis] for axis in range(len(shape))), np.zeros(shape)) + inputs[1]
    if kind == "Slice":
        for axis, (start, size, stride) in enumerate(zip(*(part.tolist() for part in inputs[1:4]))):
            a = np.take(a, start + stride * np.arange(size), axis)
        return a
    if kind == "SliceFill":
        starts, sizes = inputs[1].tolist(), inputs[2].tolist()
        result = np.full(sizes, inputs[4], a.dtype)
        result[tuple(slice(-start, -start + size) for start, size in zip(starts, a.shape))] = a
        return result
    if kind == "Dequantize":
        return a.astype(np.float32) * inputs[1]
    if kind == "Quantize":
        return np.clip(np.rint(a / inputs[1]), -128, 127)
    raise NotImplementedError(kind)


ELEMENTWISE = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "FloorDiv": np.floor_divide, "Pow": np.power,
    "Max": np.maximum, "Min": np.minimum, "Less": np.less, "Greater": np.greater, "Equal": np.equal,
    "LogicalOr": np.logical_or, "Not": np.logical_not, "Neg": np.negative, "Abs": np.abs, "Exp": np.exp,
    "Log": np.log, "Sin": np.sin, "Cos": np.cos, "Sqrt": np.sqrt, "Tanh": np.tanh, "Where": np.where,
    "MatrixMultiply": np.matmul, "Recip": np.reciprocal, "Relu": lambda a: np.maximum(a, 0),
    "Sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "GeluErf": lambda a: a * 0.5 * (1 + np.vectorize(math.erf)(a / math.sqrt(2))),
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_with_engine(sys.argv[1:]).returncode)
