import { describe, expect, it } from "vitest";
import { fillGlob, matchGlob, normalisedName } from "../../engine/core/names.js";
import type { Observation, ObservedOp, ObservedTensor } from "../../engine/core/observation.js";
import { pairTensors } from "../../engine/core/pairing.js";
import { coverage, segmentGraph, segmentOf } from "../../engine/core/segments.js";

/** A chain of ops, each making one [2, 2] float tensor with the given names. */
function chain(names: readonly (readonly string[])[], shape = [2, 2]): Observation {
  const tensors = new Map<string, ObservedTensor>();
  const ops: ObservedOp[] = [];
  const add = (key: string, list: readonly string[]): void => {
    tensors.set(key, {
      key,
      names: list,
      dtype: "float32",
      shape,
      layout: { kind: "dense" },
      value: { dtype: "float32", shape, bytes: new Uint8Array(16) },
    });
  };
  add("x", ["x"]);
  names.forEach((list, index) => {
    const key = list[0] ?? `t${index}`;
    add(key, list);
    ops.push({
      id: String(index),
      kind: "Add",
      sourceOp: String(index),
      inputs: [ops.at(-1)?.outputs[0] ?? "x"],
      outputs: [key],
      frames: [],
      instance: "",
    });
  });
  const last = ops.at(-1)?.outputs[0] ?? "x";
  return {
    ops,
    tensors,
    parameters: [],
    inputs: [{ name: "x", tensor: "x" }],
    outputs: [{ name: "out", tensor: last }],
  };
}

const made = (reference: Observation, candidate: Observation, declared = [] as never[]) =>
  pairTensors(reference, candidate, declared).pairs.map((p) => [
    p.reference,
    p.candidate,
    p.pairedBy,
  ]);

describe("pairTensors", () => {
  it("pairs by name, by normalised name, and says which", () => {
    const r = chain([["m/f.a"], ["m/f.norm_x"], ["m/f.out"]]);
    const c = chain([["m/f.a"], ["m/f.normX"], ["m/f.out"]]);
    expect(made(r, c)).toEqual([
      ["m/f.a", "m/f.a", "name"],
      ["m/f.norm_x", "m/f.normX", "normalisedName"],
      ["m/f.out", "m/f.out", "name"],
    ]);
  });

  it("pairs the only output of each side whatever it is called", () => {
    expect(made(chain([["a"], ["y"]]), chain([["b"], ["z"]]))).toEqual([["y", "z", "name"]]);
    const r = { ...chain([["y"]]), outputs: [{ name: "result", tensor: "y" }] };
    expect(made(r, chain([["z"]]))).toEqual([["y", "z", "output"]]);
  });

  it("pairs several outputs by name, and as many that are left by their place", () => {
    const ports = (...names: string[]) =>
      names.map((name, at) => ({ name, tensor: ["a", "b", "c"][at] as string }));
    const side = (...names: string[]) => ({
      ...chain([["a"], ["b"], ["c"]]),
      outputs: ports(...names),
    });
    const outputsOf = (r: Observation, c: Observation) => {
      const { pairs, unpairedOutputs, unpairedReferenceOutputs } = pairTensors(r, c);
      return [
        pairs.filter((p) => p.isOutput).map((p) => p.reference + p.candidate),
        [unpairedOutputs, unpairedReferenceOutputs],
      ];
    };
    const nothing = [[], []];
    expect(outputsOf(side("0", "1", "2"), side("x", "y", "z"))).toEqual([
      ["aa", "bb", "cc"],
      nothing,
    ]);
    expect(outputsOf(side("last", "1", "2"), side("x", "y", "last"))).toEqual([
      ["ba", "cb", "ac"],
      nothing,
    ]);
    // Which one is missing cannot be told.
    expect(outputsOf(side("0", "1"), side("x"))[1]).toEqual([["x"], []]);
  });

  it("does not pair a variable that the two sides assign a different number of times", () => {
    const r = chain([["f.x"], ["f.x#1"], ["f.out"]]);
    const c = chain([["f.x"], ["f.x#1"], ["f.x#2"], ["f.out"]]);
    expect(made(r, c)).toEqual([["f.out", "f.out", "name"]]);
    expect(pairTensors(r, c).refused.get("f.x")).toContain("different number of times");
  });

  it("refuses a pair by name whose shapes no layout explains, and says why", () => {
    const r = chain([["f.a"], ["f.out"]]);
    const c = chain([["f.a"], ["f.out"]]);
    const wrong = {
      ...(c.tensors.get("f.a") as ObservedTensor),
      shape: [4, 1],
    };
    const changed = { ...c, tensors: new Map([...c.tensors, ["f.a", wrong]]) };
    const pairing = pairTensors(r, changed);
    expect(pairing.pairs.map((p) => p.candidate)).toEqual(["f.out"]);
    expect(pairing.refused.get("f.a")).toBeTruthy();
  });

  it("keeps a declared pair whose shapes differ: it fails by its shape", () => {
    const r = chain([["f.a"], ["f.out"]]);
    const c = chain([["f.b"], ["f.out"]]);
    const wrong = {
      ...(c.tensors.get("f.b") as ObservedTensor),
      shape: [4, 1],
    };
    const changed = { ...c, tensors: new Map([...c.tensors, ["f.b", wrong]]) };
    const { pairs } = pairTensors(r, changed, [{ reference: "f.a", candidate: "f.b" }]);
    expect(pairs[0]).toMatchObject({ candidate: "f.b", pairedBy: "declared" });
    expect(pairs[0]?.alignment).toBeUndefined();
    expect(pairs[0]?.shapeReason).toBeTruthy();
  });

  it("fills the wildcards of a declaration from left to right", () => {
    const r = chain([["l.0/f.a"], ["l.1/f.a"], ["f.out"]]);
    const c = chain([["b.0/g.z"], ["b.1/g.z"], ["f.out"]]);
    const { pairs } = pairTensors(r, c, [{ reference: "l.*/f.a", candidate: "b.*/g.z" }]);
    expect(pairs.map((p) => [p.reference, p.candidate])).toEqual([
      ["l.0/f.a", "b.0/g.z"],
      ["l.1/f.a", "b.1/g.z"],
      ["f.out", "f.out"],
    ]);
  });

  it("reports a declaration that matches nothing", () => {
    const declaration = { reference: "nowhere.*", candidate: "nowhere.*" };
    expect(pairTensors(chain([["a"]]), chain([["a"]]), [declaration]).unusedDeclarations).toEqual([
      declaration,
    ]);
  });
});

