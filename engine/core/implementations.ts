import { floatFormats, isFloat } from "./dtypes.js";
import { normalisedName } from "./names.js";
import type { ObservedParameter } from "./observation.js";
import { relL2 } from "./difference.js";
import {
  compareParameters,
  pairLeftoversByShape,
  type ParameterComparison,
  type ParameterFinding,
} from "./parameters.js";
import { isTelling, sameTensor } from "./sameTensor.js";
import { sameShape } from "./shapes.js";
import type { TensorValue } from "./tensorValue.js";

/** One recorded call of a script, as far as the choice needs it. */
export interface Subject {
  readonly id: string;
  readonly framework: "torch" | "tripy";
  /** The same text for calls of one object: an implementation is not compared with itself. */
  readonly object: string;
  /** Position among all recorded calls. */
  readonly order: number;
  /** Whether it computes on jagged tensors. */
  readonly isJagged: boolean;
  /** Whether the script's own check calls its result the expected one. */
  readonly isExpected?: boolean;
  /** Float operations that make tensors of rank 2 or more. */
  readonly dataOps: number;
  readonly inputs: readonly { readonly name: string; readonly value: TensorValue }[];
  /** Values are known where the call was computed already. */
  readonly outputs: readonly { readonly shape: readonly number[]; readonly value?: TensorValue }[];
  readonly parameters: readonly ObservedParameter[];
}

export interface ChosenPair {
  readonly reference: string;
  readonly candidate: string;
  /** "the same 3 inputs, 13 of 13 parameters with the same values". */
  readonly because: string;
}

/** Two calls that belong together but for one thing, or of which nobody can say whether they do. */
export interface OpenQuestion {
  readonly code:
    | "inputs-differ"
    | "no-shared-values"
    | "unlike-results"
    | "several-references"
    | "nothing-to-compare-with";
  readonly subjects: readonly string[];
  readonly text: string;
}

export interface Choice {
  readonly pairs: readonly ChosenPair[];
  readonly questions: readonly OpenQuestion[];
}

/**
 * Finds which of the recorded calls are implementations of one another: they got the same inputs and share parameters,
 * by content. torch is the reference before Tripy, wide before narrow, jagged before dense and float64, what the script expects before
 * what it checks, earlier before later. A Tripy model whose parameters pair by name and shape, or all by their shapes, is a
 * candidate although none of their values came from torch: that is the finding. Two torch models that share no values are
 * none. Where neither side has parameters, the inputs and results that resemble one another decide, or the script itself,
 * which compares the two.
 * @param areCompared whether the script brought the results of two calls together.
 */
export function chooseImplementations(
  subjects: readonly Subject[],
  areCompared: (a: string, b: string) => boolean = () => false,
): Choice {
  const ranked = [...subjects].filter((subject) => subject.dataOps > 0).sort(byRank);
  const roots: Subject[] = [];
  const pairs: ChosenPair[] = [];
  const questions: OpenQuestion[] = [];
  for (const subject of ranked) {
    const relations = roots
      .filter((root) => root.object !== subject.object)
      .map((root) => ({
        root,
        relation: relate(root, subject, areCompared(root.id, subject.id)),
      }));
    const related = relations
      .flatMap(({ root, relation }) => (relation.kind === "related" ? [{ root, relation }] : []))
      .sort((a, b) => byEvidence(a.relation, b.relation) || b.root.dataOps - a.root.dataOps);
    const [best] = related;
    if (!best) {
      roots.push(subject);
      questions.push(...nearMisses(subject, relations));
      continue;
    }
    // Of two calls of one object, the one that computes more is meant.
    const second = related.find(
      ({ root, relation }) =>
        root.object !== best.root.object && byEvidence(best.relation, relation) === 0,
    );
    if (second) {
      questions.push({
        code: "several-references",
        subjects: [best.root.id, second.root.id, subject.id],
        text: `${subject.id} fits ${best.root.id} as well as ${second.root.id}: which of them is its reference?`,
      });
      continue;
    }
    const { because } = best.relation;
    pairs.push({ reference: best.root.id, candidate: subject.id, because });
  }
  // What was compared in one of its calls leaves no question open about the others.
  const objectOf = new Map(ranked.map(({ id, object }) => [id, object]));
  const compared = new Set(
    pairs.flatMap(({ reference, candidate }) => [objectOf.get(reference), objectOf.get(candidate)]),
  );
  const open = questions
    .filter((question) => !compared.has(objectOf.get(question.subjects.at(-1) as string)))
    // A script has helpers that are nobody's implementation; they matter where nothing else was found.
    .filter(({ code }) => code !== "unlike-results" || pairs.length === 0);
  const asked = new Set(open.flatMap((question) => question.subjects));
  for (const { id, object, framework } of ranked) {
    if (framework !== "tripy" || compared.has(object) || asked.has(id)) continue;
    open.push({
      code: "nothing-to-compare-with",
      subjects: [id],
      text: `${id} got inputs that no torch model got: there is nothing to compare it with`,
    });
  }
  return { pairs, questions: open };
}

