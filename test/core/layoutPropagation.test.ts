import { describe, expect, it } from "vitest";
import { opName, propagateLayouts } from "../../engine/core/layoutPropagation.js";
import type { Layout } from "../../engine/protocol/tensor.js";
import type { TraceFile } from "../../engine/protocol/trace.js";

const offsets = [0, 2, 5];
const lengths = [2, 3];

/** A trace in a few words: each op makes the next tensors. */
class TraceSketch {
  private readonly ops: TraceFile["ops"] = [];
  private readonly tensors: TraceFile["tensors"] = [];

  input(shape: number[], layout?: Layout): number {
    const id = this.tensors.length;
    this.tensors.push({
      id,
      names: [],
      dtype: "float32",
      shape,
      ...(layout && { layout }),
    });
    return id;
  }

  op(
    kind: string,
    inputs: (number | null)[],
    shape: number[],
    attributes: Record<string, unknown> = {},
  ): number {
    const output = this.input(shape);
    this.ops.push({
      id: this.ops.length,
      kind,
      inputs,
      outputs: [output],
      attributes,
      stack: [],
      instance: "",
    });
    return output;
  }

  /** [ΣL, features] rows of two samples of lengths 2 and 3. */
  jagged(features: number): number {
    const dense = this.input([2, 4, features]);
    return this.op("fbgemm.dense_to_jagged", [dense], [5, features], {
      offsets,
    });
  }

  /** [2, 4, features], zero after each sample's length. */
  padded(features: number): number {
    const attributes = { offsets, padding_value: 0.0 };
    const rows = this.jagged(features);
    return this.op("fbgemm.jagged_to_padded_dense", [rows], [2, 4, features], attributes);
  }

  layout(id: number): Layout | undefined {
    return propagateLayouts({ ops: this.ops, tensors: this.tensors }).get(id);
  }
}

const jaggedLayout = { kind: "jagged", offsets };
const paddedOn = (axes: number[], pad: unknown = 0) => ({
  kind: "padded",
  lengths,
  batchAxis: 0,
  axes,
  pad,
});

