import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compareTensors } from "../../engine/core/compare.js";
import { relL2 } from "../../engine/core/difference.js";
import { toFloat64 } from "../../engine/core/dtypes.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { MetricName } from "../../engine/protocol/report.js";
import { metricFormulas } from "../../engine/protocol/metricFormulas.js";
import type { DType } from "../../engine/protocol/tensor.js";
import { fromWire, type WireNumber } from "../../engine/protocol/wire.js";
import { noise, tensor, vector } from "./tensors.js";

const floatTypes = ["float64", "float32", "float16", "bfloat16"] as const;

/** Values with ties, zeros, negative zeros and sizes that span many octaves. */
const element = fc
  .oneof(
    fc.double({ min: -1000, max: 1000, noNaN: true }),
    fc.double({ min: -1e-4, max: 1e-4, noNaN: true }),
    fc.constantFrom(0, -0, 1, -1, 0.5, 3),
  )
  .map((x) => (Math.abs(x) < 1e-7 ? 0 * x : x));

const pairOfVectors = fc
  .record({
    values: fc.array(fc.tuple(element, element, fc.boolean()), {
      minLength: 2,
      maxLength: 60,
    }),
    referenceType: fc.constantFrom(...floatTypes),
    candidateType: fc.constantFrom(...floatTypes),
  })
  .map(({ values, referenceType, candidateType }) => ({
    reference: vector(
      values.map(([r]) => r),
      referenceType,
    ),
    candidate: vector(
      values.map(([r, c, near]) => (near ? r * (1 + c * 1e-6) : c)),
      candidateType,
    ),
  }))
  // Subnormals of float16 that meet a zero are a rule of their own.
  .filter(({ reference, candidate }) => !hasFlush(reference, candidate));

/** The formulas as a textbook has them: plain loops over plain arrays, nothing shared with the product. */
const oracle = {
  maxAbs: (r: number[], c: number[]) => Math.max(...differences(r, c)),
  meanAbs: (r: number[], c: number[]) => sum(differences(r, c)) / r.length,
  rmse: (r: number[], c: number[]) =>
    Math.sqrt(sum(differences(r, c).map((d) => d * d)) / r.length),
  violations: (r: number[], c: number[]) =>
    r.filter((x, i) => Math.abs((c[i] as number) - x) > 0.01 + 0.1 * Math.abs(x)).length / r.length,
  maxRel: (r: number[], c: number[]) => Math.max(...ratios(r, c)),
  zeroReference: (r: number[]) => r.filter((x) => x === 0).length,
  relL2: (r: number[], c: number[]) =>
    Math.sqrt(sum(differences(r, c).map((d) => d * d)) / sum(r.map((x) => x * x))),
  linfRel: (r: number[], c: number[]) =>
    Math.max(...differences(r, c)) / Math.max(...r.map(Math.abs)),
  cosine: (r: number[], c: number[]) =>
    sum(r.map((x, i) => x * (c[i] as number))) /
    Math.sqrt(sum(r.map((x) => x * x)) * sum(c.map((x) => x * x))),
  snrDb: (r: number[], c: number[]) =>
    10 * Math.log10(sum(r.map((x) => x * x)) / sum(differences(r, c).map((d) => d * d))),
  psnrDb: (r: number[], c: number[]) =>
    20 * Math.log10(Math.max(...r.map(Math.abs))) -
    10 * Math.log10(sum(differences(r, c).map((d) => d * d)) / r.length),
} satisfies Partial<Record<MetricName, (r: number[], c: number[]) => number>>;

describe.each(Object.keys(oracle) as (keyof typeof oracle)[])("%s", (name) => {
  it("is the formula's value for every pair of float types", () => {
    fc.assert(
      fc.property(pairOfVectors, ({ reference, candidate }) => {
        const r = [...toFloat64(reference)];
        const c = [...toFloat64(candidate)];
        const { metrics, undefined: reasons } = compareTensors(reference, candidate, {
          atol: 0.01,
          rtol: 0.1,
        });
        const expected = oracle[name](r, c);
        const constant = new Set(r).size === 1 || new Set(c).size === 1;
        if (Number.isNaN(expected) || (name === "cosine" && constant)) return;
        if (r.every((x) => x === 0) && name !== "zeroReference" && reasons[name]) return;
        expectClose(metrics[name], expected, name === "cosine" ? 1e-9 : 0);
      }),
    );
  });
});

