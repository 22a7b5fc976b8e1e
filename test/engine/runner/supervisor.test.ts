import { readdir } from "node:fs/promises";
import path from "node:path";
import { TensorProto_DataType } from "onnx-buf";
import { describe, expect, it } from "vitest";
import type { TensorValue } from "../../../engine/core/tensorValue.js";
import { serialise } from "../../../engine/onnx/model.js";
import type { DType } from "../../../engine/protocol/tensor.js";
import { floats, smallModel } from "../../support/onnxModel.js";
import { failure, minusX, neg, never, one, runnerHarness, x } from "./runnerHarness.js";

const harness = runnerHarness();

describe("an evaluation", () => {
  it("gives the outputs, says what ran it, and keeps the child warm", async () => {
    const runner = harness.start();
    expect(runner.pid).toBeUndefined();
    expect(runner.name).toBe("onnxruntime-node 1.30.0");
    expect(runner.provider).toBe("cpu");
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
    const { pid } = runner;
    expect(pid).toBeGreaterThan(0);
    // The same model again, another one, and the first once more.
    expect(await runner.evaluate(neg, { x: minusX }, ["y"], never)).toEqual({ y: x });
    expect(await runner.evaluate(one("Abs"), { x }, ["y"], never)).toEqual({
      y: floats([2], [1, 2]),
    });
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
    expect(runner.pid).toBe(pid);
  });

  it("keeps every bit of every element type", async () => {
    const runner = harness.start();
    const bytes: [DType, number[], ArrayBuffer][] = [
      ["float64", [1], Float64Array.of(0.1).buffer],
      ["float32", [4], Uint32Array.of(0x7fc12345, 0x80000000, 0xff800000, 1).buffer],
      ["float16", [2], Uint16Array.of(0x3c01, 0x8000).buffer],
      ["bfloat16", [3], Uint16Array.of(0x3f81, 0x8000, 0x7f80).buffer],
      ["int64", [2], BigInt64Array.of(-1n, 2n ** 62n + 1n).buffer],
      ["uint64", [1], BigUint64Array.of(2n ** 64n - 1n).buffer],
      ["int32", [], Int32Array.of(-7).buffer],
      ["uint32", [1, 1], Uint32Array.of(2 ** 32 - 1).buffer],
      ["int16", [1], Int16Array.of(-300).buffer],
      ["uint16", [1], Uint16Array.of(65535).buffer],
      ["int8", [2], Int8Array.of(-1, 5).buffer],
      ["uint8", [2], Uint8Array.of(255, 5).buffer],
      ["bool", [3], Uint8Array.of(1, 0, 1).buffer],
      ["float32", [0, 3], new ArrayBuffer(0)],
    ];
    for (const [dtype, shape, buffer] of bytes) {
      const value: TensorValue = { dtype, shape, bytes: new Uint8Array(buffer) };
      const model = smallModel({
        inputs: { x: [dtype, shape] },
        nodes: [{ op: "Identity", in: ["x"], out: ["y"] }],
        outputs: ["y"],
      });
      const { y } = await runner.evaluate(serialise(model), { x: value }, ["y"], never);
      expect([y?.dtype, y?.shape], dtype).toEqual([dtype, shape]);
      expect(Buffer.from(y?.bytes ?? []), dtype).toEqual(Buffer.from(value.bytes));
    }
  });

  it("hands over bfloat16 that the model makes inside, beside other types", async () => {
    const to = (type: TensorProto_DataType) => ({ to: BigInt(type) });
    const model = smallModel({
      inputs: { x: ["float32", [2]] },
      initializers: { w: floats([1], [1.5], "bfloat16") },
      nodes: [
        { op: "Cast", in: ["x"], out: ["narrow"], attributes: to(TensorProto_DataType.BFLOAT16) },
        { op: "Cast", in: ["narrow"], out: ["wide"], attributes: to(TensorProto_DataType.FLOAT) },
        { op: "Neg", in: ["wide"], out: ["y"] },
      ],
      outputs: ["narrow", "w", "y"],
    });
    const values = await harness
      .start()
      .evaluate(serialise(model), { x: floats([2], [1.0001, 3]) }, ["narrow", "w", "y"], never);
    expect(values).toEqual({
      narrow: floats([2], [1, 3], "bfloat16"),
      w: floats([1], [1.5], "bfloat16"),
      y: floats([2], [-1, -3]),
    });
  });

  it("gives only the outputs that were asked for", async () => {
    const model = smallModel({
      inputs: { x: ["float32", [2]] },
      nodes: [
        { op: "Neg", in: ["x"], out: ["a"] },
        { op: "Abs", in: ["a"], out: ["b"] },
      ],
      outputs: ["a", "b"],
    });
    expect(
      Object.keys(await harness.start().evaluate(serialise(model), { x }, ["b"], never)),
    ).toEqual(["b"]);
  });

  it("waits for the one before it", async () => {
    const runner = harness.start();
    const order: number[] = [];
    const results = await Promise.all(
      [1, 2, 3, 4].map(async (n) => {
        const value = await runner.evaluate(neg, { x: floats([2], [n, n]) }, ["y"], never);
        order.push(n);
        return value["y"];
      }),
    );
    expect(order).toEqual([1, 2, 3, 4]);
    expect(results).toEqual([1, 2, 3, 4].map((n) => floats([2], [-n, -n])));
  });

  it("leaves no file behind, and no folder after the end", async () => {
    const runner = harness.start();
    await runner.evaluate(neg, { x }, ["y"], never);
    const [own] = await readdir(harness.tempRoot);
    expect(await readdir(path.join(harness.tempRoot, own as string))).toEqual([]);
    await failure(runner.evaluate(one("NoSuchOp"), { x }, ["y"], never));
    expect(await readdir(path.join(harness.tempRoot, own as string))).toEqual([]);
    runner.dispose();
    expect(await readdir(harness.tempRoot)).toEqual([]);
    await expect(runner.evaluate(neg, { x }, ["y"], never)).rejects.toThrow("disposed");
  });

  it("keeps as many sessions as it may, and makes the others anew", async () => {
    const runner = harness.start();
    const models = Array.from({ length: 35 }, (_, i) => one("Neg", { name: `n${i}` }));
    for (const model of [...models, ...models.slice(0, 3)]) {
      expect(await runner.evaluate(model, { x }, ["y"], never)).toEqual({ y: minusX });
    }
  });

  it("computes the same with and without graph optimisation, and with one thread", async () => {
    const options = [{ graphOptimizationLevel: "all" as const }, { intraOpNumThreads: 1 }, {}];
    const values = await Promise.all(
      options.map((more) => harness.start(more).evaluate(one("Tanh"), { x }, ["y"], never)),
    );
    expect(values[1]).toEqual(values[0]);
    expect(values[2]).toEqual(values[0]);
  });
});

