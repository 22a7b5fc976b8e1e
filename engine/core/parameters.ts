import type { DeclaredParameterPair } from "../protocol/runFile.js";
import type { PairedBy } from "../protocol/report.js";
import {
  inDeclaredOrder,
  namesOf,
  partsOf,
  withMissingParts,
  type Mended,
} from "./joinedParameters.js";
import { fillGlob, matchGlob, normalisedName } from "./names.js";
import type { ObservedParameter, TensorKey } from "./observation.js";
import { isConstant, relation } from "./parameterValues.js";
import { rearranged } from "./rearrangedParameters.js";

/**
 * What became of one parameter of the candidate.
 * - `same`: equal to the reference's, element for element (after rounding to the candidate's type).
 * - `transposed`: equal to the reference's transpose. A square matrix stored transposed passes every shape check.
 * - `different`: paired, resembles the reference's, but the values differ.
 * - `notFromReference`: bears no resemblance to any parameter of the reference: it kept its own initialisation.
 */
export type ParameterStatus = "same" | "transposed" | "different" | "notFromReference";

export interface ParameterFinding {
  readonly candidate: ObservedParameter;
  readonly status: ParameterStatus;
  readonly reference?: ObservedParameter;
  readonly pairedBy?: PairedBy;
  /** Of a parameter that is made of others of the reference: what is wrong with it. */
  readonly mistake?: string;
  /** ‖c − r‖₂ / ‖r‖₂ in the orientation that fits better; absent where it is undefined. */
  readonly relL2?: number;
}

export interface ParameterComparison {
  readonly findings: readonly ParameterFinding[];
  /** Parameters of the reference that no parameter of the candidate was paired with. */
  readonly missing: readonly ObservedParameter[];
  /** Declared pairs that matched nothing. */
  readonly unusedDeclarations: readonly DeclaredParameterPair[];
}

/** |cosine| under this says that two parameters have nothing to do with one another. */
const unrelatedCosine = 0.5;

/** Pairs parameters by declaration, name, normalised name, then shape and content (also transposed), and compares them. */
export function compareParameters(
  reference: readonly ObservedParameter[],
  candidate: readonly ObservedParameter[],
  declared: readonly DeclaredParameterPair[] = [],
): ParameterComparison {
  const open = new Set(reference);
  /** Those that hold several of the reference's, or a part of one. */
  const joined = new Set<ObservedParameter>();
  const paired = new Map<ObservedParameter, { with: ObservedParameter; by: PairedBy }>();
  const take = (c: ObservedParameter, r: ObservedParameter | undefined, by: PairedBy): void => {
    if (!r || !open.has(r) || paired.has(c)) return;
    open.delete(r);
    paired.set(c, { with: r, by });
  };

  const unusedDeclarations = declared.filter((declaration) => {
    const before = paired.size;
    for (const r of reference) {
      const captures = matchGlob(declaration.reference, r.name);
      const wanted = captures && fillGlob(declaration.candidate, captures);
      const c = wanted && candidate.find((parameter) => parameter.name === wanted);
      if (c) take(c, r, "declared");
    }
    return paired.size === before;
  });
  const byName = new Map(reference.map((r) => [r.name, r]));
  for (const c of candidate) take(c, byName.get(c.name), "name");
  const byNormalisedName = uniqueBy(reference, (r) => normalisedName(r.name));
  const ownNormalisedName = uniqueBy(candidate, (c) => normalisedName(c.name));
  for (const [name, c] of ownNormalisedName) take(c, byNormalisedName.get(name), "normalisedName");
  // A dictionary of weights puts its own name before the reference's: "weights.blocks.0.bias".
  for (const c of candidate) {
    const named = reference.filter((r) => c.name.endsWith(`.${r.name}`));
    const others = candidate.filter(
      (other) => named[0] && other.name.endsWith(`.${named[0].name}`),
    );
    if (named.length === 1 && others.length === 1) take(c, named[0], "normalisedName");
  }
  for (const c of candidate) {
    if (paired.has(c) || isConstant(c.value)) continue;
    const same = [...open].filter((r) => relation(r.value, c.value).status !== "other");
    if (same.length === 1) take(c, same[0], "content");
  }

  // What is all one value has no content to know it by; the only ones left of their shape and value are no difference.
  for (const c of candidate) {
    if (paired.has(c) || !isConstant(c.value)) continue;
    const isSame = ({ value }: ObservedParameter): boolean =>
      relation(value, c.value).status === "same";
    const same = [...open].filter(isSame);
    const own = candidate.filter((other) => !paired.has(other) && isSame(other));
    if (same.length === 1 && own.length === 1) take(c, same[0], "content");
  }
  for (const c of candidate) {
    if (paired.has(c)) continue;
    const parts = partsOf(c.value, [...open]);
    take(c, parts?.[0], "content");
    if (parts) for (const part of parts) open.delete(part);
    if (parts) joined.add(c);
  }
  for (const r of [...open]) {
    const parts = partsOf(
      r.value,
      candidate.filter((c) => !paired.has(c)),
    );
    if (!parts) continue;
    open.delete(r);
    for (const part of parts) {
      paired.set(part, { with: r, by: "content" });
      joined.add(part);
    }
  }

  const findings = candidate.map((c): ParameterFinding => {
    const pair = paired.get(c);
    if (!pair) return { candidate: c, status: "notFromReference" };
    return joined.has(c)
      ? { candidate: c, status: "same", reference: pair.with, pairedBy: pair.by, relL2: 0 }
      : findingOf(c, pair.with, pair.by);
  });
  return { findings, missing: [...open], unusedDeclarations };
}

