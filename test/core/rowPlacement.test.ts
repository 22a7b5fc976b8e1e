import { describe, expect, it } from "vitest";
import { align } from "../../engine/core/layouts.js";
import type { Observation, ObservedOp, ObservedTensor } from "../../engine/core/observation.js";
import { withPackedLayouts } from "../../engine/core/packedLayouts.js";
import { withRowPlacement } from "../../engine/core/rowPlacement.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { Layout } from "../../engine/protocol/tensor.js";
import { noise, tensor } from "./tensors.js";

const lengths = [3, 2];
const offsets = [0, 3, 5];
const width = 4;
const rows = noise(5 * width, 7);

function observationOf(
  values: Readonly<Record<string, TensorValue>>,
  layouts: Readonly<Record<string, Layout>> = {},
  ops: readonly ObservedOp[] = [],
  outputs: readonly string[] = [],
): Observation {
  return {
    ops,
    tensors: new Map(
      Object.entries(values).map(([key, value]): [string, ObservedTensor] => [
        key,
        {
          key,
          names: [],
          dtype: value.dtype,
          shape: value.shape,
          layout: layouts[key] ?? { kind: "dense" },
          value,
        },
      ]),
    ),
    parameters: [],
    inputs: [],
    outputs: outputs.map((name) => ({ name, tensor: name })),
  };
}

function op(kind: string, inputs: string[], output: string): ObservedOp {
  return {
    id: output,
    kind,
    sourceOp: output,
    inputs,
    outputs: [output],
    frames: [],
    instance: "",
    attributes: {},
  };
}

const reference = observationOf(
  { x: tensor("float32", [5, width], rows) },
  { x: { kind: "jagged", offsets } },
);

/** A candidate of `n` positions with each row where `at` says, and something else everywhere else. */
function candidateOf(
  n: number,
  at: (row: number, length: number) => number,
  changed: readonly number[] = [],
): Observation {
  const elements = noise(2 * n * width, 99);
  for (const [b, length] of lengths.entries()) {
    for (let row = 0; row < length; row++) {
      const from = ((offsets[b] as number) + row) * width;
      if (changed.includes((offsets[b] as number) + row)) continue;
      for (let i = 0; i < width; i++) {
        elements[(b * n + at(row, length)) * width + i] = rows[from + i] as number;
      }
    }
  }
  const y = tensor("float32", [2, n, width], elements);
  return observationOf({ y }, {}, [op("Add", [], "y")]);
}

const placementIn = (candidate: Observation) =>
  withRowPlacement(reference, candidate).tensors.get("x")?.placement;

describe("withRowPlacement", () => {
  it("says nothing of rows at the front", () => {
    expect(placementIn(candidateOf(6, (row) => row))).toBeUndefined();
  });

  it("finds rows behind the padding", () => {
    expect(placementIn(candidateOf(6, (row, length) => 6 - length + row))).toEqual({
      width: 6,
      positions: [
        [3, 4, 5],
        [4, 5],
      ],
    });
  });

  it("finds room that is left before the last row of each sample", () => {
    const at = (row: number, length: number): number => (row < length - 1 ? row : 5);
    expect(placementIn(candidateOf(6, at))?.positions).toEqual([
      [0, 1, 5],
      [0, 5],
    ]);
  });

  it("infers where rows lie that differ from how the others do", () => {
    const at = (row: number, length: number): number => 6 - length + row;
    expect(placementIn(candidateOf(6, at, [1, 4]))?.positions).toEqual([
      [3, 4, 5],
      [4, 5],
    ]);
  });

  it("finds any order if every row is found", () => {
    const order = [4, 0, 2];
    const positions = [
      [4, 0, 2],
      [4, 0],
    ];
    expect(placementIn(candidateOf(6, (row) => order[row] as number))?.positions).toEqual(
      positions,
    );
    expect(placementIn(candidateOf(6, (row) => order[row] as number, [1]))).toBeUndefined();
  });

  it("trusts no row that lies in two places", () => {
    const candidate = candidateOf(6, (row) => row);
    const y = candidate.tensors.get("y") as ObservedTensor;
    const elements = [...new Float32Array((y.value as TensorValue).bytes.slice().buffer)];
    for (let i = 0; i < width; i++) elements[5 * width + i] = rows[i] as number;
    const value = tensor("float32", [2, 6, width], elements);
    expect(
      placementIn({ ...candidate, tensors: new Map([["y", { ...y, value }]]) }),
    ).toBeUndefined();
  });

  it("says nothing where less than half of the rows are found", () => {
    const at = (row: number, length: number): number => 6 - length + row;
    expect(placementIn(candidateOf(6, at, [0, 1, 2]))).toBeUndefined();
  });
});

