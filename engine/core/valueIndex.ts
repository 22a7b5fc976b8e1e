import type { Alignment } from "./alignment.js";
import { distance } from "./difference.js";
import { elementCount, float64Reader, isFloat, type Float64Reader } from "./dtypes.js";
import { fillsBeyond } from "./maskedFills.js";
import { dtypeTolerance } from "./gates.js";
import { align } from "./layouts.js";
import { producers, type Observation, type ObservedTensor, type TensorKey } from "./observation.js";
import type { TensorValue } from "./tensorValue.js";

/** A reference tensor that holds the same numbers as a candidate tensor. */
export interface ValueMatch {
  readonly reference: TensorKey;
  readonly alignment: Alignment;
}

/**
 * Finds reference tensors by their values. A sample of the elements proposes, all elements decide: relL2 of at most
 * 2e-6 and max|d|/max|r| of at most 2e-5, or what the narrower float type admits; integers exactly.
 */
export interface ValueIndex {
  /** Reference tensors that hold these numbers, those of the same shape first. Looks no further than it is read. */
  readonly matches: (value: TensorValue) => Iterable<ValueMatch>;
  /** Reference tensors that a candidate tensor of this shape and kind could hold, whatever its values, in order. */
  readonly fitting: (value: Pick<TensorValue, "shape" | "dtype">) => readonly ValueMatch[];
  /** Whether the values of a pair are the same by the index's own gates. */
  readonly isSame: (match: ValueMatch, value: TensorValue) => boolean;
  /**
   * Tensors of one class hold the same numbers in whatever shape and order: views and transposes of one another. What
   * the index does not have has no class.
   */
  readonly classOf: (reference: TensorKey) => string | undefined;
}

interface Entry {
  readonly tensor: ObservedTensor & { readonly value: TensorValue };
  readonly read: Float64Reader;
  readonly maxAbsolute: number;
  readonly classKey: string;
  readonly position: number;
  /** It is kept, and not computed. */
  readonly isKept: boolean;
}

/** One way in which tensors of a shape lie in those of another, with some positions to look at first. */
interface Fit {
  readonly alignment: Alignment;
  readonly samples: readonly { readonly reference: number; readonly candidate: number }[];
  readonly members: readonly Entry[];
}

const lookUp = { relL2: 2e-6, linfRel: 2e-5 };
/** Fewer elements say too little about where they came from. */
const fewestElements = 2;
const sampleSize = 24;

/** @param kept Buffers that the other side may compute. */
export function indexValues(reference: Observation, kept: readonly TensorKey[] = []): ValueIndex {
  const entries = entriesOf(reference, kept);
  const entryOf = new Map(entries.map((entry) => [entry.tensor.key, entry]));
  const groups = groupByLayout(entries);
  const fitsOf = new Map<string, readonly Fit[]>();
  const fitsFor = (shape: readonly number[]): readonly Fit[] => {
    const key = shape.join();
    const known = fitsOf.get(key) ?? groups.flatMap((members) => fitsBetween(members, shape));
    fitsOf.set(key, known);
    return known;
  };
  const isSame: ValueIndex["isSame"] = ({ reference: key, alignment }, value) => {
    const r = entryOf.get(key)?.tensor.value ?? reference.tensors.get(key)?.value;
    return r !== undefined && isWithin(r, value, alignment);
  };

  return {
    matches: function* (value) {
      const read = float64Reader(value);
      const proposed: { alignment: Alignment; entry: Entry }[] = [];
      for (const { alignment, samples, members } of fitsFor(value.shape)) {
        for (const entry of members) {
          const r = entry.tensor.value;
          if (isFloat(r.dtype) !== isFloat(value.dtype)) continue;
          if (!samplesAgree(entry, read, samples, gatesFor(r, value).linfRel)) continue;
          proposed.push({ alignment, entry });
        }
      }
      const direct = ({ transform }: Alignment): number => (transform === "identical" ? 0 : 1);
      proposed.sort(
        (a, b) => direct(a.alignment) - direct(b.alignment) || a.entry.position - b.entry.position,
      );
      for (const { alignment, entry } of proposed) {
        if (isWithin(entry.tensor.value, value, alignment)) {
          yield { reference: entry.tensor.key, alignment };
        }
      }
    },
    fitting: ({ shape, dtype }) =>
      fitsFor(shape)
        .flatMap(({ alignment, members }) => members.map((entry) => ({ alignment, entry })))
        .filter(({ entry }) => isFloat(entry.tensor.dtype) === isFloat(dtype))
        .sort((a, b) => a.entry.position - b.entry.position)
        .map(({ alignment, entry }) => ({ reference: entry.tensor.key, alignment })),
    isSame,
    classOf: (key) => entryOf.get(key)?.classKey,
  };
}

/** What an op of the reference made, and says something: elements that are all the same match by chance. */
function entriesOf(reference: Observation, kept: readonly TensorKey[]): Entry[] {
  const entries: Entry[] = [];
  const isKept = new Set(kept);
  let position = 0;
  for (const key of [...kept, ...producers(reference).keys()]) {
    const tensor = reference.tensors.get(key);
    if (!tensor?.value) continue;
    const entry = entryFor(tensor as Entry["tensor"], position++, isKept.has(key));
    if (entry) entries.push(entry);
  }
  return entries;
}

