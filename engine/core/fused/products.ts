import type { Expansion, Node, StepWriter } from "./builder.js";
import {
  fold,
  map,
  matmul,
  permute,
  product,
  reshape,
  slice,
  zip,
  type NdArray,
} from "./ndarray.js";

const add = (x: number, y: number): number => x + y;
const subtract = (x: number, y: number): number => x - y;
const multiply = (x: number, y: number): number => x * y;
export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** Larger products are not computed again only to be looked at. */
const mostMultiplications = 1e8;

/** x·Wᵀ, multiplied again: the result less the bias has the rounding of the larger of the two. */
export function linear(w: StepWriter): Expansion | undefined {
  const input = w.operand("input");
  const weight = w.operand("weight");
  const bias = w.operand("bias");
  if (!input || !weight || !bias || weight.shape.length !== 2) return undefined;
  if (input.data.length * (weight.shape[0] ?? 0) > mostMultiplications) return undefined;
  const flat = reshape(input, [-1, input.shape.at(-1) ?? 1]);
  const product = reshape(matmul(flat, transposed(weight)), [
    ...input.shape.slice(0, -1),
    weight.shape[0] as number,
  ]);
  return w.end(w.step("product", product, input, weight), bias);
}

export function addmm(w: StepWriter): Expansion | undefined {
  const bias = w.operand("input") ?? w.operand("self");
  const left = w.operand("mat1");
  const right = w.operand("mat2");
  if (!bias || !left || !right) return undefined;
  if (w.number("alpha", 1) !== 1 || w.number("beta", 1) !== 1) return undefined;
  if (left.data.length * (right.shape[1] ?? 0) > mostMultiplications) return undefined;
  return w.end(w.step("product", matmul(left, right), left, right), bias);
}

export function silu(w: StepWriter): Expansion | undefined {
  const input = w.operand("input") ?? w.operand("self");
  return input && w.end(input, w.step("sigmoid", map(input, sigmoid), input));
}

/** The distribution function is the quotient of result and input. */
export function gelu(w: StepWriter): Expansion | undefined {
  const input = w.operand("input") ?? w.operand("self");
  const result = w.result();
  if (!input || !result) return undefined;
  if (w.attribute("approximate") === "tanh") {
    const inner = map(input, (x) => Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3));
    const argument = w.step("argument", inner, input);
    const tanh = w.step("tanh", map(argument, Math.tanh), argument);
    return w.end(
      input,
      w.step(
        "1 + tanh",
        map(tanh, (x) => x + 1),
        tanh,
      ),
    );
  }
  const argument = w.step(
    "argument",
    map(input, (x) => x / Math.SQRT2),
    input,
  );
  const share = zip(result, input, (y, x) => (x === 0 ? 0.5 : y / x));
  const erf = w.step(
    "erf",
    map(share, (x) => 2 * x - 1),
    argument,
  );
  return w.end(
    input,
    w.step(
      "1 + erf",
      map(share, (x) => 2 * x),
      erf,
    ),
  );
}

export function softplus(w: StepWriter): Expansion | undefined {
  const input = w.operand("input") ?? w.operand("self");
  if (!input || w.number("beta", 1) !== 1) return undefined;
  const power = w.step("exponential", map(input, Math.exp), input);
  return w.end(
    w.step(
      "1 + exponential",
      map(power, (x) => 1 + x),
      power,
    ),
  );
}

export function glu(w: StepWriter): Expansion | undefined {
  const input = w.operand("input") ?? w.operand("self");
  if (!input) return undefined;
  const dim = w.number("dim", -1);
  const axis = dim < 0 ? dim + input.shape.length : dim;
  const half = (input.shape[axis] ?? 0) / 2;
  const value = w.step("value", slice(input, axis, 0, half), input);
  const gate = w.step("gate", slice(input, axis, half, 2 * half), input);
  return w.end(value, w.step("sigmoid", map(gate, sigmoid), gate));
}

/** Scores, scale, mask, softmax and the weighted values. */
export function attention(w: StepWriter): Expansion | undefined {
  const [query, key, value] = ["query", "key", "value"].map((role) => w.operand(role));
  if (!query || !key || !value || w.attribute("enable_gqa") === true) return undefined;
  if (w.number("dropout_p", 0) !== 0) return undefined;
  const scale = w.number("scale", 1 / Math.sqrt(query.shape.at(-1) ?? 1));
  const weights = weightsOf(w, query, key, { scale, mask: w.operand("attn_mask") });
  return weights && w.made(() => matmul(weights, value), weights, value);
}