describe("violations at the edge", () => {
  it("measures against |r|, not |c|, and takes the tolerance itself for within", () => {
    const share = (r: number, c: number, atol: number, rtol: number) =>
      compareTensors(vector([r], "float64"), vector([c], "float64"), { atol, rtol }).metrics
        .violations;
    expect(share(1, 1.12, 0, 0.11)).toBe(1);
    expect(share(1.12, 1, 0, 0.11)).toBe(0);
    expect(share(1, 1.5, 0.5, 0)).toBe(0);
    expect(share(0, 1e-9, 0, 1)).toBe(1);
    expect(share(2, 2.75, 0.25, 0.25)).toBe(0);
  });
});

describe("quantiles of |d|", () => {
  it.each([
    ["p50Abs", 0.5],
    ["p90Abs", 0.9],
    ["p99Abs", 0.99],
    ["p999Abs", 0.999],
  ] as const)("%s is within 12.5 % of the sorted one", (name, share) => {
    fc.assert(
      fc.property(pairOfVectors, ({ reference, candidate }) => {
        const d = differences([...toFloat64(reference)], [...toFloat64(candidate)]);
        const { metrics } = compareTensors(reference, candidate);
        expectQuantile(metrics[name], d, share);
      }),
    );
  });

  it("are told apart", () => {
    const zeros = new Array<number>(10_000).fill(0);
    const d = zeros.map((_, i) => 1.5 ** (i / 200));
    const { metrics } = compareTensors(vector(zeros, "float64"), vector(d, "float64"));
    expectQuantile(metrics.p50Abs, d, 0.5);
    expectQuantile(metrics.p90Abs, d, 0.9);
    expectQuantile(metrics.p99Abs, d, 0.99);
    expectQuantile(metrics.p999Abs, d, 0.999);
  });

  it("hold for a tensor of many blocks", () => {
    const r = noise(50_000, 3);
    const d = noise(50_000, 7).map((x) => x * 1e-3);
    const { metrics } = compareTensors(
      vector(r, "float64"),
      vector(
        r.map((x, i) => x + (d[i] as number)),
        "float64",
      ),
    );
    expectQuantile(metrics.p50Abs, d.map(Math.abs), 0.5);
    expectQuantile(metrics.p999Abs, d.map(Math.abs), 0.999);
  });
});

describe("p99Rel", () => {
  it("is within 12.5 % of the sorted one, over elements with r ≠ 0", () => {
    fc.assert(
      fc.property(pairOfVectors, ({ reference, candidate }) => {
        const relative = ratios([...toFloat64(reference)], [...toFloat64(candidate)]);
        const { metrics, undefined: reasons } = compareTensors(reference, candidate);
        if (relative.length === 0) expect(reasons.p99Rel).toBeDefined();
        else expectQuantile(metrics.p99Rel, relative, 0.99);
      }),
    );
  });
});

describe("p99Rel of known ratios", () => {
  it("is the 99th percentile, whatever the sizes of the elements", () => {
    const r = Array.from({ length: 1000 }, (_, i) => 2 ** (i % 20));
    const ratio = r.map((_, i) => 1.5 ** (i / 20 - 40));
    const c = r.map((x, i) => x * (1 + (ratio[i] as number)));
    const { metrics } = compareTensors(vector(r, "float64"), vector(c, "float64"));
    expectQuantile(metrics.p99Rel, ratio, 0.99);
    expect(fromWire(metrics.maxRel ?? NaN)).toBeCloseTo(ratio.at(-1) as number, 9);
  });
});