describe("align with a placement", () => {
  const positions = [
    [3, 4, 5],
    [4, 5],
  ];
  const placement = { width: 6, positions };
  const jagged: Layout = { kind: "jagged", offsets };

  it("takes each row from its position", () => {
    const aligned = align(
      { shape: [5, width], layout: jagged, placement },
      { shape: [2, 6, width] },
    );
    expect(aligned).toMatchObject({
      ok: true,
      alignment: {
        transform: "jagged → padded, rows placed",
        count: 20,
        runs: [
          { reference: 0, candidate: 12, length: 12 },
          { reference: 12, candidate: 40, length: 8 },
        ],
      },
    });
  });

  it("moves both axes of an attention matrix", () => {
    const layout: Layout = { kind: "padded", lengths, batchAxis: 0, axes: [1, 2], pad: 0 };
    const aligned = align({ shape: [2, 3, 3], layout, placement }, { shape: [2, 6, 6] });
    if (!aligned.ok) throw new Error(aligned.reason);
    expect(aligned.alignment.runs.slice(0, 2)).toEqual([
      { reference: 0, candidate: 3 * 6 + 3, length: 3 },
      { reference: 3, candidate: 4 * 6 + 3, length: 3 },
    ]);
    expect(aligned.alignment.count).toBe(13);
  });

  it("leaves an axis of another width as it is", () => {
    const aligned = align(
      { shape: [5, width], layout: jagged, placement },
      { shape: [2, 3, width] },
    );
    if (!aligned.ok) throw new Error(aligned.reason);
    expect(aligned.alignment.transform).toBe("jagged → padded");
  });
});

describe("withPackedLayouts", () => {
  const mask = tensor("bool", [2, 3], [1, 1, 1, 1, 1, 0]);
  const dense = tensor("float32", [2, 3, width], noise(24, 3));
  const packed = tensor("float32", [5, width], rows);
  const values = { dense, mask, packed, before: packed, made: dense, out: dense };
  const padded: Layout = { kind: "padded", lengths, batchAxis: 0, axes: [1], pad: "NaN" };
  const unpack = op("torch.Tensor.__setitem__", ["dense", "mask", "packed"], "made");

  it("knows rows that a mask puts into a dense tensor, and those that they are made of", () => {
    const norm = op("torch.nn.functional.layer_norm", ["before"], "packed");
    const found = withPackedLayouts(observationOf(values, {}, [norm, unpack])).tensors;
    expect(found.get("made")?.layout).toEqual(padded);
    expect(found.get("packed")?.layout).toEqual({ kind: "jagged", offsets });
    expect(found.get("before")?.layout).toEqual({ kind: "jagged", offsets });
  });

  it("knows rows that a mask takes out of one", () => {
    const pack = op("torch.Tensor.__getitem__", ["dense", "mask"], "packed");
    const found = withPackedLayouts(observationOf(values, {}, [pack])).tensors;
    expect(found.get("dense")?.layout).toEqual(padded);
    expect(found.get("packed")?.layout).toEqual({ kind: "jagged", offsets });
  });

  it("keeps results of the whole as they are", () => {
    const found = withPackedLayouts(observationOf(values, {}, [unpack], ["made"])).tensors;
    expect(found.get("made")?.layout).toEqual({ kind: "dense" });
    expect(found.get("packed")?.layout).toEqual({ kind: "jagged", offsets });
  });

  it("says nothing where a mask is filled with one value", () => {
    for (const fill of [tensor("float32", [], [0]), tensor("float32", [width], [1, 2, 3, 4])]) {
      const observation = observationOf({ ...values, packed: fill }, {}, [unpack]);
      expect(withPackedLayouts(observation)).toBe(observation);
    }
  });

  it("says nothing of a mask with holes", () => {
    const holes = { ...values, mask: tensor("bool", [2, 3], [1, 0, 1, 1, 1, 1]) };
    const observation = observationOf(holes, {}, [unpack]);
    expect(withPackedLayouts(observation)).toBe(observation);
  });
});