describe("propagateLayouts", () => {
  it("starts at the jagged operators", () => {
    const trace = new TraceSketch();
    const lengthsTensor = trace.input([2]);
    const cumsum = trace.op("fbgemm.asynchronous_complete_cumsum", [lengthsTensor], [3], {
      offsets,
    });
    const rows = trace.jagged(6);
    const dense = trace.padded(6);
    expect(trace.layout(cumsum)).toBeUndefined();
    expect(trace.layout(rows)).toEqual(jaggedLayout);
    expect(trace.layout(dense)).toEqual(paddedOn([1]));
  });

  it("takes a layout that the trace declares", () => {
    const trace = new TraceSketch();
    const x = trace.input([2, 4, 6], paddedOn([1]) as Layout);
    expect(trace.layout(trace.op("torch.nn.functional.silu", [x], [2, 4, 6]))).toEqual(
      paddedOn([1]),
    );
  });

  it("follows an HSTU layer from rows to the attention matrix and back", () => {
    const trace = new TraceSketch();
    const x = trace.jagged(6);
    const norm = trace.op("torch.nn.functional.layer_norm", [x, null, null], [5, 6]);
    const uvqk = trace.op("torch.mm", [norm, trace.input([6, 24])], [5, 24]);
    const act = trace.op("torch.nn.functional.silu", [uvqk], [5, 24]);
    const u = trace.op("torch.split", [act], [5, 6]);
    expect(trace.layout(u)).toEqual(jaggedLayout);
    const q = trace.op("fbgemm.jagged_to_padded_dense", [u], [2, 4, 6], {
      offsets,
    });
    const heads = trace.op("Tensor.view", [q], [2, 4, 2, 3]);
    expect(trace.layout(heads)).toEqual(paddedOn([1]));
    const scores = trace.op("torch.einsum", [heads, heads], [2, 2, 4, 4], {
      equation: "bnhd,bmhd->bhnm",
    });
    expect(trace.layout(scores)).toEqual(paddedOn([2, 3]));
    const biased = trace.op("Tensor.add", [scores, trace.input([2, 1, 4, 4])], [2, 2, 4, 4]);
    expect(trace.layout(biased)).toEqual(paddedOn([2, 3], "NaN"));
    const masked = trace.op("Tensor.mul", [biased, trace.input([1, 1, 4, 4])], [2, 2, 4, 4]);
    const attention = trace.op("torch.einsum", [masked, heads], [2, 4, 2, 3], {
      equation: "bhnm,bmhd->bnhd",
    });
    expect(trace.layout(attention)).toEqual(paddedOn([1], "NaN"));
    const merged = trace.op("Tensor.reshape", [attention], [2, 4, 6]);
    const rows = trace.op("fbgemm.dense_to_jagged", [merged], [5, 6], {
      offsets,
    });
    const out = trace.op("torch.nn.functional.linear", [rows, trace.input([6, 6])], [5, 6]);
    const residual = trace.op("Tensor.__add__", [out, x], [5, 6]);
    expect(trace.layout(residual)).toEqual(jaggedLayout);
  });

  it("finds the rows that packed ones were made of, before they were packed", () => {
    const trace = new TraceSketch();
    const ids = trace.input([5]);
    const x = trace.op("torch.nn.functional.embedding", [ids, trace.input([9, 6])], [5, 6]);
    const norm = trace.op("torch.nn.functional.group_norm", [x, null, null], [5, 6]);
    const packed = trace.op(
      "Tensor.mul",
      [norm, trace.input([5, 6], jaggedLayout as Layout)],
      [5, 6],
    );
    for (const id of [ids, x, norm, packed]) expect(trace.layout(id)).toEqual(jaggedLayout);
  });

  it("takes no columns for rows where it goes back", () => {
    const trace = new TraceSketch();
    const x = trace.input([5, 5]);
    const turned = trace.op("torch.t", [x], [5, 5]);
    trace.op("Tensor.mul", [turned, trace.input([5, 5], jaggedLayout as Layout)], [5, 5]);
    expect(trace.layout(turned)).toEqual(jaggedLayout);
    expect(trace.layout(x)).toBeUndefined();
  });

  it("follows the axes of the table itself", () => {
    const trace = new TraceSketch();
    const index = [{ slice: [null, null, null] }, { operand: 1 }];
    const table = trace.input([2, 6, 4], paddedOn([2]) as Layout);
    const ids = trace.input([3, 3]);
    const rows = trace.op("torch.Tensor.__getitem__", [table, ids], [2, 3, 3, 4], { index });
    expect(trace.layout(rows)).toEqual(paddedOn([3], "NaN"));
  });

  it("follows a table that is looked up by padded positions", () => {
    const trace = new TraceSketch();
    const buckets = trace.input([2, 4, 4], paddedOn([1, 2]) as Layout);
    const whole = { slice: [null, null, null] };
    const index = [whole, { operand: 1 }];
    const table = trace.input([3, 9]);
    const bias = trace.op("torch.Tensor.__getitem__", [table, buckets], [3, 2, 4, 4], { index });
    expect(trace.layout(bias)).toEqual({ ...paddedOn([2, 3], "NaN"), batchAxis: 1 });
  });

  it("matmul keeps the rows of its left side and the columns of its right", () => {
    const trace = new TraceSketch();
    const x = trace.padded(6);
    const turned = trace.op("Tensor.transpose", [x], [2, 6, 4], {
      dim0: 1,
      dim1: -1,
    });
    expect(trace.layout(turned)).toEqual(paddedOn([2]));
    const scores = trace.op("torch.bmm", [x, turned], [2, 4, 4]);
    expect(trace.layout(scores)).toEqual(paddedOn([1, 2]));
    expect(trace.layout(trace.op("torch.matmul", [scores, x], [2, 4, 6]))).toEqual(paddedOn([1]));
  });

  it("moves axes with permute, transpose, unsqueeze and squeeze", () => {
    const trace = new TraceSketch();
    const x = trace.padded(6);
    const permuted = trace.op("Tensor.permute", [x], [4, 6, 2], {
      dims: [1, 2, 0],
    });
    expect(trace.layout(permuted)).toEqual({ ...paddedOn([0]), batchAxis: 2 });
    const wider = trace.op("Tensor.unsqueeze", [x], [2, 1, 4, 6], { dim: 1 });
    expect(trace.layout(wider)).toEqual(paddedOn([2]));
    const back = trace.op("Tensor.squeeze", [wider], [2, 4, 6], { dim: 1 });
    expect(trace.layout(back)).toEqual(paddedOn([1]));
  });

  it("takes roles from the graph, not from sizes: a feature axis as wide as the sequence stays one", () => {
    const trace = new TraceSketch();
    const x = trace.padded(4);
    const y = trace.op("torch.einsum", [x, trace.input([4, 4])], [2, 4, 4], {
      equation: "bnd,de->bne",
    });
    expect(trace.layout(y)).toEqual(paddedOn([1]));
  });

  it("a reduction takes its axis away", () => {
    const trace = new TraceSketch();
    const x = trace.padded(6);
    const norm = trace.op("torch.linalg.norm", [x], [2, 4, 1], {
      dim: -1,
      keepdim: true,
    });
    expect(trace.layout(norm)).toEqual(paddedOn([1], "NaN"));
    expect(trace.layout(trace.op("Tensor.div", [x, norm], [2, 4, 6]))).toEqual(
      paddedOn([1], "NaN"),
    );
    expect(trace.layout(trace.op("torch.sum", [x], [2, 6], { dim: 1 }))).toBeUndefined();
  });

  it("knows the pad value only where zero stays zero", () => {
    const trace = new TraceSketch();
    const x = trace.padded(6);
    const weight = trace.input([6, 6]);
    const bias = trace.input([6]);
    const pad = (id: number) => {
      const layout = trace.layout(id);
      return layout?.kind === "padded" ? layout.pad : undefined;
    };
    expect(pad(trace.op("torch.nn.functional.linear", [x, weight], [2, 4, 6]))).toBe(0);
    expect(pad(trace.op("torch.nn.functional.linear", [x, weight, bias], [2, 4, 6]))).toBe("NaN");
    expect(pad(trace.op("Tensor.add", [x, x], [2, 4, 6]))).toBe(0);
    expect(pad(trace.op("Tensor.add", [x, bias], [2, 4, 6]))).toBe("NaN");
    expect(pad(trace.op("Tensor.add", [x], [2, 4, 6], { other: 1 }))).toBe("NaN");
    expect(pad(trace.op("torch.sigmoid", [x], [2, 4, 6]))).toBe("NaN");
    const minusOne = trace.op("fbgemm.jagged_to_padded_dense", [x], [2, 4, 6], {
      offsets,
      padding_value: -1,
    });
    expect(pad(trace.op("Tensor.contiguous", [minusOne], [2, 4, 6]))).toBe(-1);
    expect(pad(trace.op("Tensor.mul", [minusOne, bias], [2, 4, 6]))).toBe("NaN");
  });

  it.each<[string, string, number[], Record<string, unknown>]>([
    ["an op that is not known", "torch.fft.fft", [2, 4, 6], {}],
    ["a view that merges batch and sequence", "Tensor.view", [8, 6], {}],
    ["a slice of the sequence", "Tensor.__getitem__", [2, 3, 6], {}],
    ["an index that drops an axis", "Tensor.__getitem__", [2, 6], {}],
    ["a concatenation along the sequence", "torch.cat", [2, 8, 6], {}],
    ["an einsum without its equation", "torch.einsum", [2, 4, 6], {}],
    ["a transpose whose axes are not recorded", "Tensor.transpose", [2, 6, 4], {}],
  ])("makes a dense tensor of %s", (_, kind, shape, attributes) => {
    const trace = new TraceSketch();
    const x = trace.padded(6);
    expect(trace.layout(trace.op(kind, [x], shape, attributes))).toBeUndefined();
  });

  it("does not follow an index by a tensor, which may permute rows", () => {
    const trace = new TraceSketch();
    const x = trace.padded(6);
    const index = trace.input([4]);
    expect(trace.layout(trace.op("Tensor.__getitem__", [x, index], [2, 4, 6]))).toBeUndefined();
  });

  it("drops samples of other lengths that meet", () => {
    const trace = new TraceSketch();
    const x = trace.padded(6);
    const other = trace.input([2, 4, 6], {
      ...paddedOn([1]),
      lengths: [1, 1],
    } as Layout);
    expect(trace.layout(trace.op("Tensor.add", [x, other], [2, 4, 6]))).toBeUndefined();
  });

  it("concatenates along the last axis", () => {
    const trace = new TraceSketch();
    const x = trace.jagged(6);
    expect(trace.layout(trace.op("torch.cat", [x, x], [5, 12]))).toEqual(jaggedLayout);
  });
});

describe("opName", () => {
  it.each([
    ["Tensor.__mul__", "mul"],
    ["torch.nn.functional.silu", "silu"],
    ["fbgemm.dense_to_jagged", "dense_to_jagged"],
    ["Tensor.mul_", "mul"],
  ])("%s is %s", (kind, name) => expect(opName(kind)).toBe(name));
});