/**
 * Pairs what is left over on both sides: a parameter that holds some of the parts that it should with the others, the rest
 * by shape, in order. This is a guess, and for the caller to test: a weight that was folded with another is no fault.
 */
export function pairLeftovers(
  comparison: ParameterComparison,
  declared: readonly ObservedParameter[],
): ParameterComparison {
  let { missing } = comparison;
  const findings = comparison.findings.map((finding) => {
    if (finding.reference) return finding;
    const mended = withMissingParts(finding.candidate.value, missing, declared);
    if (!mended) return finding;
    missing = missing.filter((parameter) => !mended.parts.includes(parameter));
    return mendedFinding(finding, mended);
  });
  return pairLeftoversByShape({ ...comparison, findings, missing });
}

/**
 * Supposes that joined parameters should hold their parts in another order: in that in which the reference declares them,
 * or in that of another joined parameter of the same module, as a bias beside its weight. And one that has just the values of
 * some of the reference's, in an arrangement that is not known, in the usual ones. Once for those of one name in all layers.
 */
export function* joinedInOtherOrder(
  comparison: ParameterComparison,
  declared: readonly ObservedParameter[],
): Iterable<ParameterComparison> {
  const joined = comparison.findings.filter(
    ({ status, pairedBy }) => status === "same" && pairedBy === "content",
  );
  const partsIn = new Map(
    joined.flatMap((finding) => {
      const parts = partsOf(finding.candidate.value, declared);
      return parts ? [[finding, parts.map(({ name }) => moduleOf(name))] as const] : [];
    }),
  );
  const groups = new Map<string, Map<ParameterFinding, ParameterFinding>>();
  const suppose = (
    name: string,
    finding: ParameterFinding,
    order: readonly ObservedParameter[],
  ): void => {
    const mended = inDeclaredOrder(finding.candidate.value, order);
    if (!mended) return;
    const group = groups.get(name) ?? new Map<ParameterFinding, ParameterFinding>();
    groups.set(name, group.set(finding, mendedFinding(finding, mended)));
  };
  // The weight and the bias of one layer lie alike.
  for (const [finding, modules] of partsIn) {
    suppose(`declared ${modules.map(withoutNumbers).join()}`, finding, declared);
  }
  for (const [finding, modules] of partsIn) {
    const { name } = finding.candidate;
    for (const [other, order] of partsIn) {
      const isBeside = moduleOf(other.candidate.name) === moduleOf(name);
      if (!isBeside || !modules.every((one) => order.includes(one))) continue;
      const placeOf = (parameter: ObservedParameter): number =>
        order.indexOf(moduleOf(parameter.name));
      const sorted = declared.toSorted((one, two) => placeOf(one) - placeOf(two));
      suppose(`beside ${withoutNumbers(name)}`, finding, sorted);
    }
  }
  // Or the values are there, and nothing says how they were arranged.
  for (const finding of comparison.findings.filter(({ reference }) => !reference)) {
    const found = rearranged(finding.candidate.value, comparison.missing);
    for (const [way, mended] of found.entries()) {
      const name = `arranged ${withoutNumbers(finding.candidate.name)} ${way}`;
      const group = groups.get(name) ?? new Map<ParameterFinding, ParameterFinding>();
      groups.set(name, group.set(finding, mendedFinding(finding, mended)));
    }
  }
  for (const group of groups.values()) {
    const findings = comparison.findings.map((finding) => group.get(finding) ?? finding);
    yield { ...comparison, findings };
  }
}