describe("names", () => {
  it("normalises case and separators but not counts", () => {
    expect(normalisedName("_o.weight")).toBe(normalisedName("_o_weight"));
    expect(normalisedName("f.x#1")).not.toBe(normalisedName("f.x1"));
  });

  it("lets * stand for one part and ** for any text", () => {
    expect(matchGlob("layers.*.out", "layers.3.out")).toEqual(["3"]);
    expect(matchGlob("layers.*.out", "layers.3.x.out")).toBeUndefined();
    expect(matchGlob("layers.**", "layers.3/x.out")).toEqual(["3/x.out"]);
    expect(matchGlob("a+b", "aab")).toBeUndefined();
    expect(fillGlob("x.*.y", ["7"])).toBe("x.7.y");
    expect(fillGlob("x.*.*", ["7"])).toBeUndefined();
  });
});

describe("segments and coverage", () => {
  it("a segment goes back to the nearest cut", () => {
    const c = chain([["a"], ["b"], ["c"], ["d"]]);
    const segment = segmentOf("d", new Set(["b", "d"]), segmentGraph(c));
    expect(segment.ops.map((op) => op.outputs[0])).toEqual(["c", "d"]);
    expect(segment.frontier).toEqual(["b"]);
  });

  it("ops in a compared segment of up to 24 data ops are covered, in a longer one they are not", () => {
    for (const [length, covered] of [
      [24, 24],
      [25, 1],
    ] as const) {
      const c = chain(Array.from({ length }, (_, i) => [`t${i}`]));
      const last = `t${length - 1}`;
      const segment = segmentOf(last, new Set([last]), segmentGraph(c));
      expect(coverage(c, new Set([last]), [segment])).toMatchObject({
        covered,
        total: length,
        paired: 1,
      });
    }
  });
});
