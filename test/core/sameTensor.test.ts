import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { convertFloats } from "../../engine/core/conversions.js";
import { isTelling, sameTensor } from "../../engine/core/sameTensor.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { DType } from "../../engine/protocol/tensor.js";
import { int64, noise, range, tensor, vector } from "./tensors.js";

const floats: DType[] = ["float64", "float32", "float16", "bfloat16"];
const narrowIntegers: DType[] = ["int32", "int16", "int8", "uint32", "uint16", "uint8"];

/** Small whole numbers that every type holds exactly. */
const smallNumbers = (minLength: number) =>
  fc.array(fc.integer({ min: 0, max: 100 }), { minLength, maxLength: 24 });

/** Rows of `width` numbers each; the lengths of the samples add up to as many rows. Never a row of zeros. */
const jaggedBatch = fc
  .record({
    lengths: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 5 }),
    width: fc.integer({ min: 1, max: 3 }),
    more: fc.integer({ min: 0, max: 2 }),
    seed: fc.integer({ min: 1, max: 1e6 }),
  })
  .filter(({ lengths }) => lengths.some((length) => length > 0));

function layOut(
  lengths: readonly number[],
  width: number,
  more: number,
  rowAt: (row: number) => readonly number[],
  pad = 0,
): { jagged: TensorValue; padded: TensorValue } {
  const rows = lengths.reduce((sum, length) => sum + length, 0);
  const longest = Math.max(...lengths) + more;
  const all: number[] = [];
  let next = 0;
  for (const length of lengths) {
    for (let n = 0; n < longest; n++) {
      all.push(...(n < length ? rowAt(next++) : Array<number>(width).fill(pad)));
    }
  }
  return {
    jagged: tensor("float32", [rows, width], range(rows).flatMap(rowAt)),
    padded: tensor("float32", [lengths.length, longest, width], all),
  };
}

describe("two tensors of one shape", () => {
  it.each([...floats, ...narrowIntegers])("of %s are equal with equal values only", (dtype) => {
    fc.assert(
      fc.property(smallNumbers(1), fc.nat(), (numbers, at) => {
        const a = vector(numbers, dtype);
        expect(sameTensor(a, vector(numbers, dtype))).toBe("equal");
        const changed = numbers.map((n, i) => (i === at % numbers.length ? n + 1 : n));
        expect(sameTensor(a, vector(changed, dtype))).toBeUndefined();
      }),
    );
  });

  it("are not the same in another shape, although the bytes are", () => {
    expect(
      sameTensor(tensor("float32", [2, 3], range(6)), tensor("float32", [3, 2], range(6))),
    ).toBeUndefined();
    expect(sameTensor(vector(range(6)), tensor("float32", [2, 3], range(6)))).toBe("padded");
    expect(
      sameTensor(tensor("float32", [6, 1], range(6)), tensor("float32", [2, 3], range(6))),
    ).toBeUndefined();
  });

  it("have equal zeros of both signs and equal NaNs, whatever their bits", () => {
    expect(sameTensor(vector([0, 1]), vector([-0, 1]))).toBe("equal");
    const a = tensor("float32", [2], [NaN, 1]);
    const b = { ...a, bytes: Uint8Array.of(1, 0, 0xc0, 0xff, ...a.bytes.slice(4)) };
    expect(sameTensor(a, b)).toBe("equal");
    expect(sameTensor(a, vector([0, 1]))).toBeUndefined();
  });

  it("without elements are equal, of one shape", () => {
    const empty = (shape: number[]) => tensor("float32", shape, []);
    expect(sameTensor(empty([0, 4]), empty([0, 4]))).toBe("equal");
    expect(sameTensor(empty([0, 4]), empty([0, 5]))).toBeUndefined();
  });

  it("are scalars too", () => {
    expect(sameTensor(tensor("float32", [], [2]), tensor("float64", [], [2]))).toBe("rounded");
    expect(sameTensor(tensor("float32", [], [2]), tensor("float32", [], [3]))).toBeUndefined();
  });
});

describe("two types", () => {
  it("of integers are the same at equal values, whatever their width", () => {
    fc.assert(
      fc.property(
        smallNumbers(1),
        fc.constantFrom<DType>("int64", "uint64", ...narrowIntegers),
        fc.constantFrom<DType>(...narrowIntegers),
        (numbers, a, b) => {
          const wide =
            a === "int64" || a === "uint64" ? int64(numbers.map(BigInt), a) : vector(numbers, a);
          expect(sameTensor(wide, vector(numbers, b))).toBe("equal");
          expect(sameTensor(vector(numbers, b), wide)).toBe("equal");
        },
      ),
    );
  });

  it("of 64 bits are told apart where float64 cannot tell them", () => {
    const large = 2n ** 60n;
    expect(sameTensor(int64([large, 1n]), int64([large, 1n]))).toBe("equal");
    expect(sameTensor(int64([large, 1n]), int64([large + 1n, 1n]))).toBeUndefined();
  });

  it("of float and integer are not the same", () => {
    expect(sameTensor(vector([1, 2]), vector([1, 2], "int32"))).toBeUndefined();
    expect(sameTensor(vector([1, 0], "bool"), vector([1, 0]))).toBeUndefined();
  });

  it.each<[DType, DType]>([
    ["float64", "float32"],
    ["float64", "float16"],
    ["float64", "bfloat16"],
    ["float32", "float16"],
    ["float32", "bfloat16"],
  ])(
    "%s is the same as its rounding to %s, in both orders, and as nothing else",
    (wide, narrow) => {
      fc.assert(
        fc.property(fc.integer({ min: 1, max: 1e6 }), fc.nat(11), (seed, at) => {
          const a = tensor(wide, [3, 4], noise(12, seed));
          const b = convertFloats(a, narrow);
          expect(sameTensor(a, b)).toBe("rounded");
          expect(sameTensor(b, a)).toBe("rounded");
          const numbers = noise(12, seed).map((x, i) => (i === at ? x + 0.5 : x));
          const other = convertFloats(tensor(wide, [3, 4], numbers), narrow);
          expect(sameTensor(a, other)).toBeUndefined();
        }),
        { numRuns: 50 },
      );
    },
  );
});