function entryFor(tensor: Entry["tensor"], position: number, isKept: boolean): Entry | undefined {
  const whole = align(tensor, { shape: tensor.shape, layout: tensor.layout });
  if (!whole.ok || whole.alignment.count < fewestElements) return undefined;
  const read = float64Reader(tensor.value);
  let sum = 0;
  let squares = 0;
  let maxAbsolute = 0;
  let first: number | undefined;
  let varies = false;
  const fills = fillsBeyond(tensor.value);
  const chunk = new Float64Array(4096);
  for (const run of whole.alignment.runs) {
    for (let done = 0; done < run.length; done += chunk.length) {
      const length = Math.min(chunk.length, run.length - done);
      read(run.reference + done, length, chunk, 0);
      first ??= chunk[0] as number;
      for (let i = 0; i < length; i++) {
        const x = chunk[i] as number;
        varies ||= x !== first;
        const size = Math.abs(x);
        if (size > fills) continue;
        sum += size;
        squares += size * size;
        if (size > maxAbsolute) maxAbsolute = size;
      }
    }
  }
  if (!varies || !Number.isFinite(squares)) return undefined;
  const classKey = `${whole.alignment.count} ${sum.toPrecision(9)} ${squares.toPrecision(9)}`;
  return { tensor, read, maxAbsolute, classKey, position, isKept };
}

function groupByLayout(entries: readonly Entry[]): Entry[][] {
  const groups = new Map<string, Entry[]>();
  for (const entry of entries) {
    const { shape, layout } = entry.tensor;
    const key = `${entry.isKept} ${shape.join()} ${JSON.stringify(layout)}`;
    const group = groups.get(key);
    if (group) group.push(entry);
    else groups.set(key, [entry]);
  }
  return [...groups.values()];
}

/** All ways in which a shape can hold these tensors. Axes of equal size keep their order: a swap of them is a fault. */
function fitsBetween(members: readonly Entry[], shape: readonly number[]): Fit[] {
  const [lead] = members;
  if (!lead) return [];
  const fits: Fit[] = [];
  for (const permutation of permutations(shape)) {
    const isIdentity = permutation.every((axis, i) => axis === i);
    // Padded to another width and turned round at once: that is rather the wrong axis.
    if (
      !isIdentity &&
      lead.tensor.layout.kind === "padded" &&
      elementCount(lead.tensor.shape) !== elementCount(shape)
    )
      continue;
    const order = isIdentity ? {} : { permutation };
    const aligned = align(lead.tensor, { shape }, { ...order, regroups: !lead.isKept });
    if (!aligned.ok || aligned.findings.length > 0) continue;
    const { alignment } = aligned;
    // Padding may hold anything, but a part of a dense tensor is another quantity.
    if (lead.tensor.layout.kind === "dense" && alignment.count !== elementCount(shape)) continue;
    fits.push({ alignment, samples: samplesOf(alignment), members });
  }
  return fits;
}

function permutations(shape: readonly number[]): number[][] {
  const axes = shape.map((_, axis) => axis);
  // More axes than an attention matrix has are left in their order.
  if (axes.length > 4) return [axes];
  const all = (rest: readonly number[]): number[][] =>
    rest.length === 0
      ? [[]]
      : rest.flatMap((axis) => all(rest.filter((a) => a !== axis)).map((tail) => [axis, ...tail]));
  const keepsEqualAxes = (order: readonly number[]): boolean =>
    order.every((axis, i) => order.slice(i + 1).every((b) => b > axis || shape[b] !== shape[axis]));
  return all(axes).filter(keepsEqualAxes);
}

function samplesOf({ runs, count }: Alignment): Fit["samples"] {
  const samples: { reference: number; candidate: number }[] = [];
  const step = Math.max(1, count / sampleSize);
  let next = 0;
  let passed = 0;
  for (const run of runs) {
    while (next < passed + run.length) {
      const offset = Math.floor(next) - passed;
      if (offset >= 0) {
        samples.push({ reference: run.reference + offset, candidate: run.candidate + offset });
      }
      next += step;
    }
    passed += run.length;
  }
  return samples;
}

const one = new Float64Array(2);

function samplesAgree(
  { read, maxAbsolute }: Entry,
  readCandidate: Float64Reader,
  samples: Fit["samples"],
  linfRel: number,
): boolean {
  const limit = linfRel * maxAbsolute;
  return samples.every(({ reference, candidate }) => {
    read(reference, 1, one, 0);
    readCandidate(candidate, 1, one, 1);
    const [r, c] = one as unknown as [number, number];
    return Object.is(r, c) || Math.abs(r - c) <= limit;
  });
}

function isWithin(r: TensorValue, c: TensorValue, alignment: Alignment): boolean {
  if (isFloat(r.dtype) !== isFloat(c.dtype)) return false;
  if (!isFloat(r.dtype)) return distance(r, c, alignment).relL2 === 0;
  const gates = gatesFor(r, c);
  const found = distance(r, c, alignment);
  return found.relL2 <= gates.relL2 && found.linfRel <= gates.linfRel;
}

function gatesFor(r: TensorValue, c: TensorValue): { relL2: number; linfRel: number } {
  if (!isFloat(r.dtype)) return { relL2: 0, linfRel: 0 };
  const { rtol } = dtypeTolerance(r.dtype, c.dtype);
  return {
    relL2: Math.max(lookUp.relL2, rtol),
    linfRel: Math.max(lookUp.linfRel, 10 * rtol),
  };
}
