import { describe, expect, it } from "vitest";
import type { ObservedParameter } from "../../engine/core/observation.js";
import {
  compareParameters,
  joinedInOtherOrder,
  pairLeftovers,
  pairRearranged,
  pairLeftoversByShape,
} from "../../engine/core/parameters.js";
import { transposeMatrix } from "../../engine/core/parameterValues.js";

function parameter(name: string, shape: number[], values: number[]): ObservedParameter {
  return {
    name,
    tensor: name,
    value: {
      dtype: "float32",
      shape,
      bytes: new Uint8Array(Float32Array.from(values).buffer),
    },
  };
}

const w = [1, 2, 3, 4, 5, 6, 7, 8, -9];
const wTransposed = [1, 4, 7, 2, 5, 8, 3, 6, -9];
const other = [4, -1, 0.5, -2, 3, -1, -1, 2, 0.25];

function statusOf(reference: ObservedParameter[], candidate: ObservedParameter[]) {
  return compareParameters(reference, candidate).findings.map((f) => [
    f.candidate.name,
    f.status,
    f.pairedBy,
  ]);
}

describe("compareParameters", () => {
  it("pairs by name and finds equal values the same", () => {
    expect(statusOf([parameter("a.w", [3, 3], w)], [parameter("a.w", [3, 3], w)])).toEqual([
      ["a.w", "same", "name"],
    ]);
  });

  it("pairs _o.weight with _o_weight by normalised name", () => {
    expect(
      statusOf([parameter("_o.weight", [3, 3], w)], [parameter("_o_weight", [3, 3], w)]),
    ).toEqual([["_o_weight", "same", "normalisedName"]]);
  });

  it("sees that a square matrix is stored transposed", () => {
    expect(statusOf([parameter("w", [3, 3], w)], [parameter("w", [3, 3], wTransposed)])).toEqual([
      ["w", "transposed", "name"],
    ]);
  });

  it("tells values that drifted from values that never came from the reference", () => {
    const drifted = w.map((x) => x * 1.01 + 0.001);
    expect(statusOf([parameter("w", [3, 3], w)], [parameter("w", [3, 3], drifted)])).toEqual([
      ["w", "different", "name"],
    ]);
    expect(statusOf([parameter("w", [3, 3], w)], [parameter("w", [3, 3], other)])).toEqual([
      ["w", "notFromReference", "name"],
    ]);
  });

  it("calls a constant where the reference has values an own initialisation", () => {
    expect(
      statusOf(
        [parameter("b", [9], w)],
        [
          parameter(
            "b",
            [9],
            w.map(() => 0),
          ),
        ],
      ),
    ).toEqual([["b", "notFromReference", "name"]]);
  });

  it("pairs a renamed parameter by its content, also transposed, but never by chance", () => {
    expect(
      statusOf([parameter("weight", [3, 3], w)], [parameter("kernel", [3, 3], wTransposed)]),
    ).toEqual([["kernel", "transposed", "content"]]);
    expect(
      statusOf(
        [parameter("first", [3, 3], w), parameter("second", [3, 3], w)],
        [parameter("kernel", [3, 3], w)],
      ),
    ).toEqual([["kernel", "notFromReference", undefined]]);
  });

  it("pairs a renamed constant with one of the same value and shape only", () => {
    const bias = parameter("head.bias", [1], [0.25]);
    expect(statusOf([bias], [parameter("bias", [1], [0.25])])).toEqual([
      ["bias", "same", "content"],
    ]);
    expect(statusOf([bias], [parameter("shift", [1], [0.5])])).toEqual([
      ["shift", "notFromReference", undefined],
    ]);
    expect(statusOf([bias], [parameter("scale", [2], [0.25, 0.25])])).toEqual([
      ["scale", "notFromReference", undefined],
    ]);
  });

  it("finds queries, keys and values in one matrix, as they are or transposed", () => {
    const parts = [
      parameter("q", [2, 3], [1, 2, 3, 4, 5, 6]),
      parameter("k", [2, 3], [-1, 7, 3, 9, 5, 2]),
      parameter("v", [2, 3], [8, 2, -3, 4, 1, 6]),
    ];
    const below = parameter(
      "qkv",
      [6, 3],
      [1, 2, 3, 4, 5, 6, -1, 7, 3, 9, 5, 2, 8, 2, -3, 4, 1, 6],
    );
    const beside = parameter("qkv", [3, 4], [1, 4, -1, 9, 2, 5, 7, 5, 3, 6, 3, 2]);
    expect(compareParameters(parts, [below])).toMatchObject({
      findings: [{ status: "same", pairedBy: "content", reference: { name: "q" } }],
      missing: [],
    });
    expect(compareParameters(parts, [beside])).toMatchObject({
      findings: [{ status: "same", reference: { name: "q" } }],
      missing: [{ name: "v" }],
    });
    const wrong = parameter(
      "qkv",
      [6, 3],
      [1, 2, 3, 4, 5, 6, -1, 7, 3, 9, 5, 2, 8, 2, -3, 4, 1, 7],
    );
    expect(statusOf(parts, [wrong])).toEqual([["qkv", "notFromReference", undefined]]);
  });

  it("finds weights that are stacked along a new axis, or kept in parts", () => {
    const weights = [
      parameter("experts.0", [2, 3], [1, 2, 3, 4, 5, 6]),
      parameter("experts.1", [2, 3], [-1, 7, 3, 9, 5, 2]),
    ];
    const stacked = parameter("experts", [2, 3, 2], [1, 4, 2, 5, 3, 6, -1, 9, 7, 5, 3, 2]);
    expect(compareParameters(weights, [stacked])).toMatchObject({
      findings: [{ status: "same", pairedBy: "content", reference: { name: "experts.0" } }],
      missing: [],
    });
    expect(compareParameters([stacked], weights)).toMatchObject({
      findings: [
        { status: "same", reference: { name: "experts" } },
        { status: "same", reference: { name: "experts" } },
      ],
      missing: [],
    });
    const zeros = parameter("never.copied", [2, 2], [0, 0, 0, 0]);
    const biases = [parameter("a.bias", [2], [0, 0]), parameter("b.bias", [2], [0, 0])];
    expect(statusOf(biases, [zeros])).toEqual([["never.copied", "notFromReference", undefined]]);
  });

  it("does not guess which of two equal constants is meant", () => {
    const zeros = (name: string) => parameter(name, [2], [0, 0]);
    expect(statusOf([zeros("norm.bias")], [zeros("shift"), zeros("offset")])).toEqual([
      ["shift", "notFromReference", undefined],
      ["offset", "notFromReference", undefined],
    ]);
  });

  it("lets a declaration overrule names", () => {
    const comparison = compareParameters(
      [parameter("layers.0.a", [9], w), parameter("layers.0.b", [9], other)],
      [parameter("layers.0.a", [9], other)],
      [{ reference: "layers.*.b", candidate: "layers.*.a" }],
    );
    expect(comparison.findings[0]).toMatchObject({
      status: "same",
      pairedBy: "declared",
    });
    expect(comparison.missing.map((p) => p.name)).toEqual(["layers.0.a"]);
  });

  it("reports declarations that pair nothing", () => {
    const declaration = { reference: "layers.*.x", candidate: "layers.*.y" };
    expect(
      compareParameters([parameter("a", [9], w)], [parameter("a", [9], w)], [declaration])
        .unusedDeclarations,
    ).toEqual([declaration]);
  });
});

