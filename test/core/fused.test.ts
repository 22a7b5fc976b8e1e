import { describe, expect, it } from "vitest";
import { toFloat64 } from "../../engine/core/dtypes.js";
import { expandFused, isFused } from "../../engine/core/fused/expand.js";
import type { Observation, ObservedOp } from "../../engine/core/observation.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import { noise, tensor } from "./tensors.js";

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** One op of torch's on these operands, as a trace records it. */
function observed(
  kind: string,
  operands: Record<string, TensorValue>,
  result: TensorValue,
  attributes: Record<string, unknown> = {},
): { observation: Observation; op: ObservedOp } {
  const op: ObservedOp = {
    id: "7",
    kind,
    sourceOp: "7",
    inputs: Object.keys(operands),
    outputs: ["out"],
    frames: [{ file: "model.py", line: 3, function: "forward" }],
    instance: "",
    attributes: { ...attributes, operands: Object.keys(operands).map((key) => key.split("#")[0]) },
  };
  const values = { ...operands, out: result };
  const tensors = new Map(
    Object.entries(values).map(([key, value]) => [
      key,
      {
        key,
        names: [],
        dtype: value.dtype,
        shape: value.shape,
        layout: { kind: "dense" as const },
        value,
      },
    ]),
  );
  const observation = { ops: [op], tensors, parameters: [], inputs: [], outputs: [] };
  return { observation, op };
}

/** The steps of an op by name, and the names that its last step reads. */
function stepsOf({ observation, op }: ReturnType<typeof observed>) {
  const expanded = expandFused(observation, new Set([op]));
  if (!expanded) throw new Error("the op was not written out");
  const last = expanded.ops.at(-1) as ObservedOp;
  expect(last.outputs).toEqual(["out"]);
  expect(expanded.ops.every(({ frames }) => frames === op.frames)).toBe(true);
  const made = new Set<string>(Object.keys(Object.fromEntries(observation.tensors)));
  for (const one of expanded.ops) {
    // Every step reads what there is already.
    for (const input of one.inputs) expect(made).toContain(input);
    for (const output of one.outputs) made.add(output);
  }
  const steps = new Map(
    [...expanded.tensors].map(([key, { value }]) => [
      key.replace("out:", ""),
      [...toFloat64(value as TensorValue)],
    ]),
  );
  return { steps, reads: last.inputs.map((key) => key.replace("out:", "")) };
}

function expectNear(actual: readonly number[] | undefined, expected: readonly number[]): void {
  expect(actual?.length).toBe(expected.length);
  expected.forEach((x, i) => expect(actual?.[i]).toBeCloseTo(x, 5));
}

const rows = (values: readonly number[], width: number): number[][] =>
  Array.from({ length: values.length / width }, (_, n) => values.slice(n * width, (n + 1) * width));
const mean = (row: readonly number[]): number => row.reduce((a, b) => a + b, 0) / row.length;

