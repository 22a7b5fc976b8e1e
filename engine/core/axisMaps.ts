/**
 * Where each axis of an input is in an op's output: its number, "gone" when it was summed over or indexed away, "changed"
 * when its positions no longer mean what they did.
 */
export type AxisMap = readonly (number | "gone" | "changed")[];

export interface AxisRule {
  /** One map for each input; undefined for an input that does not shape the output. */
  readonly maps: readonly (AxisMap | undefined)[];
  /**
   * Whether padding that is zero stays zero: when one factor is (`anyInput`), when all terms are (`allInputs`), or
   * `never`.
   */
  readonly keepsZero: "anyInput" | "allInputs" | "never";
  /** The op moves values and computes none. */
  readonly keepsPad?: boolean;
}

type Shape = readonly number[];

/** What a torch op does to the axes of its inputs; undefined for an op that is not known or not understood here. */
export function axisMapsOf(
  name: string,
  attributes: Readonly<Record<string, unknown>>,
  inputs: readonly (Shape | undefined)[],
  output: Shape,
): AxisRule | undefined {
  const first = inputs[0];
  if (!first) return undefined;
  if (name in elementwise) {
    const maps = inputs.map((shape) => shape && broadcastMap(shape, output));
    // With one tensor only, the other term is a number: it writes into the padding.
    if (elementwise[name] === "allInputs" && inputs.length < 2) return { maps, keepsZero: "never" };
    return {
      maps,
      keepsZero: elementwise[name] as AxisRule["keepsZero"],
      keepsPad: copies.has(name),
    };
  }
  if (rowwise.has(name)) return { maps: [identity(first)], keepsZero: "never" };
  if (name === "linear") {
    const biased = inputs[2] !== undefined;
    return {
      maps: [lastReplaced(first)],
      keepsZero: biased ? "never" : "anyInput",
    };
  }
  if (name === "embedding") {
    // torch.nn.functional.embedding(ids, weight): the rows of the ids stay where they are.
    return { maps: [identity(first)], keepsZero: "never" };
  }
  if (name === "addmm" || name === "baddbmm") {
    const product = matmulMaps(inputs[1], inputs[2], output);
    return (
      product && {
        maps: [broadcastMap(first, output), ...product],
        keepsZero: "allInputs",
      }
    );
  }
  if (products.has(name)) {
    const maps = matmulMaps(first, inputs[1], output);
    return maps && { maps, keepsZero: "anyInput" };
  }
  if (name === "einsum") {
    const maps = einsumMaps(attributes["equation"], inputs, output);
    return maps && { maps, keepsZero: "anyInput" };
  }
  if (views.has(name)) {
    return {
      maps: [leadingMap(first, output)],
      keepsZero: "anyInput",
      keepsPad: true,
    };
  }
  if (name === "transpose" || name === "swapaxes") {
    const a = axisOf(attributes, ["dim0", "axis0"], first.length);
    const b = axisOf(attributes, ["dim1", "axis1"], first.length);
    if (a === undefined || b === undefined) return undefined;
    const map = first.map((_, axis) => (axis === a ? b : axis === b ? a : axis));
    return { maps: [map], keepsZero: "anyInput", keepsPad: true };
  }
  if (name === "t" && first.length === 2) {
    return { maps: [[1, 0]], keepsZero: "anyInput", keepsPad: true };
  }
  if (name === "permute") {
    const dims = axesOf(attributes["dims"], first.length);
    if (!dims || dims.length !== first.length) return undefined;
    const map = first.map((_, axis) => dims.indexOf(axis));
    return { maps: [map], keepsZero: "anyInput", keepsPad: true };
  }
  if (name === "unsqueeze") {
    const dim = axisOf(attributes, ["dim"], output.length);
    if (dim === undefined) return undefined;
    const map = first.map((_, axis) => (axis < dim ? axis : axis + 1));
    return { maps: [map], keepsZero: "anyInput", keepsPad: true };
  }
  if (name === "squeeze") {
    const dim = axisOf(attributes, ["dim"], first.length);
    if (dim === undefined || first.length === output.length) return undefined;
    const map = first.map((_, axis) => (axis === dim ? "gone" : axis > dim ? axis - 1 : axis));
    return { maps: [map], keepsZero: "anyInput", keepsPad: true };
  }
  if (name === "group_norm") {
    // Groups of the second axis are normalized over all axes behind it.
    return { maps: [first.map((_, axis) => (axis < 2 ? axis : "changed"))], keepsZero: "never" };
  }
  const lookedUp = name === "getitem" ? lookUpMaps(attributes["index"], inputs, output) : undefined;
  if (lookedUp) return { maps: lookedUp, keepsZero: "never" };
  if (parts.has(name)) {
    // Only a cut through the last axis leaves rows whole. Any other indexing is not followed, least of all by a tensor,
    // which may permute an axis and keep its size.
    if (first.length !== output.length || inputs.length > 1) return undefined;
    return {
      maps: [lastReplaced(first, output)],
      keepsZero: "anyInput",
      keepsPad: true,
    };
  }
  if (name === "cat" || name === "concat" || name === "concatenate") {
    const maps = inputs.map((shape) => shape && sizeMap(shape, output));
    return { maps, keepsZero: "allInputs" };
  }
  if (reductions.has(name)) {
    const map = reductionMap(attributes, first, output);
    return map && { maps: [map], keepsZero: "never" };
  }
  return undefined;
}

