import { describe, expect, it } from "vitest";
import type { TensorValue } from "../../../engine/core/tensorValue.js";
import type { TraceFile, TraceOp } from "../../../engine/protocol/trace.js";
import { lowerTripyTrace } from "../../../engine/tripy/lower.js";
import { runnablePart, type RunnablePart } from "../../../engine/tripy/runnablePart.js";
import { EMPTY_TRACE, run, values, type Values } from "./runTrace.js";

/** double = x + x; ours = -double; plugin = Plugin(double); after = exp(plugin); both = ours + after */
const trace: TraceFile = {
  ...EMPTY_TRACE,
  sources: [{ file: "port.py", sha256: "" }],
  frames: [{ source: 0, line: 31, function: "forward" }],
  tensors: ["x", "double", "ours", "plugin", "after", "both"].map((name, id) => ({
    id,
    names: [name],
    dtype: "float32",
    shape: [2],
  })),
  ops: [
    op(0, "Add", [0, 0], [1]),
    op(1, "Neg", [1], [2]),
    op(2, "Plugin", [1], [3]),
    op(3, "Exp", [3], [4]),
    op(4, "Add", [2, 4], [5]),
  ],
  inputs: [{ name: "x", tensor: 0 }],
  outputs: [
    { name: "out0", tensor: 5 },
    { name: "out1", tensor: 2 },
  ],
};
const x = values("float32", [2], [1, -3]);

describe("the part of a program that can run", () => {
  it("leaves out the op without an ONNX form and what depends on it, and names what is lost", async () => {
    const part = runnable(trace);
    expect(part.model.graph?.node.map(({ name, opType }) => [name, opType])).toEqual([
      ["op0", "Add"],
      ["op1", "Neg"],
    ]);
    expect(part.lostOutputs).toEqual(["both"]);
    expect([...part.lost].sort()).toEqual(["after", "both", "plugin"]);
    expect(await result(part, 2)).toEqual(values("float32", [2], [-2, 6]));
  });

  it("gives what the lost ops would have read where no output is left", async () => {
    const part = runnable({ ...trace, outputs: [{ name: "out0", tensor: 4 }] });
    expect(part.lostOutputs).toEqual(["after"]);
    expect(part.model.graph?.output.map(({ name }) => name)).toEqual(["double", "ours"]);
    expect(await result(part, 1)).toEqual(values("float32", [2], [2, -6]));
  });

  it("loses what a constant without a recorded value reaches", () => {
    const constant = op(2, "Constant", [], [3]);
    const part = runnable({
      ...trace,
      ops: trace.ops.map((one) => (one.id === 2 ? constant : one)),
    });
    expect([...part.lost].sort()).toEqual(["after", "both", "plugin"]);
    expect(part.lostOutputs).toEqual(["both"]);
  });

  it("is the whole model where every op can run", () => {
    const whole = lower({
      ...trace,
      ops: trace.ops.map((one) => (one.id === 2 ? op(2, "Sin", [1], [3]) : one)),
    });
    const part = runnablePart(whole);
    expect(part.model).toEqual(whole.model);
    expect(part.lost.size).toBe(0);
  });
});

function lower(program: TraceFile): ReturnType<typeof lowerTripyTrace> {
  return lowerTripyTrace(program, (): TensorValue | undefined => undefined);
}

function runnable(program: TraceFile): RunnablePart {
  return runnablePart(lower(program));
}

async function result({ model }: RunnablePart, tensor: number): Promise<Values | undefined> {
  const valueNames = lower(trace).valueNames;
  const asked = { ...trace, outputs: [{ name: "asked", tensor }] };
  const [got] = await run({ model, valueNames, unsupported: [] }, asked, { x });
  return got && { ...got, shape: [...got.shape] };
}

function op(id: number, kind: string, inputs: number[], outputs: number[]): TraceOp {
  return { id, kind, inputs, outputs, attributes: {}, stack: [0], instance: "" };
}
