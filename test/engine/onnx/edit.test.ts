import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { TensorProto_DataType, type ModelProto } from "onnx-buf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { toFloat64 } from "../../../engine/core/dtypes.js";
import type { TensorValue } from "../../../engine/core/tensorValue.js";
import {
  cutAt,
  extractSegment,
  parametersAsInputs,
  pruned,
  serialise,
  toDouble,
  withOutputs,
} from "../../../engine/onnx/edit.js";
import { inferDTypes } from "../../../engine/onnx/elementTypes.js";
import { floatTaps, formsOf, tensorTaps } from "../../../engine/onnx/shapes.js";
import { createRunner, type Runner } from "../../../engine/runner/supervisor.js";
import { bundleRunner } from "../../support/bundleRunner.js";
import { floats, smallGraph, smallModel, type SmallNode } from "../../support/onnxModel.js";

let folder: string;
let runner: Runner;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-edit-"));
  runner = createRunner({ provider: "cpu", entry: await bundleRunner(folder), timeoutMs: 60_000 });
});
afterAll(async () => {
  runner.dispose();
  await rm(folder, { recursive: true, force: true });
});

async function run(
  model: ModelProto,
  feeds: Record<string, TensorValue>,
): Promise<Record<string, number[]>> {
  const outputs = model.graph?.output.map(({ name }) => name) ?? [];
  const values = await runner.evaluate(
    serialise(model),
    feeds,
    outputs,
    new AbortController().signal,
  );
  return Object.fromEntries(Object.entries(values).map(([name, v]) => [name, [...toFloat64(v)]]));
}

/** a = x·w, b = a + a, y = b − c; z is made beside it and nobody reads it. */
const model = smallModel({
  inputs: { x: ["float32", [2]], unused: ["float32", [1]] },
  initializers: { w: floats([2], [10, 20]), c: floats([], [1]) },
  nodes: [
    { op: "Mul", in: ["x", "w"], out: ["a"] },
    { op: "Add", in: ["a", "a"], out: ["b"] },
    { op: "Neg", in: ["c"], out: ["z"] },
    { op: "Sub", in: ["b", "c"], out: ["y"] },
  ],
  outputs: ["y"],
});
const before = serialise(model);
const x = floats([2], [1, 2]);
const unused = floats([1], [0]);
const parts = (m: ModelProto) => ({
  nodes: m.graph?.node.map((n) => n.opType),
  inputs: m.graph?.input.map((p) => p.name),
  initializers: m.graph?.initializer.map((t) => t.name),
  outputs: m.graph?.output.map((p) => p.name),
});

describe("taps", () => {
  it("adds outputs beside the model's own, or instead of them", async () => {
    expect(await run(withOutputs(model, ["a", "y"]), { x, unused })).toEqual({
      y: [19, 79],
      a: [10, 40],
    });
    const only = withOutputs(model, ["b"], { only: true });
    expect(await run(only, { x, unused })).toEqual({ b: [20, 80] });
    expect(parts(only)).toEqual({
      nodes: ["Mul", "Add"],
      inputs: ["x", "unused"],
      initializers: ["w"],
      outputs: ["b"],
    });
  });

  it("can show inputs and parameters as well", async () => {
    expect(await run(withOutputs(model, ["x", "w"]), { x, unused })).toEqual({
      y: [19, 79],
      x: [1, 2],
      w: [10, 20],
    });
  });

  it("refuses a tensor that is not there", () => {
    expect(() => withOutputs(model, ["q"])).toThrow('the graph has no tensor "q"');
  });

  it("leaves the model as it was", () => {
    withOutputs(model, ["a"], { only: true });
    cutAt(model, [{ tensor: "a", input: "a@r" }], ["y"]);
    parametersAsInputs(model, ["w"]);
    toDouble(model);
    extractSegment(model, ["a"], ["y"]);
    expect(serialise(model)).toEqual(before);
  });
});

describe("a cut", () => {
  it("feeds what reads the tensor, while the tensor itself is still computed", async () => {
    const cut = cutAt(model, [{ tensor: "a", input: "a@r" }], ["a", "b", "y"]);
    expect(await run(cut, { x, "a@r": floats([2], [5, 6]) })).toEqual({
      a: [10, 40],
      b: [10, 12],
      y: [9, 11],
    });
  });

  it("drops what the outputs do not need", () => {
    expect(parts(cutAt(model, [{ tensor: "a", input: "a@r" }], ["y"]))).toEqual({
      nodes: ["Add", "Sub"],
      inputs: ["a@r"],
      initializers: ["c"],
      outputs: ["y"],
    });
  });

  it("works at an input, at a parameter, and at every tensor at once", async () => {
    const at = (names: string[]) => names.map((tensor) => ({ tensor, input: `${tensor}@r` }));
    const all = cutAt(model, at(["x", "w", "a", "b"]), ["a", "b", "y"]);
    const feeds = {
      "x@r": floats([2], [2, 2]),
      "w@r": floats([2], [3, 4]),
      "a@r": x,
      "b@r": floats([2], [0, 1]),
    };
    expect(await run(all, feeds)).toEqual({ a: [6, 8], b: [2, 4], y: [-1, 0] });
  });

  it("takes the element type that it is given, and infers the others", async () => {
    const typed = smallModel({
      inputs: { x: ["float32", [2]] },
      nodes: [
        {
          op: "Cast",
          in: ["x"],
          out: ["i"],
          attributes: { to: BigInt(TensorProto_DataType.INT64) },
        },
        { op: "Custom", domain: "other", in: ["i"], out: ["q"] },
        { op: "Add", in: ["q", "i"], out: ["y"] },
      ],
      outputs: ["y"],
    });
    const cuts = [
      { tensor: "q", input: "q@r" },
      { tensor: "i", input: "i@r" },
    ];
    expect(() => cutAt(typed, cuts, ["y"])).toThrow('nobody knows the element type of "q"');
    const cut = cutAt(typed, cuts, ["y"], new Map([["q", "int64"]]));
    const int = (...values: bigint[]): TensorValue => ({
      dtype: "int64",
      shape: [2],
      bytes: new Uint8Array(BigInt64Array.from(values).buffer),
    });
    expect(await run(cut, { "q@r": int(1n, 2n), "i@r": int(3n, 4n) })).toEqual({ y: [4, 6] });
  });

  it("reaches into branches", async () => {
    const branch = (nodes: SmallNode[]) => smallGraph({ nodes, outputs: ["out"] });
    const branched = smallModel({
      inputs: { x: ["float32", [2]], yes: ["bool", []] },
      nodes: [
        { op: "Neg", in: ["x"], out: ["a"] },
        {
          op: "If",
          in: ["yes"],
          out: ["y"],
          attributes: {
            then_branch: branch([{ op: "Add", in: ["a", "a"], out: ["out"] }]),
            else_branch: branch([{ op: "Identity", in: ["x"], out: ["out"] }]),
          },
        },
      ],
      outputs: ["y"],
    });
    const yes: TensorValue = { dtype: "bool", shape: [], bytes: Uint8Array.of(1) };
    expect(await run(withOutputs(branched, ["y"], { only: true }), { x, yes })).toEqual({
      y: [-2, -4],
    });
    const cut = cutAt(branched, [{ tensor: "a", input: "a@r" }], ["a", "y"]);
    expect(await run(cut, { x, yes, "a@r": floats([2], [5, 6]) })).toEqual({
      a: [-1, -2],
      y: [10, 12],
    });
  });
});