const copies = new Set(
  "contiguous clone detach expand expand_as float double half to type".split(" "),
);

/** Element by element, with how they treat zero: a product keeps one factor's zero, a sum needs all of them. */
const elementwise: Readonly<Record<string, AxisRule["keepsZero"]>> = Object.fromEntries([
  ...[
    ...copies,
    ..."silu relu gelu tanh sin neg abs sqrt square dropout mul rmul imul multiply trunc floor ceil round".split(
      " ",
    ),
  ].map((name) => [name, "anyInput"] as const),
  ..."add radd iadd sub rsub isub subtract".split(" ").map((name) => [name, "allInputs"] as const),
  ..."div rdiv truediv rtruediv itruediv divide true_divide floor_divide floordiv sigmoid exp log log1p cos clamp clamp_min clamp_max clip where masked_fill maximum minimum pow rsqrt reciprocal softplus eq ne lt le gt ge logical_not logical_and logical_or and or xor invert bitwise_and bitwise_or bitwise_not long int bool isnan"
    .split(" ")
    .map((name) => [name, "never"] as const),
]);

/** Work within a row of the last axis. */
const rowwise = new Set("layer_norm rms_norm softmax log_softmax normalize".split(" "));
const products = new Set("mm matmul bmm rmatmul".split(" "));
const views = new Set("view reshape flatten unflatten view_as reshape_as".split(" "));
const parts = new Set(
  "split chunk split_with_sizes tensor_split getitem narrow slice unbind".split(" "),
);
const reductions = new Set(
  "sum mean norm vector_norm amax amin max min var std prod any all".split(" "),
);

function identity(shape: Shape): AxisMap {
  return shape.map((_, axis) => axis);
}

/** Axes align at the right; one of size 1 that is stretched has no positions of its own. */
function broadcastMap(input: Shape, output: Shape): AxisMap {
  const shift = output.length - input.length;
  return input.map((size, axis) => {
    const target = axis + shift;
    if (target < 0) return "changed";
    return size === output[target] ? target : size === 1 ? "gone" : "changed";
  });
}

/** All axes stay but the last, which is another one now. */
function lastReplaced(input: Shape, output?: Shape): AxisMap {
  const last = input.length - 1;
  return input.map((size, axis) =>
    output ? (output[axis] === size ? axis : "changed") : axis === last ? "changed" : axis,
  );
}

function sizeMap(input: Shape, output: Shape): AxisMap {
  return input.map((size, axis) => (output[axis] === size ? axis : "changed"));
}