export type Relation =
  | { kind: "related"; shared: number; inputs: number; because: string }
  | { kind: "inputsDiffer"; shared: number; parameters: number; names: readonly string[] }
  | { kind: "noSharedValues" }
  | { kind: "unlikeResults" }
  | { kind: "unrelated" };

const unrelated: Relation = { kind: "unrelated" };

interface Evidence {
  readonly shared: number;
  readonly inputs: number;
}

/** The most shared inputs first, then the most shared parameters. */
function byEvidence(a: Evidence, b: Evidence): number {
  return b.inputs - a.inputs || b.shared - a.shared;
}

/** What two calls have to do with one another, whatever else the script called. */
export function relate(reference: Subject, candidate: Subject, compared: boolean): Relation {
  const related = relateInputs(reference, candidate);
  const { given, taken, differing } = related;
  const parametersCompared = compareParameters(reference.parameters, candidate.parameters);
  const { findings } = parametersCompared;
  const telling = findings.filter((finding) => isTelling(finding.candidate.value));
  const held = telling.filter(({ status }) => status === "same" || status === "transposed").length;
  // A program that is evaluated eagerly holds its inputs as constants.
  const constants = candidate.inputs.length === 0 && taken === reference.inputs.length ? taken : 0;
  const same = related.isSure ? related.twins.length + constants : 0;
  // A function gets as inputs what a module holds as parameters.
  const shared = held + given + taken - constants;
  const parameters = telling.length + given - constants;
  const none = parameters === 0;
  if (none && reference.parameters.some(({ value }) => isTelling(value))) return unrelated;
  if (same === 0 && differing.length === 0) {
    return shared > 0 && shared === parameters
      ? { kind: "inputsDiffer", shared, parameters, names: [] }
      : unrelated;
  }
  const withInputs = `the same ${count(same, "input")}`;
  if (none) {
    // Functions without parameters are told apart by their inputs alone.
    if (differing.length > 0 || same === 0) return unrelated;
    if (!compared && !areAlike(reference, candidate)) {
      return haveSameShapes(reference, candidate) ? { kind: "unlikeResults" } : unrelated;
    }
    return { kind: "related", shared: 0, inputs: same, because: withInputs };
  }
  const otherFramework = reference.framework !== candidate.framework;
  const fitsOtherwise = (): boolean =>
    telling.some(hasFittingShape) ||
    (same > 0 && haveSameShapes(reference, candidate) && allFitByShape(parametersCompared));
  if (shared === 0 && !(otherFramework && fitsOtherwise())) {
    const holds = reference.parameters.some(({ value }) => isTelling(value));
    return same > 0 && holds ? { kind: "noSharedValues" } : unrelated;
  }
  if (differing.length > 0 || same === 0) {
    return { kind: "inputsDiffer", shared, parameters, names: differing };
  }
  return {
    kind: "related",
    shared,
    inputs: same,
    because: `${withInputs}, ${shared} of ${count(parameters, "parameter")} with the same values`,
  };
}

/** A parameter whose counterpart has its shape, or the transposed one. */
function hasFittingShape({ candidate, reference }: ParameterFinding): boolean {
  const shape = candidate.value.shape;
  const wanted = reference?.value.shape;
  return (
    wanted !== undefined && (sameShape(wanted, shape) || sameShape([...wanted].reverse(), shape))
  );
}

/** All parameters of both sides pair, if by nothing but their shapes. */
function allFitByShape(comparison: ParameterComparison): boolean {
  const { findings, missing } = pairLeftoversByShape(comparison);
  return missing.length === 0 && findings.every(hasFittingShape);
}

/** Equal shapes, or rows [ΣL, …] on one side that the other has padded, as [B, N, …]. */
function haveSameShapes(reference: Subject, candidate: Subject): boolean {
  return (
    reference.outputs.length === candidate.outputs.length &&
    reference.outputs.every(({ shape }, i) => {
      const other = candidate.outputs[i]?.shape ?? [];
      return fits(shape, other) || isPaddedShape(shape, other) || isPaddedShape(other, shape);
    })
  );
}

/** −1 stands for a size that is known at run time only. */
function fits(a: readonly number[], b: readonly number[]): boolean {
  return (
    a.length === b.length && a.every((size, i) => size === b[i] || size < 0 || (b[i] as number) < 0)
  );
}

function isPaddedShape(jagged: readonly number[], padded: readonly number[]): boolean {
  const [rows = 0, ...own] = jagged;
  const [batch = 0, width = 0, ...inner] = padded;
  return padded.length === jagged.length + 1 && sameShape(own, inner) && rows <= batch * width;
}

/** Two results that one computation could have: of the same shapes, and nearer to one another than to nothing. */
function areAlike(reference: Subject, candidate: Subject): boolean {
  return (
    haveSameShapes(reference, candidate) &&
    reference.outputs.every(({ value: r }, i) => {
      const c = candidate.outputs[i]?.value;
      if (!r || !c || !sameShape(r.shape, c.shape)) return true;
      return relL2(r, c, undefined, { equalNan: true }) < alikeRelL2;
    })
  );
}

const alikeRelL2 = 0.5;