describe("pairLeftoversByShape", () => {
  const leftovers = (reference: ObservedParameter[], candidate: ObservedParameter[]) =>
    pairLeftoversByShape(compareParameters(reference, candidate)).findings.map((f) => [
      f.candidate.name,
      f.reference?.name,
      f.status,
      f.pairedBy,
    ]);

  it("pairs what is left on both sides, transposed shapes too, in order", () => {
    expect(
      leftovers(
        [
          parameter("a", [3, 3], w),
          parameter("b", [2, 3], other.slice(0, 6)),
          parameter("c", [2], [1, 2]),
          parameter("d", [2], [3, 5]),
        ],
        [
          parameter("a", [3, 3], w),
          parameter("x", [3, 2], w.slice(0, 6)),
          parameter("y", [2], [-2, 1]),
          parameter("z", [2], [5, -3]),
        ],
      ),
    ).toEqual([
      ["a", "a", "same", "name"],
      ["x", "b", "notFromReference", "shape"],
      ["y", "c", "notFromReference", "shape"],
      ["z", "d", "notFromReference", "shape"],
    ]);
  });

  it("pairs nothing where one side has more of a shape than the other", () => {
    expect(
      leftovers(
        [parameter("c", [2], [1, 2]), parameter("d", [2], [3, 5])],
        [parameter("y", [2], [-2, 1])],
      ),
    ).toEqual([["y", undefined, "notFromReference", undefined]]);
  });
});