describe("a segment", () => {
  it("is a model of its own between two sets of tensors", async () => {
    const segment = extractSegment(model, ["a"], ["y"]);
    expect(parts(segment)).toEqual({
      nodes: ["Add", "Sub"],
      inputs: ["a"],
      initializers: ["c"],
      outputs: ["y"],
    });
    expect(await run(segment, { a: x })).toEqual({ y: [1, 3] });
    expect(await run(extractSegment(model, ["x", "w"], ["a"]), { x, w: x })).toEqual({ a: [1, 4] });
  });

  it("can begin at one output of an op whose other output it needs", async () => {
    const split = smallModel({
      inputs: { x: ["float32", [2]] },
      nodes: [
        { op: "Split", in: ["x"], out: ["p", "q"], attributes: { num_outputs: 2n, axis: 0n } },
        { op: "Sub", in: ["p", "q"], out: ["y"] },
      ],
      outputs: ["y"],
    });
    expect(await run(extractSegment(split, ["p"], ["y"]), { x, p: floats([1], [9]) })).toEqual({
      y: [7],
    });
  });

  it("refuses an input that is an output", () => {
    expect(() => extractSegment(model, ["a"], ["a"])).toThrow('"a" is both');
  });
});

describe("parameters as inputs", () => {
  it("lets parameters be fed, whether stored or made by an op", async () => {
    const open = parametersAsInputs(model, ["w", "z", "x"]);
    expect(parts(open)).toMatchObject({ inputs: ["x", "unused", "w", "z"], initializers: ["c"] });
    expect(
      await run(pruned(withOutputs(open, ["z"])), { x, w: floats([2], [1, 1]), z: x }),
    ).toEqual({ y: [1, 3], z: [1, 2] });
    expect(parametersAsInputs(model, [])).toBe(model);
  });
});

describe("element types", () => {
  it("follow from the ops, so that only what is worth it is tapped", async () => {
    const mixed = smallModel({
      inputs: { x: ["float16", [2, 2]] },
      nodes: [
        { op: "Shape", in: ["x"], out: ["shape"] },
        { op: "Reshape", in: ["x", "shape"], out: ["r"] },
        { op: "Greater", in: ["r", "r"], out: ["mask"] },
        { op: "Where", in: ["mask", "x", "r"], out: ["w"] },
        {
          op: "Cast",
          in: ["w"],
          out: ["f"],
          attributes: { to: BigInt(TensorProto_DataType.FLOAT) },
        },
        { op: "ReduceMax", in: ["f"], out: ["m"] },
        { op: "Constant", in: [], out: ["k"], attributes: { value_int: 1n } },
        { op: "ArgMax", in: ["f"], out: ["i"] },
        { op: "SplitToSequence", in: ["f"], out: ["parts"] },
        { op: "SequenceAt", in: ["parts", "k"], out: ["part"] },
      ],
      outputs: ["m"],
    });
    expect(Object.fromEntries(inferDTypes(mixed))).toEqual({
      x: "float16",
      shape: "int64",
      r: "float16",
      mask: "bool",
      w: "float16",
      f: "float32",
      m: "float32",
      k: "int64",
      i: "int64",
    });
    expect(tensorTaps(mixed)).toEqual(["shape", "r", "mask", "w", "f", "m", "i", "part"]);
    expect(floatTaps(mixed)).toEqual(["r", "w", "f", "m", "part"]);
    const taps = floatTaps(mixed);
    const values = await runner.evaluate(
      serialise(withOutputs(mixed, taps, { only: true })),
      { x: floats([2, 2], [1, 2, 3, 4], "float16") },
      taps,
      new AbortController().signal,
    );
    const forms = formsOf(mixed, values);
    expect(forms.get("w")).toEqual({ dtype: "float16", shape: [2, 2] });
    expect(forms.get("part")).toEqual({ dtype: "float32", shape: [1, 2] });
    expect(forms.get("mask")).toEqual({ dtype: "bool" });
  });
});
