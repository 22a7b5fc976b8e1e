import type { Layout } from "../protocol/tensor.js";
import { toWire, type WireNumber } from "../protocol/wire.js";
import { axisMapsOf, type AxisMap } from "./axisMaps.js";

/** Ops in execution order and the tensors that they read and make, by keys of any kind. */
export interface LayoutGraph<Key> {
  readonly tensors: Iterable<{
    readonly id: Key;
    readonly shape: readonly number[];
    /** Where it is known otherwise. */
    readonly layout?: Layout | undefined;
  }>;
  readonly ops: readonly LayoutOp<Key>[];
}

interface LayoutOp<Key> {
  readonly kind: string;
  readonly inputs: readonly (Key | null)[];
  readonly outputs: readonly Key[];
  readonly attributes: Readonly<Record<string, unknown>>;
}

/**
 * Finds which tensors of a trace are jagged or padded. It follows the graph from the jagged operators and from layouts
 * that the trace declares; the role of an axis comes from the op that made it, never from its size (a width of 200 that
 * happens to equal a length proves nothing). An op that is not known makes a dense tensor, so that all of it is compared.
 *
 * The pad value of a result is known only where the op keeps zero at zero; elsewhere it is "NaN": anything may stand there.
 * @returns layouts by tensor; tensors that are not in the map are dense
 */
export function propagateLayouts<Key>({ tensors, ops }: LayoutGraph<Key>): Map<Key, Layout> {
  const layouts = new Map<Key, Layout>();
  const shapes = new Map<Key, readonly number[]>();
  const declared = new Map<Key, Layout>();
  for (const tensor of tensors) {
    shapes.set(tensor.id, tensor.shape);
    if (tensor.layout && tensor.layout.kind !== "dense") declared.set(tensor.id, tensor.layout);
  }
  const learn = (id: Key, layout: Layout | undefined): void => {
    const known = declared.get(id) ?? layout;
    if (known && known.kind !== "dense") layouts.set(id, known);
  };
  for (const [id, layout] of declared) learn(id, layout);

  const forwards = (): void => {
    for (const op of ops) {
      const made = jaggedOperator(op, layouts);
      for (const [position, output] of op.outputs.entries()) {
        const shape = shapes.get(output);
        if (!shape) continue;
        if (made) learn(output, position === 0 ? made : undefined);
        else learn(output, propagated(op, shape, layouts, shapes));
      }
    }
  };
  forwards();
  // What is packed late was rows of the same samples before: x, of which q is made, which is then padded.
  let known: number;
  do {
    known = layouts.size;
    for (const op of [...ops].reverse()) {
      for (const [input, layout] of jaggedBefore(op, layouts, shapes)) {
        if (!layouts.has(input)) learn(input, layout);
      }
    }
    if (layouts.size > known) forwards();
  } while (layouts.size > known);
  return layouts;
}

/** The inputs whose rows are those of a jagged result. */
function jaggedBefore<Key>(
  op: LayoutOp<Key>,
  layouts: ReadonlyMap<Key, Layout>,
  shapes: ReadonlyMap<Key, readonly number[]>,
): [Key, Layout][] {
  const [made] = op.outputs;
  const layout = op.outputs.map((output) => layouts.get(output)).find((one) => one !== undefined);
  const shape = made === undefined ? undefined : shapes.get(made);
  if (!shape || layout?.kind !== "jagged") return [];
  const inputShapes = op.inputs.map((id) => (id === null ? undefined : shapes.get(id)));
  const rule = axisMapsOf(opName(op.kind), op.attributes, inputShapes, shape);
  return op.inputs.flatMap((input, position): [Key, Layout][] => {
    const hasRows = rule?.maps[position]?.[0] === 0 && inputShapes[position]?.[0] === shape[0];
    return input !== null && hasRows ? [[input, layout]] : [];
  });
}

/** The last part of an op's kind without underscores: "Tensor.__mul__" is "mul", "torch.nn.functional.silu" is "silu". */
export function opName(kind: string): string {
  const last = kind.slice(kind.lastIndexOf(".") + 1);
  return last.replace(/^_+|_+$/g, "").toLowerCase();
}