describe("transposeMatrix", () => {
  it("turns [2, 3] into [3, 2]", () => {
    const turned = transposeMatrix(parameter("m", [2, 3], [1, 2, 3, 4, 5, 6]).value);
    expect(turned.shape).toEqual([3, 2]);
    expect([...new Float32Array(turned.bytes.buffer)]).toEqual([1, 4, 2, 5, 3, 6]);
  });
});

describe("joined parameters", () => {
  const q = parameter("layer.q.weight", [2, 2], [1, 2, 3, 4]);
  const k = parameter("layer.k.weight", [2, 2], [5, 6, 7, -8]);
  const v = parameter("layer.v.weight", [2, 2], [-9, 0.5, 0.25, 3]);
  const bias = parameter("layer.out.bias", [2], [7, -8]);
  const rows = (...parts: ObservedParameter[]) =>
    parameter(
      "qkv",
      [2 * parts.length, 2],
      parts.flatMap((part) => [...new Float32Array(part.value.bytes.slice().buffer)]),
    );
  const guess = (reference: ObservedParameter[], own: ObservedParameter) => {
    const [finding] = pairLeftovers(compareParameters(reference, [own]), reference).findings;
    const value = finding?.reference?.value.bytes;
    return [finding?.mistake, value && [...new Float32Array(value.slice().buffer)]];
  };

  it("supposes the part that is missing in the place of one that is there twice", () => {
    expect(guess([q, k, v, bias], rows(q, q, v))).toEqual([
      "holds the wrong part: its part 2 of 3 is layer.q.weight where layer.k.weight belongs",
      [1, 2, 3, 4, 5, 6, 7, -8, -9, 0.5, 0.25, 3],
    ]);
  });

  it("supposes the part that is missing in the place of one that is none of the reference's", () => {
    const fresh = parameter("fresh", [2, 2], [0, 0, 0, 0]);
    expect(guess([q, k, v], rows(q, k, fresh))[0]).toBe(
      "holds the wrong part: its part 3 of 3 is none of the reference's parameters where layer.v.weight belongs",
    );
  });

  it("supposes nothing where more parts are open than are missing", () => {
    const fresh = parameter("fresh", [2, 2], [0, 1, 0, 2]);
    expect(guess([q, k], rows(q, fresh, fresh))).toEqual([undefined, undefined]);
  });

  it("supposes the reference's order where the parts lie in another one", () => {
    const reference = [q, k, v];
    const ordered = (own: ObservedParameter) =>
      [...joinedInOtherOrder(compareParameters(reference, [own]), reference)].map(
        ({ findings }) => findings[0]?.mistake,
      );
    expect(ordered(rows(k, q, v))).toEqual([
      "holds the wrong part: its part 1 of 3 is layer.k.weight where layer.q.weight belongs",
    ]);
    expect(ordered(rows(q, k, v))).toEqual([]);
  });

  it("supposes the weight's order for the bias beside it", () => {
    const biases = ["k", "q"].map((one, i) => parameter(`layer.${one}.bias`, [2], [i + 2, 5 - i]));
    const reference = [k, q, ...biases];
    const own = [{ ...rows(q, k), name: "port.weight" }, parameter("port.bias", [4], [2, 5, 3, 4])];
    const guesses = [...joinedInOtherOrder(compareParameters(reference, own), reference)].map(
      ({ findings }) => findings.map(({ mistake }) => mistake),
    );
    expect(guesses).toContainEqual([
      undefined,
      "holds the wrong part: its part 1 of 2 is layer.k.bias where layer.q.bias belongs",
    ]);
  });

  it("supposes the usual arrangements of values that are all there", () => {
    const interleaved = parameter("qk", [4, 2], [1, 2, 5, 6, 3, 4, 7, -8]);
    const reference = [v, q, k];
    const compared = compareParameters(reference, [interleaved]);
    const guesses = pairRearranged(compared, interleaved);
    expect(guesses.map(({ missing }) => missing)).toEqual([[v]]);
    const [finding] = guesses[0]?.findings ?? [];
    expect(finding?.mistake).toBe(
      "holds the values of the reference's layer.q.weight and layer.k.weight in another arrangement",
    );
    const value = finding?.reference?.value;
    expect(value && [...new Float32Array(value.bytes.slice().buffer)]).toEqual([
      1, 2, 3, 4, 5, 6, 7, -8,
    ]);
  });

  it("supposes nothing of values that are not all there", () => {
    const other = parameter("qk", [4, 2], [1, 2, 5, 6, 3, 4, 7, 8]);
    expect(pairRearranged(compareParameters([v, q, k], [other]), other)).toEqual([]);
  });
});
