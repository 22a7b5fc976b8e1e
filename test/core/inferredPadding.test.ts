import { describe, expect, it } from "vitest";
import { withInferredPadding } from "../../engine/core/inferredPadding.js";
import type { Observation, ObservedOp, ObservedTensor } from "../../engine/core/observation.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { Layout } from "../../engine/protocol/tensor.js";
import { noise, tensor } from "./tensors.js";

const [batch, length] = [2, 4];
const lengthened = [1, 1, 1, 0, 1, 1, 0, 0];
const layout: Layout = {
  kind: "padded",
  lengths: [3, 2],
  batchAxis: 0,
  axes: [1],
  pad: "NaN",
};

const random = (shape: readonly number[], seed: number): TensorValue =>
  tensor(
    "float32",
    shape,
    noise(
      shape.reduce((product, size) => product * size, 1),
      seed,
    ),
  );

/** x = embedding(ids); y = linear(x); out = sum(y) over the positions. */
function observationWith(mask: TensorValue, outputs: readonly string[] = ["out"]): Observation {
  const values: Record<string, TensorValue> = {
    ids: tensor("int64", [batch, length], [1, 2, 3, 0, 4, 5, 0, 0]),
    mask,
    table: random([6, 3], 1),
    x: random([batch, length, 3], 2),
    y: random([batch, length, 5], 3),
    out: random([batch, 5], 4),
  };
  const op = (kind: string, inputs: string[], output: string, dim?: number): ObservedOp => ({
    id: output,
    kind,
    sourceOp: output,
    inputs,
    outputs: [output],
    frames: [],
    instance: "",
    attributes: dim === undefined ? {} : { dim },
  });
  return {
    ops: [
      op("torch.nn.functional.embedding", ["ids", "table"], "x"),
      op("torch.nn.functional.linear", ["x", "table"], "y"),
      op("torch.Tensor.sum", ["y"], "out", 1),
    ],
    tensors: new Map(
      Object.entries(values).map(([key, value]): [string, ObservedTensor] => [
        key,
        {
          key,
          names: [key],
          dtype: value.dtype,
          shape: value.shape,
          layout: { kind: "dense" },
          value,
        },
      ]),
    ),
    parameters: [],
    inputs: ["ids", "mask"].map((name) => ({ name, tensor: name })),
    outputs: outputs.map((name) => ({ name, tensor: name })),
  };
}

const layoutsOf = (observation: Observation | undefined): Record<string, string> =>
  Object.fromEntries(
    [...(observation?.tensors.values() ?? [])].map((one) => [one.key, one.layout.kind]),
  );

describe("padding that only a mask tells of", () => {
  const mask = tensor("bool", [batch, length], lengthened);

  it("goes with the inputs of the mask's shape as far as the ops keep the rows", () => {
    const inferred = withInferredPadding(observationWith(mask));
    expect(inferred?.mask).toBe("mask");
    expect(layoutsOf(inferred?.observation)).toEqual({
      ids: "padded",
      mask: "padded",
      table: "dense",
      x: "padded",
      y: "padded",
      out: "dense",
    });
    expect(inferred?.observation.tensors.get("y")?.layout).toEqual(layout);
  });

  it("leaves outputs as they are, so that all of them is compared", () => {
    const inferred = withInferredPadding(observationWith(mask, ["y"]));
    expect(layoutsOf(inferred?.observation)["y"]).toBe("dense");
  });

  it.each([
    ["no row has padding", tensor("bool", [batch, length], Array(8).fill(1))],
    ["a row is empty", tensor("bool", [batch, length], [1, 1, 0, 0, 0, 0, 0, 0])],
    ["ones follow zeros", tensor("bool", [batch, length], [1, 0, 1, 0, 1, 1, 0, 0])],
    ["it holds other numbers", tensor("int64", [batch, length], [1, 2, 0, 0, 1, 1, 0, 0])],
    ["it has another shape", tensor("bool", [4, 2], [1, 0, 1, 1, 1, 0, 1, 0])],
  ])("is not inferred where %s", (_, given) => {
    expect(withInferredPadding(observationWith(given))).toBeUndefined();
  });

  it("is not inferred from a triangle, which says what may be seen from where", () => {
    const triangle = tensor("bool", [2, 2], [1, 0, 1, 1]);
    const { tensors, ...rest } = observationWith(triangle);
    const ids = { ...(tensors.get("ids") as ObservedTensor), shape: [2, 2] };
    const square = { ...rest, tensors: new Map([...tensors, ["ids", ids]]) };
    expect(withInferredPadding(square)).toBeUndefined();
  });

  it("is not inferred where two masks disagree, or layouts are known", () => {
    const observation = observationWith(mask);
    const other = tensor("bool", [batch, length], [1, 1, 0, 0, 1, 1, 1, 0]);
    const y = observation.tensors.get("y") as ObservedTensor;
    const withOther = new Map(observation.tensors).set("other", {
      ...y,
      key: "other",
      dtype: "bool",
      shape: [batch, length],
      value: other,
    });
    expect(withInferredPadding({ ...observation, tensors: withOther })).toBeUndefined();
    const known = new Map(observation.tensors).set("y", { ...y, layout });
    expect(withInferredPadding({ ...observation, tensors: known })).toBeUndefined();
  });
});