describe("ULP", () => {
  it("counts the numbers of the narrower type between two elements", () => {
    fc.assert(
      fc.property(pairOfVectors, ({ reference, candidate }) => {
        const narrow = narrower(reference.dtype, candidate.dtype);
        const r = ordinals(vector([...toFloat64(reference)], narrow));
        const c = ordinals(vector([...toFloat64(candidate)], narrow));
        const ulps = r.map((x, i) => abs(x - (c[i] as bigint)));
        const { metrics } = compareTensors(reference, candidate);
        expectClose(metrics.maxUlp, Number(ulps.reduce((a, b) => (a > b ? a : b))));
        expectClose(metrics.meanUlp, Number(ulps.reduce((a, b) => a + b)) / r.length, 1e-9);
      }),
    );
  });

  it("is 1 for neighbours and counts across zero", () => {
    const next = Math.fround(1 + 2 ** -23);
    expect(compareTensors(vector([1, 2]), vector([next, 2])).metrics.maxUlp).toBe(1);
    const tiny = 2 ** -126;
    expect(compareTensors(vector([tiny, 1]), vector([-tiny, 1])).metrics.maxUlp).toBe(2 * 2 ** 23);
    expect(
      compareTensors(vector([1, 2], "float64"), vector([1 + 2 ** -52, 2], "float64")).metrics
        .maxUlp,
    ).toBe(1);
  });
});

describe("error histogram", () => {
  it("puts every |d| between its edges and zeros apart", () => {
    fc.assert(
      fc.property(pairOfVectors, ({ reference, candidate }) => {
        const d = differences([...toFloat64(reference)], [...toFloat64(candidate)]);
        const { histogram } = compareTensors(reference, candidate);
        expect(histogram.zeros).toBe(d.filter((x) => x === 0).length);
        const edges = histogram.log10Edges.map((edge) => 2 ** Math.round(edge / Math.log10(2)));
        for (const [i, count] of histogram.counts.entries()) {
          const inside = d.filter(
            (x) => x >= (edges[i] as number) && x < (edges[i + 1] as number),
          ).length;
          expect(count).toBe(inside);
        }
        expect(sum(histogram.counts) + histogram.zeros).toBe(d.length);
      }),
    );
  });
});

describe("maxAbsIndex and the worst elements", () => {
  it("are the largest differences in order, with indices in the reference", () => {
    fc.assert(
      fc.property(pairOfVectors, ({ reference, candidate }) => {
        const r = [...toFloat64(reference)];
        const d = differences(r, [...toFloat64(candidate)]);
        const { metrics, worst } = compareTensors(reference, candidate, {
          worst: 4,
        });
        const ranked = d
          .map((x, i) => [x, i] as const)
          .filter(([x]) => x > 0)
          .sort((a, b) => b[0] - a[0] || a[1] - b[1]);
        expect(worst.map((element) => element.index)).toEqual(
          ranked.slice(0, 4).map(([, i]) => [i]),
        );
        expect(worst.map((element) => Math.abs(fromWire(element.difference)))).toEqual(
          ranked.slice(0, 4).map(([x]) => x),
        );
        expect(metrics.maxAbsIndex).toEqual(ranked[0] && [ranked[0][1]]);
      }),
    );
  });

  it("are found in a late block of a large tensor", () => {
    const r = noise(100_000, 5);
    const c = [...r];
    c[77_777] = 9;
    const { worst, metrics } = compareTensors(
      tensor("float32", [100, 1000], r),
      tensor("float32", [100, 1000], c),
    );
    expect(metrics.maxAbsIndex).toEqual([77, 777]);
    expect(worst).toHaveLength(1);
    expect(worst[0]).toMatchObject({ index: [77, 777], candidate: 9 });
  });
});

describe("top-k agreement", () => {
  it("is the shared part of the k best, row by row, with the first swapped rank", () => {
    const row = fc.uniqueArray(fc.integer({ min: -500, max: 500 }), {
      minLength: 6,
      maxLength: 6,
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(row, row), { minLength: 1, maxLength: 4 }), (rows) => {
        const reference = tensor(
          "float32",
          [rows.length, 6],
          rows.flatMap(([r]) => r),
        );
        const candidate = tensor(
          "float32",
          [rows.length, 6],
          rows.flatMap(([, c]) => c),
        );
        const { metrics } = compareTensors(reference, candidate, { topK: 3 });
        const top = (values: readonly number[]): number[] =>
          values
            .map((value, i) => [value, i] as const)
            .sort((a, b) => b[0] - a[0])
            .slice(0, 3)
            .map(([, i]) => i);
        const shared = rows.map(([r, c]) => top(r).filter((i) => top(c).includes(i)).length / 3);
        expectClose(metrics.topKAgreement, sum(shared) / rows.length);
        const swaps = rows.map(([r, c]) => top(r).findIndex((i, rank) => i !== top(c)[rank]));
        const first = Math.min(...swaps.filter((rank) => rank >= 0));
        expect(metrics.firstSwappedRank).toBe(first === Infinity ? undefined : first + 1);
      }),
    );
  });
});