/** A view keeps its leading axes as long as their sizes agree; what follows was split or merged. */
function leadingMap(input: Shape, output: Shape): AxisMap {
  let kept = 0;
  while (kept < input.length && kept < output.length && input[kept] === output[kept]) kept++;
  // A size of −1 is not known, and two unknown sizes are not equal.
  const known = input.slice(0, kept).every((size) => size >= 0);
  return input.map((_, axis) => (known && axis < kept ? axis : "changed"));
}

function matmulMaps(
  a: Shape | undefined,
  b: Shape | undefined,
  output: Shape,
): (AxisMap | undefined)[] | undefined {
  if (!a || !b || a.length < 2 || b.length < 2) return undefined;
  const rank = output.length;
  const batch = (shape: Shape): AxisMap =>
    broadcastMap(shape.slice(0, -2), output.slice(0, rank - 2));
  return [
    [...batch(a), rank - 2, "gone"],
    [...batch(b), "gone", rank - 1],
  ];
}

function einsumMaps(
  equation: unknown,
  inputs: readonly (Shape | undefined)[],
  output: Shape,
): (AxisMap | undefined)[] | undefined {
  if (typeof equation !== "string") return undefined;
  const [left, right] = equation.replace(/\s/g, "").split("->");
  const terms = left?.split(",");
  if (!terms || right === undefined || /[^A-Za-z]/.test(right) || right.length !== output.length) {
    return undefined;
  }
  const operands = inputs.slice(0, terms.length);
  const fits = terms.every((term, i) => operands[i]?.length === term.length);
  if (!fits) return undefined;
  return terms.map((term) =>
    [...term].map((letter) => (right.includes(letter) ? right.indexOf(letter) : "gone")),
  );
}

/** `table[:, ids]`: the axes of the ids come in the place of the one that they index. */
function lookUpMaps(
  index: unknown,
  [table, ids, ...others]: readonly (Shape | undefined)[],
  output: Shape,
): AxisMap[] | undefined {
  if (!table || !ids || others.length > 0) return undefined;
  const places = index === undefined ? [{ operand: 1 }] : index;
  if (!Array.isArray(places) || output.length !== table.length - 1 + ids.length) return undefined;
  const at = places.length - 1;
  const isLast = JSON.stringify(places[at]) === JSON.stringify({ operand: 1 });
  const isWhole = (place: unknown): boolean =>
    JSON.stringify(place) === JSON.stringify({ slice: [null, null, null] });
  if (!isLast || !places.slice(0, at).every(isWhole)) return undefined;
  if (!ids.every((size, axis) => output[at + axis] === size)) return undefined;
  return [
    table.map((_, axis) => (axis < at ? axis : axis === at ? "gone" : axis + ids.length - 1)),
    ids.map((_, axis) => at + axis),
  ];
}

function reductionMap(
  attributes: Readonly<Record<string, unknown>>,
  input: Shape,
  output: Shape,
): AxisMap | undefined {
  const dim = attributes["dim"];
  const dims = axesOf(typeof dim === "number" ? [dim] : dim, input.length);
  if (!dims) return undefined;
  const keepsRank = output.length === input.length;
  if (!keepsRank && output.length !== input.length - dims.length) return undefined;
  return input.map((_, axis) =>
    dims.includes(axis)
      ? "gone"
      : keepsRank
        ? axis
        : axis - dims.filter((reduced) => reduced < axis).length,
  );
}

function axisOf(
  attributes: Readonly<Record<string, unknown>>,
  names: readonly string[],
  rank: number,
): number | undefined {
  const value = names.map((name) => attributes[name]).find((v) => v !== undefined);
  return axesOf([value], rank)?.[0];
}

function axesOf(value: unknown, rank: number): number[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const axes = value.map((axis: unknown) =>
    typeof axis === "number" && axis < 0 ? axis + rank : axis,
  );
  return axes.every(
    (axis): axis is number =>
      typeof axis === "number" && Number.isInteger(axis) && axis >= 0 && axis < rank,
  )
    ? axes
    : undefined;
}
