import type { Expansion, Node, StepWriter } from "./builder.js";
import { fold, foldLast, map, product, reshape, zip, type NdArray } from "./ndarray.js";

const add = (x: number, y: number): number => x + y;
const subtract = (x: number, y: number): number => x - y;
const multiply = (x: number, y: number): number => x * y;
const divide = (x: number, y: number): number => x / y;
const square = (x: number): number => x * x;

/** Mean, variance, root and quotient over the last axes, and then weight and bias. */
function normalised(
  w: StepWriter,
  input: Node,
  axes: number,
  eps: number,
  layOut: (a: NdArray) => NdArray = (a) => a,
  ofChannels: (parameter: Node) => NdArray = (parameter) => parameter,
): Expansion | undefined {
  const size = product(input.shape.slice(input.shape.length - axes));
  const meanOf = (a: NdArray): NdArray => map(foldLast(a, axes, 0, add), (x) => x / size);
  const mean = w.step("mean", meanOf(input), input);
  const centred = w.step("centred", zip(input, mean, subtract), input, mean);
  const squares = w.step("squares", map(centred, square), centred);
  const variance = w.step("variance", meanOf(squares), squares);
  return scaled(w, { centred, variance, eps, layOut, ofChannels });
}

interface Scaling {
  readonly centred: Node;
  readonly variance: Node;
  readonly eps: number;
  readonly layOut: (a: NdArray) => NdArray;
  readonly ofChannels: (parameter: Node) => NdArray;
}

function scaled(w: StepWriter, { centred, variance, eps, layOut, ofChannels }: Scaling) {
  const shifted = w.step(
    "variance + eps",
    map(variance, (x) => x + eps),
    variance,
  );
  const root = w.step("root", map(shifted, Math.sqrt), shifted);
  const quotient = layOut(zip(centred, root, divide));
  const normed = w.step("quotient", quotient, centred, root);
  const weight = w.operand("weight");
  const bias = w.operand("bias");
  if (!weight) return w.end(normed);
  const product = zip(normed, ofChannels(weight), multiply);
  if (!bias) return w.end(normed, weight);
  return w.end(w.step("product with the weight", product, normed, weight), bias);
}

export function layerNorm(w: StepWriter): Expansion | undefined {
  const input = w.operand("input");
  const shape = w.attribute("normalized_shape");
  return (
    input && normalised(w, input, Array.isArray(shape) ? shape.length : 1, w.number("eps", 1e-5))
  );
}

export function groupNorm(w: StepWriter): Expansion | undefined {
  const input = w.operand("input");
  if (!input) return undefined;
  const [batch = 1, channels = 1, ...places] = input.shape;
  const groups = w.number("num_groups", 1);
  const grouped = w.step("groups", reshape(input, [batch, groups, -1]), input);
  return normalised(
    w,
    grouped,
    1,
    w.number("eps", 1e-5),
    (a) => reshape(a, input.shape),
    (parameter) => reshape(parameter, [channels, ...places.map(() => 1)]),
  );
}

export function batchNorm(w: StepWriter): Expansion | undefined {
  const input = w.operand("input");
  const mean = w.operand("running_mean");
  const variance = w.operand("running_var");
  if (!input || !mean || !variance || w.attribute("training") === true) return undefined;
  const ofChannels = (parameter: NdArray): NdArray =>
    reshape(parameter, [parameter.data.length, ...input.shape.slice(2).map(() => 1)]);
  const centred = w.step("centred", zip(input, ofChannels(mean), subtract), input, mean);
  return scaled(w, {
    centred,
    variance: { ...variance, ...ofChannels(variance) },
    eps: w.number("eps", 1e-5),
    layOut: (a) => a,
    ofChannels,
  });
}

export function rmsNorm(w: StepWriter): Expansion | undefined {
  const input = w.operand("input");
  if (!input) return undefined;
  const shape = w.attribute("normalized_shape");
  const axes = Array.isArray(shape) ? shape.length : 1;
  const size = product(input.shape.slice(input.shape.length - axes));
  const squares = w.step("squares", map(input, square), input);
  const mean = map(foldLast(squares, axes, 0, add), (x) => x / size);
  const variance = w.step("mean of squares", mean, squares);
  return scaled(w, {
    centred: input,
    variance,
    // torch's default is the smallest step of the type.
    eps: w.number("eps", 2 ** -23),
    layOut: (a) => a,
    ofChannels: (parameter) => parameter,
  });
}

/** x / max(‖x‖, eps) over one axis. */
export function normalize(w: StepWriter): Expansion | undefined {
  const input = w.operand("input");
  if (!input) return undefined;
  const norm = normOver(w, input, w.number("p", 2), w.number("dim", 1), true);
  if (!norm) return undefined;
  const eps = w.number("eps", 1e-12);
  return w.end(
    input,
    w.step(
      "clamped norm",
      map(norm, (x) => Math.max(x, eps)),
      norm,
    ),
  );
}

/** torch.linalg.norm, vector_norm and Tensor.norm over one axis. */
export function vectorNorm(w: StepWriter): Expansion | undefined {
  const input = w.operand("input") ?? w.operand("self") ?? w.operand("x");
  const given = w.attribute("dim");
  const dim = Array.isArray(given) && given.length === 1 ? (given[0] as unknown) : given;
  if (!input || typeof dim !== "number") return undefined;
  const norm = normOver(w, input, w.number("ord", w.number("p", 2)), dim, false);
  return norm && w.end(norm);
}

/** The last step is the norm itself only where something follows it. */
function normOver(w: StepWriter, input: Node, p: number, dim: number, withRoot: boolean) {
  const axis = dim < 0 ? dim + input.shape.length : dim;
  if (p === 1) {
    const sizes = w.step("magnitudes", map(input, Math.abs), input);
    return withRoot ? w.step("sum", fold(sizes, axis, 0, add), sizes) : sizes;
  }
  if (p !== 2) return undefined;
  const squares = w.step("squares", map(input, square), input);
  const sum = w.step("sum of squares", fold(squares, axis, 0, add), squares);
  return withRoot ? w.step("norm", map(sum, Math.sqrt), sum) : sum;
}

export function softmax(w: StepWriter): Expansion | undefined {
  const parts = exponentials(w);
  return parts && w.end(parts.powers, parts.sum);
}

export function logSoftmax(w: StepWriter): Expansion | undefined {
  const parts = exponentials(w);
  return parts && w.end(parts.shifted, w.step("logarithm", map(parts.sum, Math.log), parts.sum));
}

function exponentials(w: StepWriter) {
  const input = w.operand("input") ?? w.operand("self");
  if (!input) return undefined;
  const dim = w.number("dim", -1);
  const axis = dim < 0 ? dim + input.shape.length : dim;
  const largest = w.step("maximum", fold(input, axis, -Infinity, Math.max), input);
  const shifted = w.step("shifted", zip(input, largest, subtract), input, largest);
  const powers = w.step("exponentials", map(shifted, Math.exp), shifted);
  const sum = w.step("sum", fold(powers, axis, 0, add), powers);
  return { shifted, powers, sum };
}
