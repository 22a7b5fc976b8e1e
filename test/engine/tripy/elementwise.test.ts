import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DType } from "../../../engine/protocol/tensor.js";
import { expectClose, expectSame, tolerance } from "./expectValues.js";
import {
  at,
  broadcastPairs,
  broadcastShape,
  build,
  elements,
  holds,
  shapes,
  tensors,
} from "./ndarray.js";
import { evaluate, roundTo, values, type Values } from "./runTrace.js";

const FLOATS: DType[] = ["float32", "float16", "bfloat16"];
const INTEGERS: DType[] = ["int8", "int32", "int64"];

describe("binary arithmetic", () => {
  const oracles: Record<string, (a: number, b: number) => number> = {
    Add: (a, b) => a + b,
    Sub: (a, b) => a - b,
    Mul: (a, b) => a * b,
    Max: Math.max,
    Min: Math.min,
  };
  for (const [kind, oracle] of Object.entries(oracles)) {
    it.each([...FLOATS, ...INTEGERS])(
      `${kind} on %s agrees with the naive result exactly`,
      async (dtype) => {
        await holds(broadcastPairs(dtype), async ([a, b]) => {
          expectSame(await binary(kind, a, b), naive(dtype, a, b, oracle));
        });
      },
    );
  }

  it.each(["Max", "Min"])("%s passes NaN on from either side", async (kind) => {
    const a = values("float32", [3], [NaN, 1, 2]);
    const b = values("float32", [3], [1, NaN, 3]);
    const [got] = await evaluate({
      kind,
      inputs: [a, b],
      outputs: [{ dtype: "float32", rank: 1 }],
    });
    expect(got?.data.slice(0, 2)).toEqual([NaN, NaN]);
  });

  it("int8 arithmetic wraps as two's complement", async () => {
    const got = await binary("Add", values("int8", [2], [127, -128]), values("int8", [2], [1, -1]));
    expect(got?.data).toEqual([-128, 127]);
  });

  it("float16 rounds after every op, also where ONNX Runtime could drop casts between two of them", async () => {
    const a = values("float16", [1], [2048]);
    const got = await binary("Add", a, values("float16", [1], [1]));
    expect(got?.data).toEqual([2048]);
  });

  it.each(["int64", "float32", "float16"] as DType[])("Pow on %s", async (dtype) => {
    const a = values(dtype, [4], [2, 3, -2, 1]);
    const b = values(dtype, [4], [3, 4, 3, 0]);
    expectSame(await binary("Pow", a, b), values(dtype, [4], [8, 81, -8, 1]));
  });
});

describe("division", () => {
  it.each(FLOATS)("Div on %s is the quotient, with ±Inf and NaN at zero", async (dtype) => {
    await holds(broadcastPairs(dtype), async ([a, b]) => {
      expectSame(
        await binary("Div", a, b),
        naive(dtype, a, b, (x, y) => x / y),
      );
    });
  });

  it.each(FLOATS)("FloorDiv on %s is the floor of the quotient", async (dtype) => {
    await holds(broadcastPairs(dtype), async ([a, b]) => {
      expectSame(
        await binary("FloorDiv", a, b),
        naive(dtype, a, b, (x, y) => Math.floor(Math.fround(x / y))),
      );
    });
  });

  for (const [kind, round] of [
    ["Div", Math.trunc],
    ["FloorDiv", Math.floor],
  ] as const) {
    it.each(INTEGERS)(
      `${kind} on %s rounds ${kind === "Div" ? "to zero" : "down"} and gives 0 for x/0`,
      async (dtype) => {
        await holds(broadcastPairs(dtype), async ([a, b]) => {
          const expected = naive(dtype, a, b, (x, y) => (y === 0 ? 0 : round(x / y)));
          expectSame(await binary(kind, a, b), expected);
        });
      },
    );

    it(`${kind} by a constant agrees, at both ends of int32 too`, async () => {
      const a = values("int32", [6], [7, -7, 0, -1, 2 ** 31 - 1, -(2 ** 31)]);
      for (const divisor of [2, -2, 3, -1, 1]) {
        const b = values("int32", [1], [divisor]);
        const [got] = await evaluate({
          kind,
          inputs: [a, { constant: b }],
          outputs: [{ dtype: "int32", rank: 1 }],
        });
        expectSame(
          got,
          naive("int32", a, b, (x, y) => round(x / y)),
        );
      }
    });

    it.each([true, false])(
      `${kind} of the lowest int64 by −1 wraps and does not end the process (constant: %s)`,
      async (constant) => {
        const lowest = -(2 ** 63);
        const b = values("int64", [3], [-1, -1, 0]);
        const [got] = await evaluate({
          kind,
          inputs: [values("int64", [3], [lowest, 7, lowest]), constant ? { constant: b } : b],
          outputs: [{ dtype: "int64", rank: 1 }],
        });
        expect(got?.data).toEqual([lowest, -7, 0]);
      },
    );

    it(`${kind} by a constant zero gives 0 and does not end the process`, async () => {
      const [got] = await evaluate({
        kind,
        inputs: [values("int32", [2], [5, -5]), { constant: values("int32", [2], [0, 2]) }],
        outputs: [{ dtype: "int32", rank: 1 }],
      });
      expect(got?.data).toEqual([0, round(-2.5)]);
    });
  }
});