/** The module that has a parameter. */
function moduleOf(name: string): string {
  return name.split(".").slice(0, -1).join(".");
}

/** The same for all layers of a stack. */
function withoutNumbers(name: string): string {
  return name
    .split(".")
    .filter((word) => !/^\d+$/.test(word))
    .join(".");
}

function mendedFinding(
  { candidate }: ParameterFinding,
  { parts, value, mistake }: Mended,
): ParameterFinding {
  const [first] = parts as [ObservedParameter];
  const { relL2 } = relation(value, candidate.value);
  return {
    candidate,
    status: "different",
    reference: { ...first, name: namesOf(parts), value },
    pairedBy: "content",
    mistake,
    ...(relL2 !== undefined && { relL2 }),
  };
}

/** By shape, in order: a parameter that never came from the reference has neither its name nor its values. */
export function pairLeftoversByShape(comparison: ParameterComparison): ParameterComparison {
  const open = [...comparison.missing];
  const shapeOf = ({ value }: ObservedParameter): string => [...value.shape].sort().join();
  const left = comparison.findings.filter(({ reference }) => reference === undefined);
  const countOf = (shape: string, list: readonly ObservedParameter[]): number =>
    list.filter((parameter) => shapeOf(parameter) === shape).length;
  const own = left.map(({ candidate }) => candidate);
  const findings = comparison.findings.map((finding) => {
    const { candidate, reference } = finding;
    const shape = shapeOf(candidate);
    if (reference !== undefined || countOf(shape, own) !== countOf(shape, comparison.missing)) {
      return finding;
    }
    const at = open.findIndex((parameter) => shapeOf(parameter) === shape);
    const [counterpart] = at < 0 ? [] : open.splice(at, 1);
    return counterpart ? findingOf(candidate, counterpart, "shape") : finding;
  });
  return { ...comparison, findings, missing: open };
}

/** The comparison with one parameter paired that had no counterpart. */
export function pairParameter(
  comparison: ParameterComparison,
  candidate: TensorKey,
  reference: ObservedParameter,
  pairedBy: PairedBy,
): ParameterComparison {
  return {
    ...comparison,
    findings: comparison.findings.map((finding) =>
      finding.candidate.tensor === candidate
        ? findingOf(finding.candidate, reference, pairedBy)
        : finding,
    ),
    missing: comparison.missing.filter((parameter) => parameter !== reference),
  };
}

/** The comparison with one parameter that has just the values of some of the reference's, in each usual arrangement. */
export function pairRearranged(
  comparison: ParameterComparison,
  candidate: ObservedParameter,
): ParameterComparison[] {
  return rearranged(candidate.value, comparison.missing).map((mended) => ({
    ...comparison,
    findings: comparison.findings.map((finding) =>
      finding.candidate === candidate ? mendedFinding(finding, mended) : finding,
    ),
    missing: comparison.missing.filter((parameter) => !mended.parts.includes(parameter)),
  }));
}

function findingOf(
  candidate: ObservedParameter,
  reference: ObservedParameter,
  pairedBy: PairedBy,
): ParameterFinding {
  const { status, relL2, cosine } = relation(reference.value, candidate.value);
  const base = { candidate, reference, pairedBy, ...(relL2 !== undefined && { relL2 }) };
  if (status !== "other") return { ...base, status };
  const unrelated =
    isConstant(candidate.value) !== isConstant(reference.value) ||
    (cosine !== undefined && Math.abs(cosine) < unrelatedCosine);
  return { ...base, status: unrelated ? "notFromReference" : "different" };
}

function uniqueBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T> {
  const found = new Map<string, T>();
  const twice = new Set<string>();
  for (const item of items) {
    const k = key(item);
    if (found.has(k)) twice.add(k);
    found.set(k, item);
  }
  for (const k of twice) found.delete(k);
  return found;
}
