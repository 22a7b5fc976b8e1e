import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { toFloat64 } from "../../engine/core/dtypes.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { CaptureIndex } from "../../engine/protocol/capture.js";
import { UserError } from "../../engine/protocol/userError.js";
import { readCapturedCalls, type CapturedCall } from "../../engine/run/capturedCalls.js";
import { noise, tensor, vector } from "../core/tensors.js";
import { writeCapture, type MadeCall } from "./handMadeCapture.js";

const x = tensor("float32", [4, 8], noise(32, 1));
const w = tensor("float32", [4, 8], noise(32, 2));
let home: string;
let captures = 0;

beforeAll(async () => {
  home = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-calls-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

async function written(...calls: MadeCall[]): Promise<{ index: CaptureIndex; folder: string }> {
  const folder = path.join(home, `capture-${captures++}`);
  return { folder, index: await writeCapture(folder, home, calls) };
}

async function read(...calls: MadeCall[]): Promise<CapturedCall[]> {
  const { index, folder } = await written(...calls);
  return readCapturedCalls(index, folder);
}

const numbersOf = (value: TensorValue | undefined) => value && [...toFloat64(value)];
const model = (more: Partial<MadeCall> = {}): MadeCall => ({
  label: "Model",
  inputs: { x },
  parameters: { weight: w },
  ...more,
});

describe("the calls of a capture", () => {
  it("have their inputs and parameters by value, and what the choice needs", async () => {
    const { index, folder } = await written(model({ entry: { object: 3 } }));
    const [call, ...others] = await readCapturedCalls(index, folder);
    expect(others).toEqual([]);
    expect(call).toMatchObject({
      id: "Model",
      label: "Model",
      framework: "torch",
      object: "torch 3",
      order: 0,
      isJagged: false,
      dataOps: 3,
      inputs: [{ name: "x", value: { dtype: "float32", shape: [4, 8] } }],
      parameters: [{ name: "weight", tensor: "1" }],
      file: path.join(folder, "call-0.trace.json"),
    });
    expect(numbersOf(call?.inputs[0]?.value)).toEqual(numbersOf(x));
    expect(numbersOf(call?.parameters[0]?.value)).toEqual(numbersOf(w));
    expect([...(call?.feeds.keys() ?? [])]).toEqual(["x"]);
  });

  it("come in the order in which they were made, not in which they were written", async () => {
    const calls = await read(
      model({ label: "Second", entry: { order: 7 } }),
      model({ label: "First", entry: { order: 2 } }),
    );
    expect(calls.map(({ id, order }) => [id, order])).toEqual([
      ["First", 2],
      ["Second", 7],
    ]);
  });

  it("of one label have names of their own, in their order", async () => {
    const calls = await read(model(), model({ label: "Port" }), model(), model());
    expect(calls.map(({ id }) => id)).toEqual(["Model", "Port", "Model.2", "Model.3"]);
    const numbered = await read(model(), model(), model({ label: "Model.2" }), model());
    expect(new Set(numbered.map(({ id }) => id)).size).toBe(4);
  });

  it("of one object say so; of one number in another framework, or without one, do not", async () => {
    const calls = await read(
      model({ entry: { object: 1 } }),
      model({ entry: { object: 1 } }),
      model({ entry: { object: 1, framework: "tripy" } }),
      model(),
      model(),
    );
    const [a, b, c, d, e] = calls.map(({ object }) => object);
    expect(a).toBe(b);
    expect(new Set([a, c, d, e]).size).toBe(4);
  });

  it("are jagged where a tensor of theirs is", async () => {
    const jagged = await read(model({ layout: { kind: "jagged", offsets: [0, 1, 4] } }));
    expect(jagged.map(({ isJagged }) => isJagged)).toEqual([true]);
  });

  it("that compute no float tensor of two axes and more are left out, and take no name", async () => {
    const flat = { x: vector([1, 2, 3]) };
    const calls = await read(
      { label: "Model", inputs: flat },
      { label: "Model", inputs: {}, constants: { c: x } },
      model(),
    );
    expect(calls.map(({ id, order }) => [id, order])).toEqual([["Model", 2]]);
  });

  it("lack the inputs and parameters whose values were not kept", async () => {
    const [call] = await read(
      model({
        inputs: { x, y: w },
        parameters: { weight: w, bias: x },
        unrecorded: ["y", "bias"],
      }),
    );
    expect(call?.inputs.map(({ name }) => name)).toEqual(["x"]);
    expect(call?.parameters.map(({ name }) => name)).toEqual(["weight"]);
  });

  it("whose trace is gone, or cut off, are a mistake that names the file", async () => {
    const { index, folder } = await written(model());
    const file = path.join(folder, "call-0.trace.json");
    await writeFile(file, '{"formatVersion": 1, "label": "Mo');
    const error = await readCapturedCalls(index, folder).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(UserError);
    expect((error as UserError).message).toContain("call-0.trace.json");
    await rm(file);
    await expect(readCapturedCalls(index, folder)).rejects.toThrow(/no trace .*call-0/);
  });
});

describe("a Tripy program", () => {
  const tripy = { framework: "tripy" as const, kind: "compile" as const };
  const batch = (seed: number) => ({ x: tensor("float32", [4, 8], noise(32, seed)) });

  it("is one call for each execution on other inputs, of one object", async () => {
    const executions = [batch(1), batch(2), batch(1)];
    const calls = await read(model({ label: "port", entry: { ...tripy, object: 0 }, executions }));
    expect(calls.map(({ id }) => id)).toEqual(["port", "port.2"]);
    expect(new Set(calls.map(({ object }) => object)).size).toBe(1);
    for (const [i, call] of calls.entries()) {
      expect(numbersOf(call.inputs[0]?.value)).toEqual(numbersOf(executions[i]?.x));
      expect(call.feeds.get("x")).toBe(call.inputs[0]?.value);
    }
  });

  it("is looked at in its first eight different executions", async () => {
    const executions = Array.from({ length: 20 }, (_, i) => batch(1 + Math.floor(i / 2)));
    const calls = await read(model({ label: "port", entry: tripy, executions }));
    expect(calls).toHaveLength(8);
  });

  it("that was not executed has what its trace holds", async () => {
    const calls = await read(model({ entry: tripy }));
    expect(calls.map(({ inputs }) => inputs.map(({ name }) => name))).toEqual([["x"]]);
  });

  it("without parameters has those constants for parameters that say something", async () => {
    const [call] = await read({
      label: "port",
      inputs: { x },
      entry: tripy,
      constants: {
        weight: w,
        zeros: tensor("float32", [8], Array<number>(8).fill(0)),
        eps: tensor("float32", [], [1e-5]),
        axes: vector([0, 1], "int32"),
      },
    });
    expect(call?.parameters.map(({ name }) => name)).toEqual(["/forward.weight"]);
    expect(call?.dataOps).toBe(3);
  });

  it("with parameters keeps its constants as constants", async () => {
    const [call] = await read(model({ entry: tripy, constants: { table: x } }));
    expect(call?.parameters.map(({ name }) => name)).toEqual(["weight"]);
  });
});