/** What the inputs of two calls have to do with one another. */
export interface InputRelation {
  /** The candidate's inputs that the reference got as well, by the names on both sides. */
  readonly twins: readonly InputTwin[];
  /** Inputs of the candidate that are parameters of the reference. */
  readonly given: number;
  /** Inputs of the reference that are parameters of the candidate: a constant of an eagerly evaluated program. */
  readonly taken: number;
  /** Inputs that the reference got otherwise: those that bear the name of one of its own, or that alone could be it by shape and kind. */
  readonly differing: readonly string[];
  /** Whether what is the same says that the two belong together. */
  readonly isSure: boolean;
}

export interface InputTwin {
  readonly reference: string;
  readonly candidate: string;
  /** They differ by rounding: what made them was computed twice. */
  readonly isNear: boolean;
}

/** Inputs that two implementations of what came before have rounded differently. */
const nearRelL2 = 1e-5;

export function relateInputs(reference: Subject, candidate: Subject): InputRelation {
  const open = new Set(reference.inputs);
  const unmatched: Subject["inputs"][number][] = [];
  const twins: InputTwin[] = [];
  let telling = 0;
  let given = 0;
  let taken = 0;
  for (const input of candidate.inputs) {
    const same = [...open].find(({ value }) => sameTensor(value, input.value));
    const twin = same ?? [...open].find(({ value }) => isNear(value, input.value));
    if (!twin) {
      if (isParameterOf(reference, input.value)) given++;
      else unmatched.push(input);
      continue;
    }
    open.delete(twin);
    twins.push({ reference: twin.name, candidate: input.name, isNear: same === undefined });
    if (isTelling(input.value)) telling++;
  }
  for (const input of [...open]) {
    if (!isParameterOf(candidate, input.value)) continue;
    taken++;
    open.delete(input);
  }
  const differing = unmatched.filter(({ name, value }) =>
    [...open].some(
      (other) =>
        normalisedName(other.name) === normalisedName(name) ||
        (sameShape(other.value.shape, value.shape) &&
          isFloat(other.value.dtype) === isFloat(value.dtype)),
    ),
  );
  return {
    twins,
    given,
    taken,
    differing: differing.map(({ name }) => name),
    isSure: telling > 0 || unmatched.length === 0,
  };
}

function isNear(a: TensorValue, b: TensorValue): boolean {
  return (
    isFloat(a.dtype) &&
    isFloat(b.dtype) &&
    sameShape(a.shape, b.shape) &&
    isTelling(a) &&
    relL2(a, b) <= nearRelL2
  );
}

function isParameterOf({ parameters }: Subject, value: TensorValue): boolean {
  return isTelling(value) && parameters.some((p) => sameTensor(p.value, value) !== undefined);
}

function nearMisses(
  subject: Subject,
  relations: readonly { root: Subject; relation: Relation }[],
): OpenQuestion[] {
  return relations.flatMap(({ root, relation }): OpenQuestion[] => {
    const ask = (code: OpenQuestion["code"], text: string): OpenQuestion[] => [
      { code, subjects: [root.id, subject.id], text },
    ];
    switch (relation.kind) {
      case "inputsDiffer": {
        const names = relation.names.map((name) => `"${name}"`).join(", ");
        const { shared, parameters } = relation;
        return ask(
          "inputs-differ",
          names === ""
            ? `${subject.id} shares ${shared} of ${count(parameters, "parameter")} with ${root.id}, but none of its inputs`
            : `${subject.id} shares parameters with ${root.id} but did not get the same inputs: ${names} differs`,
        );
      }
      case "noSharedValues":
        return ask(
          "no-shared-values",
          root.framework === subject.framework
            ? `${root.id} and ${subject.id} got the same inputs but share no parameter values: comparing them proves nothing`
            : `${subject.id} got the same inputs as ${root.id}, but none of its parameters is one of ${root.id}'s, by name or by values`,
        );
      case "unlikeResults":
        return ask(
          "unlike-results",
          `${subject.id} got the same inputs as ${root.id}, but their results have nothing in common`,
        );
      default:
        return [];
    }
  });
}

function byRank(a: Subject, b: Subject): number {
  const rank = (subject: Subject): number[] => [
    subject.framework === "torch" ? 0 : 1,
    // Padding says nothing, float32 says enough: jagged comes before dense unless it is narrower than that.
    -Math.min(precisionOf(subject), floatFormats.float32.mantissaBits),
    subject.isJagged ? 0 : 1,
    -precisionOf(subject),
    subject.isExpected === true ? 0 : 1,
    subject.order,
  ];
  const [x, y] = [rank(a), rank(b)];
  const first = x.findIndex((value, i) => value !== y[i]);
  return first < 0 ? 0 : (x[first] as number) - (y[first] as number);
}

/** Mantissa bits of the widest float among parameters and inputs. */
function precisionOf({ parameters, inputs }: Subject): number {
  const dtypes = [...parameters, ...inputs].map(({ value }) => value.dtype).filter(isFloat);
  return Math.max(0, ...dtypes.map((dtype) => floatFormats[dtype].mantissaBits));
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? "" : "s"}`;
}