describe("relL2 for walks", () => {
  it("agrees with the full comparison", () => {
    fc.assert(
      fc.property(pairOfVectors, ({ reference, candidate }) => {
        const { metrics } = compareTensors(reference, candidate);
        const lean = relL2(reference, candidate);
        if (metrics.relL2 === undefined) expect(lean).toBeNaN();
        else expectClose(metrics.relL2, lean);
      }),
    );
  });
});

describe("every metric", () => {
  it("is either defined or has a reason, never both", () => {
    fc.assert(
      fc.property(pairOfVectors, ({ reference, candidate }) => {
        const { metrics, undefined: reasons } = compareTensors(reference, candidate);
        for (const name of Object.keys(metricFormulas) as MetricName[]) {
          expect([name, name in metrics]).not.toEqual([name, name in reasons]);
        }
      }),
    );
  });

  it("is the same whether the elements lie in one run or in short ones", () => {
    const r = noise(40_000, 11);
    const c = r.map((x, i) => (i % 17 === 0 ? x * 1.5 : x));
    const reference = vector(r);
    const candidate = vector(c);
    const runs = Array.from({ length: 1600 }, (_, i) => ({
      reference: i * 25,
      candidate: i * 25,
      length: 25,
    }));
    const whole = compareTensors(reference, candidate);
    const cut = compareTensors(reference, candidate, {
      alignment: { runs, count: 40_000, transform: "test" },
    });
    expect(cut.worst).toEqual(whole.worst);
    expect(cut.histogram).toEqual(whole.histogram);
    expectClose(cut.metrics.relL2, fromWire(whole.metrics.relL2 ?? NaN));
    expect(cut.metrics.maxUlp).toBe(whole.metrics.maxUlp);
  });
});

function expectClose(actual: WireNumber | undefined, expected: number, absolute = 0): void {
  expect(actual).toBeDefined();
  const value = fromWire(actual as WireNumber);
  if (!Number.isFinite(expected)) return expect(value).toBe(expected);
  expect(Math.abs(value - expected)).toBeLessThanOrEqual(1e-11 * Math.abs(expected) + absolute);
}

function expectQuantile(actual: WireNumber | undefined, values: number[], share: number): void {
  const sorted = [...values].sort((a, b) => a - b);
  const exact = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] as number;
  const value = fromWire(actual as WireNumber);
  expect(Math.abs(value - exact)).toBeLessThanOrEqual(0.125 * exact);
}

function differences(r: readonly number[], c: readonly number[]): number[] {
  return r.map((x, i) => Math.abs((c[i] as number) - x));
}

function ratios(r: readonly number[], c: readonly number[]): number[] {
  return r.flatMap((x, i) => (x === 0 ? [] : [Math.abs((c[i] as number) - x) / Math.abs(x)]));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, x) => total + x, 0);
}

function narrower(a: DType, b: DType): DType {
  const order: DType[] = ["bfloat16", "float16", "float32", "float64"];
  return order.find((dtype) => dtype === a || dtype === b) as DType;
}

function abs(x: bigint): bigint {
  return x < 0n ? -x : x;
}

/** ord(x), from the bytes and with whole numbers of any size. */
function ordinals(value: TensorValue): bigint[] {
  const size = value.bytes.length / (value.shape[0] as number);
  return Array.from({ length: value.shape[0] as number }, (_, i) => {
    let bits = 0n;
    for (let byte = size - 1; byte >= 0; byte--) {
      bits = (bits << 8n) | BigInt(value.bytes[i * size + byte] as number);
    }
    const sign = 1n << BigInt(size * 8 - 1);
    return bits >= sign ? -(bits - sign) : bits;
  });
}

function hasFlush(reference: TensorValue, candidate: TensorValue): boolean {
  const r = toFloat64(reference);
  const c = toFloat64(candidate);
  return r.some((x, i) => {
    const y = c[i] as number;
    return x !== y && (x === 0 || y === 0) && Math.abs(x) + Math.abs(y) < 2 ** -14;
  });
}