describe("comparison and logic", () => {
  const oracles: Record<string, (a: number, b: number) => boolean> = {
    Less: (a, b) => a < b,
    Greater: (a, b) => a > b,
    Equal: (a, b) => a === b,
  };
  for (const [kind, oracle] of Object.entries(oracles)) {
    it.each([...FLOATS, ...INTEGERS, "bool"] as DType[])(`${kind} on %s`, async (dtype) => {
      await holds(broadcastPairs(dtype), async ([a, b]) => {
        expectSame(
          await binary(kind, a, b, "bool"),
          naive("bool", a, b, (x, y) => Number(oracle(x, y))),
        );
      });
    });
  }

  it("LogicalOr and Not", async () => {
    const [a, b] = [values("bool", [2, 2], [0, 0, 1, 1]), values("bool", [2, 2], [0, 1, 0, 1])];
    expectSame(await binary("LogicalOr", a, b), values("bool", [2, 2], [0, 1, 1, 1]));
    expectSame(await unary("Not", a), values("bool", [2, 2], [1, 1, 0, 0]));
  });
});

describe("unary functions", () => {
  const exact: Record<string, (x: number) => number> = {
    Neg: (x) => -x,
    Abs: Math.abs,
    Relu: (x) => Math.max(x, 0),
  };
  for (const [kind, oracle] of Object.entries(exact)) {
    it.each([...FLOATS, ...INTEGERS])(`${kind} on %s`, async (dtype) => {
      await holds(
        shapes().chain((shape) => tensors(dtype, shape)),
        async (x) => {
          expectSame(await unary(kind, x), values(dtype, x.shape, x.data.map(oracle)));
        },
      );
    });
  }

  const approximate: Record<string, (x: number) => number> = {
    Exp: Math.exp,
    Log: Math.log,
    Sqrt: Math.sqrt,
    Sin: Math.sin,
    Cos: Math.cos,
    Recip: (x) => 1 / x,
    Tanh: Math.tanh,
    Sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  };
  for (const [kind, oracle] of Object.entries(approximate)) {
    it.each(FLOATS)(`${kind} on %s`, async (dtype) => {
      const element =
        dtype === "float16" ? fc.double({ min: -9, max: 9, noNaN: true }) : elements(dtype);
      await holds(
        shapes().chain((shape) => tensors(dtype, shape, element)),
        async (x) => {
          const expected = values(dtype, x.shape, x.data.map(oracle));
          expectClose(
            await unary(kind, x),
            expected,
            tolerance(dtype, 2e-6),
            dtype === "float32" ? 1e-7 : 1e-6,
          );
        },
      );
    });
  }

  it("Sigmoid keeps its relative precision far from zero and reaches its limits", async () => {
    const x = values("float32", [6], [-5, -20, -60, 30, -200, 200]);
    const expected = x.data.map((v) => 1 / (1 + Math.exp(-v)));
    const got = await unary("Sigmoid", x);
    expectClose({ ...(got as Values) }, values("float32", [6], expected), 3e-7);
  });

  it("GeluErf agrees with the error function", async () => {
    const got = await unary("GeluErf", values("float32", [4], [-1, 0, 1, 3]));
    // 0.5 x (1 + erf(x / √2)), from tables of the normal distribution.
    expectClose(got, values("float32", [4], [-0.15865525, 0, 0.84134475, 2.9959503]), 1e-6);
  });
});

describe("Cast", () => {
  const types: DType[] = ["float32", "float16", "bfloat16", "int32", "int64", "int8", "bool"];
  for (const from of types) {
    it.each(types)(`${from} to %s keeps what the type can hold`, async (to) => {
      const data =
        from === "bool" ? [0, 1] : from.startsWith("int") ? [-7, 0, 100] : [-2.75, 0, 0.3, 99.5];
      const x = values(from, [data.length], data);
      for (const dtype of [to, `tp.${to}`]) {
        const [got] = await evaluate({
          kind: "Cast",
          inputs: [x],
          attributes: { dtype },
          outputs: [{ dtype: to, rank: 1 }],
        });
        expectSame(got, values(to, x.shape, [...x.data]));
      }
    });
  }
});

describe("Where", () => {
  it.each([...FLOATS, ...INTEGERS, "bool"] as DType[])(
    "on %s chooses per element and broadcasts",
    async (dtype) => {
      await holds(broadcastPairs(dtype), async ([a, b]) => {
        const shape = broadcastShape(a.shape, b.shape);
        const condition = build("bool", shape, (index) =>
          index.reduce((x, y) => x + y, 0) % 2 ? 0 : 1,
        );
        const [got] = await evaluate({
          kind: "Where",
          inputs: [condition, a, b],
          outputs: [{ dtype, rank: shape.length }],
        });
        expectSame(
          got,
          build(dtype, shape, (index) => (at(condition, index) ? at(a, index) : at(b, index))),
        );
      });
    },
  );
});

async function binary(
  kind: string,
  a: Values,
  b: Values,
  dtype: DType = a.dtype,
): Promise<Values | undefined> {
  return (
    await evaluate({
      kind,
      inputs: [a, b],
      outputs: [{ dtype, rank: a.shape.length }],
    })
  )[0];
}

async function unary(kind: string, x: Values): Promise<Values | undefined> {
  return (
    await evaluate({
      kind,
      inputs: [x],
      outputs: [{ dtype: x.dtype, rank: x.shape.length }],
    })
  )[0];
}

function naive(dtype: DType, a: Values, b: Values, f: (x: number, y: number) => number): Values {
  return build(dtype, broadcastShape(a.shape, b.shape), (index) =>
    roundTo(dtype, f(at(a, index), at(b, index))),
  );
}