function jaggedOperator<Key>(
  op: LayoutOp<Key>,
  layouts: ReadonlyMap<Key, Layout>,
): Layout | undefined {
  const name = opName(op.kind);
  if (!op.kind.includes("fbgemm")) return undefined;
  const offsets = wholeNumbers(op.attributes["offsets"]);
  if (name === "dense_to_jagged") return offsets && { kind: "jagged", offsets };
  if (name === "jagged_to_padded_dense") {
    const values = op.inputs[0];
    const own = values === null || values === undefined ? undefined : layouts.get(values);
    const known = offsets ?? (own?.kind === "jagged" ? own.offsets : undefined);
    const pad = op.attributes["padding_value"];
    return (
      known && {
        kind: "padded",
        lengths: known.slice(1).map((end, b) => end - (known[b] as number)),
        batchAxis: 0,
        axes: [1],
        pad: typeof pad === "number" ? toWire(pad) : 0,
      }
    );
  }
  // Lengths, offsets and whatever other jagged operators return are dense as far as is known here.
  return { kind: "dense" };
}

function propagated<Key>(
  op: LayoutOp<Key>,
  shape: readonly number[],
  layouts: ReadonlyMap<Key, Layout>,
  shapes: ReadonlyMap<Key, readonly number[]>,
): Layout | undefined {
  const inputs = op.inputs.map((id) => (id === null ? undefined : { id, shape: shapes.get(id) }));
  if (!inputs.some((input) => input && layouts.has(input.id))) return undefined;
  const inputShapes = inputs.map((input) => input?.shape);
  const rule = axisMapsOf(opName(op.kind), op.attributes, inputShapes, shape);
  if (!rule) return undefined;
  let result: Layout | undefined;
  let zeroPad = rule.keepsZero !== "never";
  for (const [position, input] of inputs.entries()) {
    if (!input) continue;
    const layout = layouts.get(input.id);
    if (!layout || layout.kind === "dense") {
      // Adding a dense tensor writes into the padding, and one of them is enough.
      if (rule.keepsZero === "allInputs") zeroPad = false;
      continue;
    }
    const moved = move(layout, rule.maps[position]);
    if (!moved) return undefined;
    if (moved === "free") continue;
    if (moved.kind === "padded" && moved.pad !== 0) zeroPad = false;
    const joined = result ? join(result, moved) : moved;
    if (!joined) return undefined;
    result = joined;
  }
  if (result?.kind !== "padded") return result;
  const pad: WireNumber = rule.keepsPad ? result.pad : zeroPad ? 0 : "NaN";
  return { ...result, pad };
}

/**
 * A layout after its axes moved; undefined when the samples can no longer be told apart. "free": every padded axis was
 * summed over, as in attention · v, and what is left does not limit the result.
 */
function move(
  layout: Exclude<Layout, { kind: "dense" }>,
  map: AxisMap | undefined,
): Layout | "free" | undefined {
  if (!map) return undefined;
  if (layout.kind === "jagged") return map[0] === 0 ? layout : undefined;
  const batchAxis = map[layout.batchAxis];
  if (batchAxis === undefined || batchAxis === "changed" || batchAxis === "gone") return undefined;
  const axes: number[] = [];
  for (const axis of layout.axes) {
    const target = map[axis];
    if (target === undefined || target === "changed") return undefined;
    if (target !== "gone") axes.push(target);
  }
  return axes.length === 0 ? "free" : { ...layout, batchAxis, axes };
}

/** Valid where both are valid. */
function join(a: Layout, b: Layout): Layout | undefined {
  if (a.kind === "jagged" && b.kind === "jagged") {
    return sameNumbers(a.offsets, b.offsets) ? a : undefined;
  }
  if (a.kind !== "padded" || b.kind !== "padded") return undefined;
  if (a.batchAxis !== b.batchAxis || !sameNumbers(a.lengths, b.lengths)) return undefined;
  return {
    ...a,
    axes: [...new Set([...a.axes, ...b.axes])].sort((x, y) => x - y),
  };
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((x, i) => x === b[i]);
}

/** One list of offsets, bare or as the only list of a list. */
function wholeNumbers(value: unknown): number[] | undefined {
  if (Array.isArray(value) && value.length === 1 && Array.isArray(value[0])) {
    return wholeNumbers(value[0]);
  }
  return Array.isArray(value) && value.every((x) => Number.isInteger(x))
    ? (value as number[])
    : undefined;
}
