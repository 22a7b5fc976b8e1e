import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TraceFile } from "../../../engine/protocol/trace.js";
import { UserError } from "../../../engine/protocol/userError.js";
import { readSafetensors, writeSafetensors } from "../../../engine/trace/safetensors.js";
import { executeTripyTrace } from "../../../engine/tripy/execute.js";
import { inProcessExecutor } from "./inProcessExecutor.js";
import { EMPTY_TRACE, encode, values } from "./runTrace.js";

/** out0 = x · w and out1 = w, where `w` is a constant. */
const trace: TraceFile = {
  ...EMPTY_TRACE,
  sources: [{ file: "port.py", sha256: "" }],
  frames: [{ source: 0, line: 7, function: "forward" }],
  tensorsFile: "program.safetensors",
  tensors: [
    { id: 0, names: ["x"], dtype: "float32", shape: [2] },
    { id: 1, names: ["w"], dtype: "float32", shape: [2], key: "weights" },
    { id: 2, names: ["y"], dtype: "float32", shape: [2], key: "recorded" },
  ],
  ops: [
    { id: 0, kind: "Constant", inputs: [], outputs: [1], attributes: {}, stack: [], instance: "" },
    { id: 1, kind: "Mul", inputs: [0, 1], outputs: [2], attributes: {}, stack: [0], instance: "" },
  ],
  inputs: [{ name: "arg", tensor: 0 }],
  outputs: [
    { name: "out0", tensor: 2 },
    { name: "out1", tensor: 1 },
  ],
};

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "tripy-execute-"));
  await writeSafetensors(path.join(folder, "program.safetensors"), {
    weights: encode(values("float32", [2], [3, -1])),
    recorded: encode(values("float32", [2], [99, 99])),
  });
  await writeSafetensors(path.join(folder, "in.safetensors"), {
    arg: encode(values("float32", [2], [0.5, 4])),
  });
});

afterAll(() => rm(folder, { recursive: true, force: true }));

describe("executing a Tripy trace file", () => {
  it("writes the outputs by port name, computed and not taken from what the trace recorded", async () => {
    await execute(trace, "in.safetensors");
    const outputs = await readSafetensors(path.join(folder, "out.safetensors"));
    expect(Object.fromEntries(outputs)).toEqual({
      out0: encode(values("float32", [2], [1.5, -4])),
      out1: encode(values("float32", [2], [3, -1])),
    });
  });

  it("says which line has an op that only TensorRT can run", async () => {
    const plugin = {
      ...trace,
      ops: trace.ops.map((op) => (op.id === 1 ? { ...op, kind: "Plugin" } : op)),
    };
    const failure = await execute(plugin, "in.safetensors").catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UserError);
    expect((failure as UserError).problems[0]).toMatchObject({
      code: "tripy-op-unsupported",
      site: { file: "port.py", line: 7 },
    });
  });

  it("says which input is missing", async () => {
    await expect(execute(trace, "program.safetensors")).rejects.toThrow('the input "arg"');
  });

  it("does nothing once it is cancelled", async () => {
    const reason = new Error("cancelled");
    await expect(execute(trace, "in.safetensors", AbortSignal.abort(reason))).rejects.toBe(reason);
  });
});

async function execute(
  file: TraceFile,
  inputs: string,
  signal = new AbortController().signal,
): Promise<void> {
  const at = (name: string): string => path.join(folder, name);
  await writeFile(at("program.trace.json"), JSON.stringify(file));
  const executor = inProcessExecutor();
  await executeTripyTrace(
    at("program.trace.json"),
    at(inputs),
    at("out.safetensors"),
    executor,
    signal,
  );
}