describe("what ONNX Runtime refuses", () => {
  const cases: [
    string,
    Uint8Array,
    Record<string, TensorValue>,
    string[],
    string,
    RegExp,
    string?,
  ][] = [
    [
      "an op that nobody knows",
      one("NoSuchOp"),
      { x },
      ["y"],
      "operator-missing",
      /no implementation of NoSuchOp/,
      "NoSuchOp",
    ],
    [
      "an op of an unknown domain",
      one("Thing", { domain: "hstu_parity.unsupported" }),
      { x },
      ["y"],
      "operator-missing",
      /no implementation of Thing/,
      "Thing",
    ],
    [
      "a type that an op has no kernel for",
      serialise(
        smallModel({
          inputs: { x: ["float64", [2]] },
          nodes: [{ op: "Erf", in: ["x"], out: ["y"], name: "the node" }],
          outputs: ["y"],
        }),
      ),
      { x: floats([2], [1, 2], "float64") },
      ["y"],
      "operator-missing",
      /no implementation of Erf \(node "the node"\)/,
      "Erf",
    ],
    [
      "what is not ONNX",
      Buffer.from("hello"),
      { x },
      ["y"],
      "model-refused",
      /ONNX Runtime refuses the model/,
    ],
    [
      "half a model",
      neg.subarray(0, neg.length / 2),
      { x },
      ["y"],
      "model-refused",
      /ONNX Runtime refuses the model/,
    ],
    [
      "an attribute that is no such",
      one("Neg", { attributes: { nonsense: 1n } }),
      { x },
      ["y"],
      "model-refused",
      /nonsense/,
    ],
    ["an output that is not there", neg, { x }, ["z"], "model-refused", /no output "z"/],
    ["a missing input", neg, {}, ["y"], "bad-feeds", /"x" is missing/],
    ["an input too many", neg, { x, q: x }, ["y"], "bad-feeds", /no input "q"/],
    [
      "a wrong size",
      neg,
      { x: floats([3], [1, 2, 3]) },
      ["y"],
      "bad-feeds",
      /"x" takes float32 \[2\], not float32 \[3\]/,
    ],
    [
      "a wrong rank",
      neg,
      { x: floats([2, 1], [1, 2]) },
      ["y"],
      "bad-feeds",
      /not float32 \[2, 1\]/,
    ],
    [
      "a wrong type",
      neg,
      { x: floats([2], [1, 2], "float64") },
      ["y"],
      "bad-feeds",
      /not float64 \[2\]/,
    ],
    [
      "shapes that do not fit when it runs",
      serialise(
        smallModel({
          inputs: { x: ["float32", ["n"]], z: ["float32", ["m"]] },
          nodes: [{ op: "Add", in: ["x", "z"], out: ["y"], name: "the node" }],
          outputs: ["y"],
        }),
      ),
      { x, z: floats([3], [1, 2, 3]) },
      ["y"],
      "model-refused",
      /Add "the node" cannot be computed on these inputs/,
      "Add",
    ],
  ];
  it.each(cases)(
    "is told in the user's terms: %s",
    async (_, model, feeds, outputs, code, message, op) => {
      const runner = harness.start();
      const error = await failure(runner.evaluate(model, feeds, outputs, never));
      expect(error.code).toBe(code);
      expect(error.message).toMatch(message);
      expect(error.message).not.toContain(harness.tempRoot);
      expect(error.op).toBe(op);
      // It costs nothing but this evaluation.
      const { pid } = runner;
      expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
      expect(runner.pid).toBe(pid);
    },
  );

  it("does not take another provider for the one that was asked for", async () => {
    const error = await failure(
      harness.start({ provider: "tensorrt" }).evaluate(neg, { x }, ["y"], never),
    );
    expect(error.code).toBe("provider-unavailable");
    expect(error.message).toContain("tensorrt");
    const auto = harness.start({ provider: "auto" });
    expect(auto.provider).toBe("cpu");
    expect(await auto.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
  });
});
