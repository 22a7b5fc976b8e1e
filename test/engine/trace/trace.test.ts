import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TensorValue } from "../../../engine/core/tensorValue.js";
import type { TraceFile } from "../../../engine/protocol/trace.js";
import { UserError } from "../../../engine/protocol/userError.js";
import { openTrace } from "../../../engine/trace/traceReader.js";
import { writeSafetensors } from "../../../engine/trace/safetensors.js";
import { writeTrace } from "../../../engine/trace/traceWriter.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-trace-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const trace: TraceFile = {
  formatVersion: 1,
  label: "dense",
  framework: "torch",
  ranOn: {
    executor: "torch 2",
    provider: "cpu",
    device: "cpu",
    precision: "float32",
    versions: { torch: "2.13.0" },
    standIns: [],
    emulated: ["cuda on cpu"],
  },
  sources: [{ file: "../model.py", sha256: "ab" }],
  frames: [
    { source: 0, line: 3, function: "__init__" },
    { source: 0, line: 9, column: 5, endColumn: 20, function: "forward" },
  ],
  ops: [
    {
      id: 7,
      kind: "torch.nn.functional.silu",
      inputs: [1, null],
      outputs: [2],
      attributes: { inplace: false, nested: { list: [1, "two"] } },
      stack: [1],
      instance: "layers.0",
      call: 1,
    },
  ],
  tensors: [
    {
      id: 1,
      names: ["x"],
      dtype: "float32",
      shape: [-1, 2],
      layout: { kind: "jagged", offsets: [0, 1, 2] },
    },
    {
      id: 2,
      names: ["layers.0/forward.y", "y"],
      dtype: "float32",
      shape: [2, 2],
      layout: { kind: "padded", lengths: [1], batchAxis: 0, axes: [1], pad: "-Infinity" },
      statistics: { min: "-0", max: 1, mean: "NaN", rms: 1, nan: 0, inf: 0, zeros: 1 },
      nonDeterminism: 1e-8,
    },
    { id: 3, names: [], dtype: "int64", shape: [] },
  ],
  parameters: [{ name: "weight", tensor: 1, declaredAt: 0, buffer: true }],
  inputs: [{ name: "x", tensor: 1 }],
  outputs: [{ name: "y", tensor: 2 }],
};
const value: TensorValue = {
  dtype: "float32",
  shape: [2, 2],
  bytes: new Uint8Array(Float32Array.of(1, 2, 3, NaN).buffer),
};

async function refusal(run: Promise<unknown>): Promise<UserError> {
  const error: unknown = await run.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  return error as UserError;
}

async function traceOnDisk(content: unknown): Promise<string> {
  const file = path.join(folder, "bad.trace.json");
  await writeFile(file, typeof content === "string" ? content : JSON.stringify(content));
  return file;
}