interface Scores {
  readonly scale: number;
  readonly mask: Node | undefined;
}

function weightsOf(w: StepWriter, query: Node, key: Node, { scale, mask }: Scores) {
  const [length = 1, width = 1] = query.shape.slice(-2);
  const others = key.shape.at(-2) ?? 1;
  const lead = query.shape.slice(0, -2);
  if (product(lead) * length * width * others > mostMultiplications) return undefined;
  const scores = w.step("scores", matmul(query, transposed(key)), query, key);
  let current = w.step(
    "scaled scores",
    map(scores, (x) => x * scale),
    scores,
  );
  if (mask) {
    // A boolean mask says what is kept.
    const isBoolean = mask.data.every((x) => x === 0 || x === 1);
    const masked = isBoolean
      ? zip(current, mask, (x, keep) => (keep ? x : -Infinity))
      : zip(current, mask, add);
    current = w.step("masked scores", masked, current, mask);
  }
  if (w.attribute("is_causal") === true) {
    const data = current.data.map((x, n) =>
      n % others <= Math.floor(n / others) % length ? x : -Infinity,
    );
    current = w.step("masked scores", { shape: current.shape, data }, current);
  }
  const last = current.shape.length - 1;
  const largest = fold(current, last, -Infinity, Math.max);
  const powers = map(zip(current, largest, subtract), Math.exp);
  return w.step(
    "weights",
    zip(powers, fold(powers, last, 0, add), (x, y) => x / y),
    current,
  );
}

/** torch.nn.MultiheadAttention on [length, batch, width]: projections, heads, attention, projection. */
export function multiHeadAttention(w: StepWriter): Expansion | undefined {
  const [query, key, value] = ["query", "key", "value"].map((role) => w.operand(role));
  const weight = w.operand("in_proj_weight");
  const bias = w.operand("in_proj_bias");
  const out = w.operand("out_proj_weight");
  const heads = w.number("num_heads", 1);
  if (!query || !key || !value || !weight || !out || query.shape.length !== 3) return undefined;
  if (w.operand("attn_mask") || w.operand("key_padding_mask")) return undefined;
  if (w.attribute("training") === true && w.number("dropout_p", 0) !== 0) return undefined;
  const [length = 1, batch = 1, width = 1] = query.shape;
  if (product(key.shape) * width * 4 > mostMultiplications) return undefined;
  const perHead = width / heads;
  const project = (name: string, input: Node, at: number): Node => {
    const own = slice(weight, 0, at * width, (at + 1) * width);
    const made = matmul(input, transposed(own));
    const withBias = bias ? zip(made, slice(bias, 0, at * width, (at + 1) * width), add) : made;
    return w.step(name, withBias, input, weight, ...(bias ? [bias] : []));
  };
  const split = (name: string, a: Node): Node => {
    const laidOut = reshape(a, [-1, batch, heads, perHead]);
    return w.step(`${name} by head`, permute(laidOut, [1, 2, 0, 3]), a);
  };
  const q = split("query", project("projected query", query, 0));
  const k = split("key", project("projected key", key, 1));
  const v = split("value", project("projected value", value, 2));
  const weights = weightsOf(w, q, k, { scale: 1 / Math.sqrt(perHead), mask: undefined });
  if (!weights) return undefined;
  const mixed = w.step("weighted values", matmul(weights, v), weights, v);
  const merged = reshape(permute(mixed, [2, 0, 1, 3]), [length, batch, width]);
  const outBias = w.operand("out_proj_bias");
  const joined = w.step("merged heads", merged, mixed);
  const projected = (): NdArray => {
    const product = matmul(joined, transposed(out));
    return outBias ? zip(product, outBias, add) : product;
  };
  return w.made(projected, joined, out, ...(outBias ? [outBias] : []));
}

export function transposed(a: NdArray): NdArray {
  const axes = [...a.shape.keys()];
  const [x, y] = axes.splice(-2) as [number, number];
  return permute(a, [...axes, y, x]);
}

export { add, multiply, subtract };
