import { toFloat64 } from "./dtypes.js";
import type { ObservedParameter } from "./observation.js";
import { isConstant, relation, squeezed, transposeMatrix } from "./parameterValues.js";
import type { TensorValue } from "./tensorValue.js";

/** One of the parameters that a larger one is made of, and how far it reaches along the axis. */
interface Part {
  readonly parameter: ObservedParameter;
  readonly at: number;
  readonly size: number;
}

interface Parts {
  readonly axis: number;
  readonly parts: readonly Part[];
}

/** What a joined parameter should hold, and what of the reference's it is made of then. */
export interface Mended {
  readonly parts: readonly ObservedParameter[];
  /** In the joined parameter's own shape. */
  readonly value: TensorValue;
  /** What is wrong with it, after its name. */
  readonly mistake: string;
}

/**
 * Parameters that, joined along one axis or stacked along a new one, are this one: queries, keys and values in one matrix,
 * the weights of all experts. As they are, or transposed.
 */
export function partsOf(
  value: TensorValue,
  open: readonly ObservedParameter[],
): ObservedParameter[] | undefined {
  return findParts(value, open)?.parts.map(({ parameter }) => parameter);
}

/** The same parts in the order in which the reference declares them, if they are in another one. */
export function inDeclaredOrder(
  value: TensorValue,
  declared: readonly ObservedParameter[],
): Mended | undefined {
  const found = findParts(value, declared);
  if (!found) return undefined;
  const places = new Map(declared.map((parameter, place) => [parameter, place]));
  const placeOf = ({ parameter }: Part): number => places.get(parameter) ?? -1;
  const sorted = found.parts.toSorted((a, b) => placeOf(a) - placeOf(b));
  if (sorted.every((part, i) => part === found.parts[i])) return undefined;
  const whole = squeezed(value);
  const slices = sorted.map(({ at, size }) => sliceOf(whole, found.axis, at, size));
  return {
    parts: sorted.map(({ parameter }) => parameter),
    value: { ...join(slices, found.axis), shape: value.shape },
    mistake: wrongPart(found.parts, sorted),
  };
}

/**
 * A parameter of equal parts of which some are the reference's and the others should be: they hold something else, or what
 * an earlier part holds. Those of the reference that nothing was paired with fill them, in the order of their declaration.
 */
export function withMissingParts(
  value: TensorValue,
  missing: readonly ObservedParameter[],
  declared: readonly ObservedParameter[],
): Mended | undefined {
  if (saysNothing(value) || missing.length === 0) return undefined;
  const whole = squeezed(value);
  for (const [axis, length] of whole.shape.entries()) {
    const shapes = missing.flatMap(({ value: part }) => formsOf(squeezed(part), whole, axis));
    for (const size of new Set(shapes.map((form) => form.shape[axis] as number))) {
      if (length % size !== 0) continue;
      const mended = mendedAt(whole, axis, size, missing, declared);
      if (mended) return { ...mended, value: { ...mended.value, shape: value.shape } };
    }
  }
  return undefined;
}

function mendedAt(
  whole: TensorValue,
  axis: number,
  size: number,
  missing: readonly ObservedParameter[],
  declared: readonly ObservedParameter[],
): Mended | undefined {
  const count = (whole.shape[axis] as number) / size;
  const formOf = (parameter: ObservedParameter, fits: (form: TensorValue) => boolean) =>
    formsOf(squeezed(parameter.value), whole, axis).find(
      (form) => form.shape[axis] === size && fits(form),
    );
  const slots = Array.from({ length: count }, (_, i): Slot | undefined => {
    const slice = sliceOf(whole, axis, i * size, size);
    if (saysNothing(slice)) return undefined;
    return slotFor(declared, (one) =>
      formOf(one, (form) => relation(form, slice).status === "same"),
    );
  });
  const kept = slots.map((slot, i) =>
    slots.slice(0, i).some((one) => one?.parameter === slot?.parameter) ? undefined : slot,
  );
  const given = kept.flatMap((slot) => slot?.parameter ?? []);
  const left = likeliest(
    missing.filter((parameter) => !given.includes(parameter)),
    given,
  ).flatMap((parameter) => slotFor([parameter], (one) => formOf(one, () => true)) ?? []);
  const open = kept.filter((slot) => slot === undefined).length;
  if (open === 0 || open === count || left.length !== open) return undefined;
  const filled = kept.map((slot) => slot ?? (left.shift() as Slot));
  return {
    parts: filled.map(({ parameter }) => parameter),
    value: join(
      filled.map(({ form }) => form),
      axis,
    ),
    mistake: wrongPart(slots, filled),
  };
}

/** "q.weight and 2 others" */
export function namesOf(parts: readonly ObservedParameter[]): string {
  const [first, second, ...others] = parts.map(({ name }) => name);
  if (second === undefined) return first ?? "";
  return `${first} and ${others.length > 0 ? `${others.length + 1} others` : second}`;
}

/** Parts joined along an axis of a tensor of this shape, each as it is or transposed; undefined where they do not fill it. */
export function joinedAlong(
  parts: readonly TensorValue[],
  whole: TensorValue,
  axis: number,
): TensorValue | undefined {
  const forms = parts.map((part) => formsOf(part, whole, axis)[0]);
  const length = forms.reduce((sum, form) => sum + (form?.shape[axis] ?? NaN), 0);
  return length === whole.shape[axis] ? join(forms as TensorValue[], axis) : undefined;
}