describe("a trace on disk", () => {
  it("comes back as it was written, with its values under keys", async () => {
    const file = path.join(folder, "dense.trace.json");
    const written = await writeTrace(
      file,
      trace,
      new Map([
        [1, value],
        [2, value],
      ]),
    );
    const opened = await openTrace(file);
    try {
      expect(opened.trace).toEqual(written);
      expect(opened.trace.tensorsFile).toBe("dense.safetensors");
      expect(opened.trace.ops).toEqual(trace.ops);
      // The type and shape are those of the value, also where the recorder left a size open.
      expect(opened.trace.tensors[0]?.shape).toEqual([2, 2]);
      expect(await opened.read(2)).toEqual(value);
      const ref = opened.ref(2);
      expect(ref).toMatchObject({ file: "dense.safetensors", dtype: "float32", byteLength: 16 });
      const bytes = await readFile(path.join(folder, "dense.safetensors"));
      expect(bytes.subarray(ref?.byteOffset, (ref?.byteOffset ?? 0) + 16)).toEqual(
        Buffer.from(value.bytes),
      );
      expect(opened.ref(3)).toBeUndefined();
      expect((await refusal(opened.read(3))).message).toContain("no value for tensor 3");
    } finally {
      await opened.close();
    }
  });

  it("needs no safetensors file when no value was recorded", async () => {
    const file = path.join(folder, "plain.trace.json");
    await writeTrace(
      file,
      {
        ...trace,
        tensors: trace.tensors.map((t) => ({ ...t, key: "old" })),
        tensorsFile: "gone.safetensors",
      },
      new Map(),
    );
    const opened = await openTrace(file);
    expect(opened.trace.tensorsFile).toBeUndefined();
    expect(opened.trace.tensors.some((t) => t.key !== undefined)).toBe(false);
    await opened.close();
  });

  it("stores a key once that several tensors share, and never two values under one key", async () => {
    const file = path.join(folder, "shared.trace.json");
    const keyed = (key: string) => trace.tensors.map((t) => ({ ...t, key }));
    const other = { ...value, bytes: new Uint8Array(16) };
    await writeTrace(
      file,
      { ...trace, tensors: keyed("w") },
      new Map([
        [1, value],
        [2, value],
        [3, other],
      ]),
    );
    const opened = await openTrace(file);
    expect(opened.trace.tensors.map((t) => t.key)).toEqual(["w", "w", "w#1"]);
    expect((await opened.read(3)).bytes).toEqual(other.bytes);
    await opened.close();
  });

  const bad: [string, unknown, string | RegExp][] = [
    ["what is not JSON", '{"formatVersion": 1,', /is not JSON/],
    ["a list", [], "the file: expected an object, found []"],
    [
      "another format version",
      { ...trace, formatVersion: 2 },
      "formatVersion: expected 1, found 2",
    ],
    ["a missing list", { ...trace, ops: undefined }, "ops: expected a value, found nothing"],
    [
      "a text for a number",
      patched("ops", { inputs: ["x"] }),
      'ops[0].inputs[0]: expected an integer from 0, found "x"',
    ],
    ["a fraction for an index", patched("ops", { stack: [0.5] }), "ops[0].stack[0]"],
    ["an unknown dtype", patched("tensors", { dtype: "float8" }), "tensors[0].dtype"],
    [
      "an unknown layout",
      patched("tensors", { layout: { kind: "ragged" } }),
      "tensors[0].layout.kind",
    ],
    [
      "a bad wire number",
      patched("tensors", { nonDeterminism: "inf" }),
      "tensors[0].nonDeterminism",
    ],
    ["a line 0", patched("frames", { line: 0 }), "frames[0].line"],
    [
      "a frame without a source",
      patched("frames", { source: 1 }),
      "frames[0].source: expected an index below 1, found 1",
    ],
    [
      "a stack without a frame",
      patched("ops", { stack: [2] }),
      "ops[0].stack[0]: expected an index below 2",
    ],
    [
      "an op that reads nothing known",
      patched("ops", { inputs: [99] }),
      "ops[0].inputs[0]: expected the id of a tensor, found 99",
    ],
    ["an op that makes nothing known", patched("ops", { outputs: [99] }), "ops[0].outputs[0]"],
    ["two tensors with one id", patched("tensors", { id: 2 }), "tensors[1].id"],
    ["a parameter that is nowhere", patched("parameters", { tensor: 99 }), "parameters[0].tensor"],
    [
      "a declaration without a frame",
      patched("parameters", { declaredAt: 9 }),
      "parameters[0].declaredAt",
    ],
    ["an input that is nowhere", patched("inputs", { tensor: 99 }), "inputs[0].tensor"],
    ["an output that is nowhere", patched("outputs", { tensor: 99 }), "outputs[0].tensor"],
    ["a key without a file", patched("tensors", { key: "t1" }), "tensorsFile: expected the file"],
  ];
  it.each(bad)("refuses %s, naming file and field", async (_, content, message) => {
    const file = await traceOnDisk(content);
    const { message: said } = await refusal(openTrace(file));
    expect(said).toContain(file);
    if (typeof message === "string") expect(said).toContain(message);
    else expect(said).toMatch(message);
  });

  it("says that it is missing", async () => {
    const file = path.join(folder, "missing.trace.json");
    expect((await refusal(openTrace(file))).message).toBe(`there is no trace ${file}`);
  });

  it("says when its values are missing, truncated or another recording's", async () => {
    const file = path.join(folder, "torn.trace.json");
    const tensors = path.join(folder, "torn.safetensors");
    await writeTrace(file, trace, new Map([[2, value]]));
    await writeFile(tensors, (await readFile(tensors)).subarray(0, -1));
    expect((await refusal(openTrace(file))).message).toMatch(/torn\.safetensors.*truncated/);
    await writeSafetensors(tensors, { t2: { ...value, shape: [4] } });
    expect((await refusal(openTrace(file))).message).toMatch(/float32 \[2, 2\].*float32 \[4\]/);
    await writeSafetensors(tensors, { t2: { ...value, dtype: "int32" } });
    expect((await refusal(openTrace(file))).message).toMatch(/float32 \[2, 2\].*int32 \[2, 2\]/);
    await writeSafetensors(tensors, { other: value });
    expect((await refusal(openTrace(file))).message).toMatch(
      /names the tensor "t2", which .* does not have/,
    );
    await rm(tensors);
    expect((await refusal(openTrace(file))).message).toBe(`there is no file ${tensors}`);
  });
});

function patched(
  list: "ops" | "tensors" | "frames" | "parameters" | "inputs" | "outputs",
  change: object,
): unknown {
  const [first, ...rest] = trace[list] as object[];
  return { ...trace, [list]: [{ ...first, ...change }, ...rest] };
}
