import { beforeAll, describe, expect, it } from "vitest";
import { toFloat64 } from "../../engine/core/dtypes.js";
import type { ObservedOp, ObservedTensor } from "../../engine/core/observation.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { ObservedImplementation } from "../../engine/run/observe.js";
import type { Evaluation, Program } from "../../engine/run/program.js";
import { withStepsOf } from "../../engine/run/writtenOut.js";
import { RunnerFailure } from "../../engine/runner/executor.js";
import { noise, tensor } from "../core/tensors.js";

const [length, width] = [3, 4];
const shape = [1, length, width];
const random = (seed: number): TensorValue => tensor("float32", shape, noise(length * width, seed));
const values = { q: random(1), k: random(2), v: random(3) };

/** Row by row: softmax(q·kᵀ / √d)·v, without any of the product's own code. */
function attention(q: TensorValue, k: TensorValue, v: TensorValue): TensorValue {
  const [a, b, c] = [q, k, v].map(toFloat64) as [Float64Array, Float64Array, Float64Array];
  const result: number[] = [];
  for (let i = 0; i < length; i++) {
    const powers = Array.from({ length }, (_, j) => {
      let score = 0;
      for (let x = 0; x < width; x++) score += a[i * width + x]! * b[j * width + x]!;
      return Math.exp(score / Math.sqrt(width));
    });
    const total = powers.reduce((sum, power) => sum + power, 0);
    for (let x = 0; x < width; x++) {
      result.push(powers.reduce((sum, power, j) => sum + (power / total) * c[j * width + x]!, 0));
    }
  }
  return tensor("float32", shape, result);
}

const op = (id: string, kind: string, inputs: string[], roles: string[]): ObservedOp => ({
  id,
  kind,
  sourceOp: id,
  inputs,
  outputs: [id],
  frames: [],
  instance: "",
  attributes: { operands: roles },
});
const fused = op(
  "o",
  "torch.nn.functional.scaled_dot_product_attention",
  ["q", "k", "v"],
  ["query", "key", "value"],
);
const twice = op("y", "torch.Tensor.mul", ["o"], ["self"]);

/** y = 2 · attention(q, k, v). It knows nothing of steps. */
const program: Program = {
  isDouble: () => true,
  evaluate: ({ outputs, replaced, corrected }: Evaluation) => {
    const plus = (value: TensorValue, key: string): TensorValue => {
      const more = corrected?.get(key);
      const own = toFloat64(value);
      return more
        ? tensor(
            "float32",
            shape,
            toFloat64(more).map((x, i) => x + own[i]!),
          )
        : value;
    };
    const read = (key: "q" | "k" | "v"): TensorValue =>
      plus(replaced?.get(key) ?? values[key], key);
    const o = attention(read("q"), read("k"), read("v"));
    const seen = toFloat64(plus(replaced?.get("o") ?? o, "o"));
    const made: Record<string, TensorValue> = {
      ...values,
      o,
      y: tensor(
        "float32",
        shape,
        seen.map((x) => 2 * x),
      ),
    };
    for (const key of outputs) {
      if (!made[key]) throw new RunnerFailure("model-refused", `no ${key}`, "");
    }
    return Promise.resolve(new Map(outputs.map((key) => [key, made[key]!])));
  },
};

describe("a candidate whose attention is written out", () => {
  let written: ObservedImplementation;
  beforeAll(async () => {
    const made = await program.evaluate({ outputs: ["o", "y"] }, new AbortController().signal);
    const all = { ...values, o: made.get("o")!, y: made.get("y")! };
    const candidate = {
      id: "port",
      observation: {
        ops: [fused, twice],
        tensors: new Map(
          Object.entries(all).map(([key, value]): [string, ObservedTensor] => [
            key,
            { key, names: [], dtype: "float32", shape, layout: { kind: "dense" }, value },
          ]),
        ),
        parameters: [],
        inputs: [],
        outputs: [],
      },
      program,
    } as unknown as ObservedImplementation;
    written = withStepsOf(candidate, new Set([fused, twice]))!;
  });
  const evaluate = async (request: Evaluation): Promise<Record<string, number[]>> => {
    const made = await written.program!.evaluate(request, new AbortController().signal);
    return Object.fromEntries([...made].map(([key, value]) => [key, [...toFloat64(value)]]));
  };
  const near = (own: readonly number[] | undefined, wanted: Iterable<number>): void => {
    const all = [...wanted];
    expect(own?.length).toBe(all.length);
    for (const [i, x] of all.entries()) expect(own?.[i]).toBeCloseTo(x, 5);
  };
  const identity = tensor("float32", [1, 3, 3], [1, 0, 0, 0, 1, 0, 0, 0, 1]);

  it("has its steps as ops, each with its value", () => {
    const steps = written.observation.ops.filter(({ sourceOp }) => sourceOp === "o");
    expect(steps.map(({ outputs }) => outputs[0])).toEqual([
      "o:scores",
      "o:scaled scores",
      "o:weights",
      "o",
    ]);
    expect(steps.at(-1)?.inputs).toEqual(["o:weights", "v"]);
  });

  it("makes steps of other operands", async () => {
    const made = await evaluate({ outputs: ["o:scores"], replaced: new Map([["q", values.k]]) });
    const k = toFloat64(values.k);
    near(made["o:scores"]!.slice(0, 1), [k.slice(0, width).reduce((sum, x) => sum + x * x, 0)]);
  });

  it("makes the result, and what reads it, of other steps; the step itself is computed as before", async () => {
    const plain = await evaluate({ outputs: ["o:weights"] });
    const made = await evaluate({
      outputs: ["o:weights", "o", "y"],
      replaced: new Map([["o:weights", identity]]),
    });
    near(made["o"], toFloat64(values.v));
    near(
      made["y"],
      toFloat64(values.v).map((x) => 2 * x),
    );
    near(made["o:weights"], plain["o:weights"]!);
  });

  it("adds a correction to a step and one to the result", async () => {
    const weights = (await evaluate({ outputs: ["o:weights"] }))["o:weights"]!;
    const missing = toFloat64(identity).map((x, i) => x - weights[i]!);
    const ones = tensor(
      "float32",
      shape,
      Array.from({ length: length * width }, () => 1),
    );
    const made = await evaluate({
      outputs: ["y"],
      corrected: new Map([
        ["o:weights", tensor("float32", [1, 3, 3], missing)],
        ["o", ones],
      ]),
    });
    near(
      made["y"],
      toFloat64(values.v).map((x) => 2 * (x + 1)),
    );
  });

  it("feeds single operands", async () => {
    const made = await evaluate({
      outputs: ["o"],
      operands: [
        { reader: "o", position: 0, value: identity },
        { reader: "o", position: 1, value: values.q },
      ],
    });
    near(made["o"], toFloat64(values.q));
  });

  it("runs the op itself where nothing is asked of its steps", async () => {
    const made = await evaluate({ outputs: ["o"], replaced: new Map([["v", values.q]]) });
    near(made["o"], toFloat64(attention(values.q, values.k, values.q)));
  });
});