function wrongPart(
  own: readonly (Pick<Part, "parameter"> | undefined)[],
  right: readonly Pick<Part, "parameter">[],
): string {
  const at = right.findIndex(({ parameter }, i) => own[i]?.parameter !== parameter);
  const held = own[at]?.parameter.name;
  const wanted = right[at]?.parameter.name ?? "";
  return `holds the wrong part: its part ${at + 1} of ${right.length} is ${held ?? "none of the reference's parameters"} where ${wanted} belongs`;
}

/** Those whose names share the most with the names of the parts that are there: `towers.1.bias` beside `towers.0.bias`. */
function likeliest(
  missing: readonly ObservedParameter[],
  given: readonly ObservedParameter[],
): ObservedParameter[] {
  const shared = (a: readonly string[], b: readonly string[]): number =>
    a.filter((word, i) => word === b[i]).length;
  const likenessOf = ({ name }: ObservedParameter): number =>
    Math.max(
      ...given.map((one) => {
        const [a, b] = [name.split("."), one.name.split(".")];
        return Math.max(shared(a, b), shared(a.toReversed(), b.toReversed()));
      }),
    );
  const most = Math.max(...missing.map(likenessOf));
  return missing.filter((parameter) => likenessOf(parameter) === most);
}

/** A part and how it lies in the whole. */
interface Slot {
  readonly parameter: ObservedParameter;
  readonly form: TensorValue;
}

function slotFor(
  parameters: readonly ObservedParameter[],
  formOf: (parameter: ObservedParameter) => TensorValue | undefined,
): Slot | undefined {
  for (const parameter of parameters) {
    const form = formOf(parameter);
    if (form) return { parameter, form };
  }
  return undefined;
}

/** What a layer begins with: all zeros, all ones. */
function saysNothing(value: TensorValue): boolean {
  return isConstant(value) && [0, 1].includes(Math.abs(toFloat64(value)[0] ?? 0));
}

function findParts(value: TensorValue, open: readonly ObservedParameter[]): Parts | undefined {
  // Zeros are made of zeros.
  if (isConstant(value)) return undefined;
  const whole = squeezed(value);
  for (const [axis, length] of whole.shape.entries()) {
    const parts: Part[] = [];
    let at = 0;
    while (at < length) {
      const part = partAt(whole, axis, at, open, parts);
      if (!part) break;
      parts.push(part);
      at += part.size;
    }
    if (parts.length > 1 && at === length) return { axis, parts };
  }
  return undefined;
}

function partAt(
  whole: TensorValue,
  axis: number,
  at: number,
  open: readonly ObservedParameter[],
  taken: readonly Part[],
): Part | undefined {
  for (const parameter of open) {
    if (taken.some((part) => part.parameter === parameter)) continue;
    for (const form of formsOf(squeezed(parameter.value), whole, axis)) {
      const size = form.shape[axis] as number;
      if (at + size > (whole.shape[axis] as number)) continue;
      if (relation(form, sliceOf(whole, axis, at, size)).status === "same")
        return { parameter, at, size };
    }
  }
  return undefined;
}

/** The ways in which a tensor can be a part of a larger one along an axis: as it is or transposed, joined or stacked. */
function formsOf(part: TensorValue, whole: TensorValue, axis: number): TensorValue[] {
  const forms = part.shape.length === 2 ? [part, transposeMatrix(part)] : [part];
  const stacked = forms.map((form) => ({ ...form, shape: form.shape.toSpliced(axis, 0, 1) }));
  return [...forms, ...stacked].filter(({ shape }) => {
    const size = shape[axis] ?? 0;
    return (
      shape.length === whole.shape.length &&
      size > 0 &&
      size < (whole.shape[axis] as number) &&
      shape.every((n, i) => i === axis || n === whole.shape[i])
    );
  });
}

function sliceOf(value: TensorValue, axis: number, at: number, size: number): TensorValue {
  const { inner, outer } = stridesOf(value, axis);
  const stride = (value.shape[axis] as number) * inner;
  const bytes = new Uint8Array(outer * size * inner);
  for (let i = 0; i < outer; i++) {
    const from = i * stride + at * inner;
    bytes.set(value.bytes.subarray(from, from + size * inner), i * size * inner);
  }
  return { dtype: value.dtype, shape: value.shape.map((n, i) => (i === axis ? size : n)), bytes };
}

/** The slices one after another along the axis. */
function join(slices: readonly TensorValue[], axis: number): TensorValue {
  const [first] = slices as [TensorValue, ...TensorValue[]];
  const { inner, outer } = stridesOf(first, axis);
  const sizes = slices.map(({ shape }) => shape[axis] as number);
  const length = sizes.reduce((sum, size) => sum + size, 0);
  const bytes = new Uint8Array(outer * length * inner);
  let to = 0;
  for (let i = 0; i < outer; i++) {
    for (const [at, slice] of slices.entries()) {
      const size = (sizes[at] as number) * inner;
      bytes.set(slice.bytes.subarray(i * size, (i + 1) * size), to);
      to += size;
    }
  }
  return { dtype: first.dtype, shape: first.shape.map((n, i) => (i === axis ? length : n)), bytes };
}

/** Bytes of one place along an axis, and how often the axis is gone through. */
function stridesOf({ shape, bytes }: TensorValue, axis: number): { inner: number; outer: number } {
  const count = shape.reduce((product, n) => product * n, 1);
  const element = count === 0 ? 0 : bytes.length / count;
  return {
    inner: shape.slice(axis + 1).reduce((product, n) => product * n, element),
    outer: shape.slice(0, axis).reduce((product, n) => product * n, 1),
  };
}
