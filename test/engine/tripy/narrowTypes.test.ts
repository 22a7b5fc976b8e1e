import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { TraceFile } from "../../../engine/protocol/trace.js";
import { lowerTripyTrace } from "../../../engine/tripy/lower.js";
import { holds } from "./ndarray.js";
import { encode, EMPTY_TRACE, run, values, type Values } from "./runTrace.js";

type Narrow = "float8" | "int4";

describe("float8 and int4, carried in wider types", () => {
  it("float8 takes the nearest of its values and ends at 448", async () => {
    const data = [0, 1, 1.06, 1.07, -17.9, 300, 460, 1e6, -1e6, 2 ** -9, 2 ** -10, NaN];
    const got = await throughNarrow("float8", values("float32", [12], data), scalar(1));
    expect(got.data).toEqual([0, 1, 1, 1.125, -18, 288, 448, 448, -448, 2 ** -9, 0, NaN]);
  });

  it("float8 agrees with the nearest value of its own list", async () => {
    const grid = float8Values();
    const numbers = fc.array(fc.double({ min: -500, max: 500, noNaN: true }), {
      minLength: 1,
      maxLength: 20,
    });
    await holds(numbers, async (data) => {
      const x = values("float32", [data.length], data);
      const got = await throughNarrow("float8", x, scalar(1));
      const distance = (value: number, to: number): number => Math.abs(value - to);
      x.data.forEach((value, index) => {
        const best = Math.min(...grid.map((one) => distance(value, one)));
        expect(distance(value, got.data[index] as number)).toBe(best);
      });
    });
  });

  it("int4 rounds halves to even between −8 and 7", async () => {
    const data = [-100, -8.4, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 7.4, 100];
    const got = await throughNarrow("int4", values("float32", [10], data), scalar(1));
    expect(got.data).toEqual([-8, -8, -2, -2, -0, 0, 2, 2, 7, 7].map((value) => value + 0));
  });

  it("a scale per block covers its rows and columns", async () => {
    const x = values(
      "float32",
      [4, 4],
      Array.from({ length: 16 }, (_, index) => index),
    );
    const scale = values("float32", [2, 4], [1, 1, 2, 4, 8, 4, 2, 1]);
    const got = await throughNarrow("int4", x, scale);
    const scaleAt = (row: number, column: number): number =>
      scale.data[Math.floor(row / 2) * 4 + column] as number;
    const expected = x.data.map((value, index) => {
      const own = scaleAt(Math.floor(index / 4), index % 4);
      const quotient = value / own;
      const even = 2 * Math.round(quotient / 2);
      const rounded = Math.abs(quotient % 1) === 0.5 ? even : Math.round(quotient);
      return own * Math.max(-8, Math.min(7, rounded));
    });
    expect(got.data).toEqual(expected);
  });

  it("a scale per block that does not divide the data is reported", () => {
    const { trace, constants } = program(
      "int4",
      [3, 4],
      values("float32", [2, 4], Array(8).fill(1)),
    );
    const { unsupported } = lowerTripyTrace(trace, (id) => constants.get(id));
    expect(unsupported[0]?.reason).toBe("Quantize of [3, 4] with a scale per block of [2, 4]");
  });
});

function scalar(value: number): Values {
  return values("float32", [], [value]);
}

/** Quantises x and dequantises it again. */
async function throughNarrow(narrow: Narrow, x: Values, scale: Values): Promise<Values> {
  const { trace, constants } = program(narrow, x.shape, scale);
  const lowered = lowerTripyTrace(trace, (id) => constants.get(id));
  expect(lowered.unsupported).toEqual([]);
  const [got] = await run(lowered, trace, { x });
  return got as Values;
}

function program(narrow: Narrow, shape: readonly number[], scale: Values) {
  const carrier = narrow === "int4" ? "int8" : "float32";
  const trace: TraceFile = {
    ...EMPTY_TRACE,
    tensors: [
      { id: 0, names: [], dtype: "float32", shape: [...shape] },
      { id: 1, names: [], dtype: "float32", shape: [...scale.shape] },
      { id: 2, names: [], dtype: carrier, narrow, shape: [...shape] },
      { id: 3, names: [], dtype: "float32", shape: [...shape] },
    ],
    ops: [
      { ...blank, id: 0, kind: "Constant", inputs: [], outputs: [1], attributes: {} },
      {
        ...blank,
        id: 1,
        kind: "Quantize",
        inputs: [0, 1],
        outputs: [2],
        attributes: { dtype: narrow, dim: null },
      },
      {
        ...blank,
        id: 2,
        kind: "Dequantize",
        inputs: [2, 1],
        outputs: [3],
        attributes: { dtype: "float32", dim: null },
      },
    ],
    inputs: [{ name: "x", tensor: 0 }],
    outputs: [{ name: "y", tensor: 3 }],
  };
  return { trace, constants: new Map([[1, encode(scale)]]) };
}

const blank = { stack: [], instance: "" };

/** All finite values of float8 E4M3: 3 bits of mantissa, an exponent from −6 to 8, no infinity. */
function float8Values(): number[] {
  const positive = Array.from({ length: 127 }, (_, bits) => {
    const [exponent, mantissa] = [bits >> 3, bits & 7];
    return exponent === 0 ? (mantissa / 8) * 2 ** -6 : (1 + mantissa / 8) * 2 ** (exponent - 7);
  });
  return positive.flatMap((value) => [value, -value]);
}