describe("the steps of a fused op", () => {
  const x = noise(24, 5);
  const weight = noise(4, 6);
  const bias = noise(4, 7);
  const input = tensor("float32", [6, 4], x);
  const of4 = (values: number[]) => tensor("float32", [4], values);

  it("of layer_norm give it: mean, variance, eps, root, weight, bias", () => {
    const expected = rows(x, 4).flatMap((row) => {
      const centre = mean(row);
      const variance = mean(row.map((one) => (one - centre) ** 2));
      return row.map(
        (one, i) =>
          ((one - centre) / Math.sqrt(variance + 0.01)) * (weight[i] as number) +
          (bias[i] as number),
      );
    });
    const { steps, reads } = stepsOf(
      observed(
        "torch.nn.functional.layer_norm",
        { input, weight: of4(weight), bias: of4(bias) },
        tensor("float32", [6, 4], expected),
        { normalized_shape: [4], eps: 0.01 },
      ),
    );
    expect(reads).toEqual(["product with the weight", "bias"]);
    const made = steps.get("product with the weight")?.map((y, i) => y + (bias[i % 4] as number));
    expectNear(made, expected);
    expectNear(steps.get("mean"), rows(x, 4).map(mean));
  });

  it("of group_norm go over all positions of a group", () => {
    // [batch 1, channels 4, positions 6] in two groups.
    const grouped = rows(x, 12);
    const { steps, reads } = stepsOf(
      observed(
        "torch.nn.functional.group_norm",
        { input: tensor("float32", [1, 4, 6], x) },
        tensor("float32", [1, 4, 6], x),
        { num_groups: 2, eps: 0.5 },
      ),
    );
    expect(reads).toEqual(["quotient"]);
    const expected = grouped.flatMap((group) => {
      const centre = mean(group);
      const variance = mean(group.map((one) => (one - centre) ** 2));
      return group.map((one) => (one - centre) / Math.sqrt(variance + 0.5));
    });
    expectNear(steps.get("quotient"), expected);
  });

  it("of normalize are the norm, and what it is at least", () => {
    const { steps, reads } = stepsOf(
      observed("torch.nn.functional.normalize", { input }, input, { p: 2, dim: -1, eps: 1 }),
    );
    expect(reads).toEqual(["input", "clamped norm"]);
    const norms = rows(x, 4).map((row) => Math.sqrt(row.reduce((sum, one) => sum + one * one, 0)));
    expectNear(
      steps.get("clamped norm"),
      norms.map((norm) => Math.max(1, norm)),
    );
  });

  it("of softmax are taken along its axis", () => {
    const { steps, reads } = stepsOf(
      observed("torch.nn.functional.softmax", { input }, input, { dim: 0 }),
    );
    expect(reads).toEqual(["exponentials", "sum"]);
    const columns = [0, 1, 2, 3].map((i) => rows(x, 4).map((row) => row[i] as number));
    expectNear(
      steps.get("sum"),
      columns.map((column) =>
        column.reduce((sum, one) => sum + Math.exp(one - Math.max(...column)), 0),
      ),
    );
  });

  it.each([
    ["torch.Tensor.masked_fill", ["input", "mask"], ["input", "complement of the mask"]],
    ["torch.where", ["condition", "input", "other"], ["complement of the mask", "input", "other"]],
  ])("of %s say what is kept", (kind, roles, expected) => {
    const mask = tensor("bool", [3], [1, 0, 1]);
    const value = tensor("float32", [3], [1, 2, 3]);
    const operands = Object.fromEntries(
      roles.map((role) => [role, role === "mask" || role === "condition" ? mask : value]),
    );
    const { steps, reads } = stepsOf(observed(kind, operands, value));
    expect(reads).toEqual(expected);
    expect([...(steps.get("complement of the mask") ?? [])]).toEqual([0, 1, 0]);
  });

  it("of scaled_dot_product_attention mask what comes later", () => {
    const [q, k, v] = [1, 2, 3].map((seed) => tensor("float32", [1, 3, 2], noise(6, seed))) as [
      TensorValue,
      TensorValue,
      TensorValue,
    ];
    const { steps, reads } = stepsOf(
      observed(
        "torch.nn.functional.scaled_dot_product_attention",
        { query: q, key: k, value: v },
        v,
        { dropout_p: 0, is_causal: true, enable_gqa: false },
      ),
    );
    expect(reads).toEqual(["weights", "value"]);
    const [qs, ks] = [q, k].map((one) => rows([...toFloat64(one)], 2)) as [number[][], number[][]];
    const expected = qs.flatMap((row, n) => {
      const scores = ks.map((other) => {
        const [a = 0, b = 0] = row;
        const [c = 0, d = 0] = other;
        return (a * c + b * d) / Math.SQRT2;
      });
      const powers = scores.map((score, m) => (m <= n ? Math.exp(score) : 0));
      const sum = powers.reduce((a, b) => a + b, 0);
      return powers.map((power) => power / sum);
    });
    expectNear(steps.get("weights"), expected);
  });

  it("of linear are the product with the turned weight", () => {
    const turned = noise(16, 9);
    const { steps, reads } = stepsOf(
      observed(
        "torch.nn.functional.linear",
        { input, weight: tensor("float32", [4, 4], turned), bias: of4(bias) },
        tensor("float32", [6, 4], x),
      ),
    );
    expect(reads).toEqual(["product", "bias"]);
    expectNear(
      steps.get("product"),
      rows(x, 4).flatMap((row) =>
        rows(turned, 4).map((line) => line.reduce((sum, a, i) => sum + a * (row[i] as number), 0)),
      ),
    );
  });

  const hidden = 2;
  const w = (seed: number, gates: number) =>
    tensor("float32", [gates * hidden, hidden], noise(gates * hidden * hidden, seed));
  const b = (seed: number, gates: number) =>
    tensor("float32", [gates * hidden], noise(gates * hidden, seed));
  const affine = (row: readonly number[], weights: TensorValue, biases: TensorValue): number[] =>
    rows([...toFloat64(weights)], hidden).map(
      (line, n) =>
        line.reduce((sum, one, i) => sum + one * (row[i] as number), 0) +
        (toFloat64(biases)[n] as number),
    );

  it("of gru_cell are torch's gates: reset, update, new", () => {
    const [input, hx] = [1, 2].map((seed) => tensor("float32", [1, hidden], noise(2, seed))) as [
      TensorValue,
      TensorValue,
    ];
    const parts = { w_ih: w(3, 3), w_hh: w(4, 3), b_ih: b(5, 3), b_hh: b(6, 3) };
    const { steps } = stepsOf(observed("torch.gru_cell", { input, hx, ...parts }, hx));
    const gi = affine([...toFloat64(input)], parts.w_ih, parts.b_ih);
    const gh = affine([...toFloat64(hx)], parts.w_hh, parts.b_hh);
    const expected = [0, 1].map((i) => {
      const at = (gates: number[], gate: number): number => gates[gate * hidden + i] as number;
      const reset = sigmoid(at(gi, 0) + at(gh, 0));
      const update = sigmoid(at(gi, 1) + at(gh, 1));
      const fresh = Math.tanh(at(gi, 2) + reset * at(gh, 2));
      return (1 - update) * fresh + update * (toFloat64(hx)[i] as number);
    });
    expectNear(steps.get("state"), expected);
  });

  it("of lstm carry state and memory from step to step", () => {
    const input = tensor("float32", [1, 2, hidden], noise(4, 1));
    const [first, memory] = [2, 3].map((seed) =>
      tensor("float32", [1, 1, hidden], noise(2, seed)),
    ) as [TensorValue, TensorValue];
    const parts = {
      params: w(4, 4),
      "params#1": w(5, 4),
      "params#2": b(6, 4),
      "params#3": b(7, 4),
    };
    const { steps } = stepsOf(
      observed("torch.lstm", { input, hx: first, "hx#1": memory, ...parts }, input, {
        has_biases: true,
        num_layers: 1,
        batch_first: true,
        train: false,
        bidirectional: false,
      }),
    );
    let state = [...toFloat64(first)];
    let cell = [...toFloat64(memory)];
    for (const row of rows([...toFloat64(input)], hidden)) {
      const a = affine(row, parts.params, parts["params#2"]);
      const h = affine(state, parts["params#1"], parts["params#3"]);
      const gates = a.map((one, i) => one + (h[i] as number));
      const at = (gate: number, i: number): number => gates[gate * hidden + i] as number;
      cell = cell.map((c, i) => sigmoid(at(1, i)) * c + sigmoid(at(0, i)) * Math.tanh(at(2, i)));
      state = cell.map((c, i) => sigmoid(at(3, i)) * Math.tanh(c));
    }
    expectNear(steps.get("step 1 state"), state);
    expectNear(steps.get("step 1 memory"), cell);
  });

  it("are not guessed where torch does something else", () => {
    const dropped = observed(
      "torch.nn.functional.scaled_dot_product_attention",
      { query: input, key: input, value: input },
      input,
      { dropout_p: 0.5 },
    );
    expect(isFused(dropped.op)).toBe(true);
    expect(expandFused(dropped.observation, new Set([dropped.op]))).toBeUndefined();
    const other = observed("torch.nn.functional.relu", { input }, input);
    expect(isFused(other.op)).toBe(false);
  });
});