describe("rows that one side holds padded", () => {
  it("are the same in both orders, whatever the lengths", () => {
    fc.assert(
      fc.property(jaggedBatch, ({ lengths, width, more, seed }) => {
        const { jagged, padded } = layOut(lengths, width, more, (row) =>
          noise(width, seed + 7919 * row).map((x) => x + 3),
        );
        expect(sameTensor(jagged, padded)).toBe("padded");
        expect(sameTensor(padded, jagged)).toBe("padded");
      }),
    );
  });

  it("are not the same when one element of a row differs", () => {
    fc.assert(
      fc.property(jaggedBatch, fc.nat(), ({ lengths, width, more, seed }, at) => {
        const rowAt = (row: number) => noise(width, seed + 7919 * row).map((x) => x + 3);
        const { jagged, padded } = layOut(lengths, width, more, rowAt);
        const rows = jagged.shape[0] as number;
        const changed = range(rows)
          .flatMap(rowAt)
          .map((x, i) => (i === at % (rows * width) ? x + 10 : x));
        expect(sameTensor(tensor("float32", [rows, width], changed), padded)).toBeUndefined();
      }),
    );
  });

  it("follow one another: their order counts", () => {
    const padded = tensor("float32", [2, 2, 1], [1, 2, 3, 0]);
    expect(sameTensor(tensor("float32", [3, 1], [1, 2, 3]), padded)).toBe("padded");
    expect(sameTensor(tensor("float32", [3, 1], [3, 1, 2]), padded)).toBeUndefined();
  });

  it("are more than the padded side has room for: not the same", () => {
    const padded = tensor("float32", [1, 2, 1], [1, 2]);
    expect(sameTensor(tensor("float32", [3, 1], [1, 2, 3]), padded)).toBeUndefined();
    expect(sameTensor(tensor("float32", [0, 1], []), padded)).toBeUndefined();
  });

  it("have inner axes of the same sizes", () => {
    const padded = tensor("float32", [1, 2, 2, 2], range(8));
    expect(sameTensor(tensor("float32", [2, 2, 2], range(8)), padded)).toBe("padded");
    expect(sameTensor(tensor("float32", [2, 4], range(8)), padded)).toBeUndefined();
    const narrow = tensor("float32", [1, 2, 2], range(4));
    expect(sameTensor(tensor("float32", [2, 4], range(8)), narrow)).toBeUndefined();
  });
});

describe("isTelling", () => {
  it("is true of two different elements and more, in every type", () => {
    for (const dtype of [...floats, ...narrowIntegers]) {
      expect(isTelling(vector([1, 1, 2], dtype)), dtype).toBe(true);
      expect(isTelling(vector([1, 1, 1], dtype)), dtype).toBe(false);
    }
    expect(isTelling(vector([1, 0], "bool"))).toBe(true);
    expect(isTelling(int64([5n, 5n]))).toBe(false);
  });

  it("is false of nothing and of one element", () => {
    expect(isTelling(vector([]))).toBe(false);
    expect(isTelling(vector([7]))).toBe(false);
    expect(isTelling(tensor("float32", [], [7]))).toBe(false);
  });
});

describe("rows that look like padding", () => {
  it("belong to a sample where the lengths fit", () => {
    const jagged = tensor("float32", [3, 1], [1, 0, 2]);
    expect(sameTensor(jagged, tensor("float32", [2, 2, 1], [1, 0, 0, 2]))).toBe("padded");
    expect(sameTensor(jagged, tensor("float32", [2, 2, 1], [1, 0, 2, 0]))).toBe("padded");
    expect(sameTensor(jagged, tensor("float32", [2, 3, 1], [1, 0, 2, 0, 0, 0]))).toBe("padded");
  });

  it("are no padding where something else stands behind them", () => {
    const jagged = tensor("float32", [2, 1], [1, 2]);
    expect(sameTensor(jagged, tensor("float32", [2, 2, 1], [1, 2, 3, 4]))).toBeUndefined();
    expect(sameTensor(jagged, tensor("float32", [2, 2, 1], [1, -1, 2, -1]))).toBe("padded");
    expect(sameTensor(jagged, tensor("float32", [2, 2, 1], [1, -1, 2, -2]))).toBeUndefined();
  });
});

describe("numbers beyond what float64 holds", () => {
  it("are told apart", () => {
    const big = 2n ** 60n;
    const one = int64([big, big + 1n]);
    const other = int64([big, big + 2n]);
    expect(isTelling(one)).toBe(true);
    expect(sameTensor(one, other)).toBeUndefined();
    expect(sameTensor(int64([big, big + 1n], "uint64"), one)).toBe("equal");
    expect(sameTensor(int64([big, big + 1n], "uint64"), other)).toBeUndefined();
  });
});

describe("two types of the same width", () => {
  it("are rounded into one another either way", () => {
    const half = tensor("float16", [2], [1.001, 2]);
    const brain = convertFloats(half, "bfloat16");
    expect(sameTensor(half, brain)).toBe("rounded");
    expect(sameTensor(brain, half)).toBe("rounded");
  });
});
