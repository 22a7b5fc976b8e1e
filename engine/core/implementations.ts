import { floatFormats, isFloat } from "./dtypes.js";
import { normalisedName } from "./names.js";
import type { ObservedParameter } from "./observation.js";
import { compareParameters } from "./parameters.js";
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
  /** Float operations that make tensors of rank 2 or more. */
  readonly dataOps: number;
  readonly inputs: readonly { readonly name: string; readonly value: TensorValue }[];
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
    "inputs-differ" | "no-shared-values" | "several-references" | "nothing-to-compare-with";
  readonly subjects: readonly string[];
  readonly text: string;
}

export interface Choice {
  readonly pairs: readonly ChosenPair[];
  readonly questions: readonly OpenQuestion[];
}

/**
 * Finds which of the recorded calls are implementations of one another: they got the same inputs and share parameters,
 * by content. torch is the reference before Tripy, jagged before dense, wide before narrow, earlier before later. A Tripy
 * model whose parameters pair by name and shape is a candidate although none of their values came from torch: that is the
 * finding. Two torch models that share no values are none.
 */
export function chooseImplementations(subjects: readonly Subject[]): Choice {
  const ranked = [...subjects].filter((subject) => subject.dataOps > 0).sort(byRank);
  const roots: Subject[] = [];
  const pairs: ChosenPair[] = [];
  const questions: OpenQuestion[] = [];
  for (const subject of ranked) {
    const relations = roots
      .filter((root) => root.object !== subject.object)
      .map((root) => ({ root, relation: relate(root, subject) }));
    const related = relations
      .flatMap(({ root, relation }) => (relation.kind === "related" ? [{ root, relation }] : []))
      .sort((a, b) => byEvidence(a.relation, b.relation) || b.root.dataOps - a.root.dataOps);
    const [best, second] = related;
    if (!best) {
      roots.push(subject);
      questions.push(...nearMisses(subject, relations));
      continue;
    }
    const isTied = second && byEvidence(best.relation, second.relation) === 0;
    // Of two calls of one object, the one that computes more is meant.
    if (isTied && second.root.object !== best.root.object) {
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
  const open = questions.filter((q) => !compared.has(objectOf.get(q.subjects.at(-1) as string)));
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

type Relation =
  | { kind: "related"; shared: number; inputs: number; because: string }
  | { kind: "inputsDiffer"; shared: number; names: readonly string[] }
  | { kind: "noSharedValues"; shared: 0 }
  | { kind: "unrelated"; shared: 0 };

const unrelated: Relation = { kind: "unrelated", shared: 0 };

interface Evidence {
  readonly shared: number;
  readonly inputs: number;
}

/** The most shared inputs first, then the most shared parameters. */
function byEvidence(a: Evidence, b: Evidence): number {
  return b.inputs - a.inputs || b.shared - a.shared;
}

function relate(reference: Subject, candidate: Subject): Relation {
  const inputs = relateInputs(reference, candidate);
  if (inputs.same === 0 && inputs.differing.length === 0) return unrelated;
  const { findings } = compareParameters(reference.parameters, candidate.parameters);
  const telling = findings.filter((finding) => isTelling(finding.candidate.value));
  const shared = telling.filter(({ status }) => status === "same" || status === "transposed");
  const paired = telling.filter((finding) => finding.reference !== undefined);
  const none = telling.length === 0;
  const otherFramework = reference.framework !== candidate.framework;
  const belongs = shared.length > 0 || none || (otherFramework && paired.length > 0);
  if (!belongs) {
    return inputs.same > 0 && !otherFramework && reference.parameters.length > 0
      ? { kind: "noSharedValues", shared: 0 }
      : unrelated;
  }
  if (inputs.differing.length > 0 || inputs.same === 0) {
    // Functions without parameters are told apart by their inputs alone.
    if (none) return unrelated;
    return { kind: "inputsDiffer", shared: shared.length, names: inputs.differing };
  }
  const withInputs = `the same ${count(inputs.same, "input")}`;
  return {
    kind: "related",
    shared: shared.length,
    inputs: inputs.same,
    because: none
      ? withInputs
      : `${withInputs}, ${shared.length} of ${count(telling.length, "parameter")} with the same values`,
  };
}

/**
 * How many of the candidate's inputs the reference got as well, and which it got otherwise: those that bear the name of
 * one of the reference's, or that alone could be it by shape and kind.
 */
function relateInputs(
  reference: Subject,
  candidate: Subject,
): { same: number; differing: readonly string[] } {
  const open = new Set(reference.inputs);
  const unmatched: Subject["inputs"][number][] = [];
  let same = 0;
  let telling = 0;
  for (const input of candidate.inputs) {
    const twin = [...open].find(({ value }) => sameTensor(value, input.value));
    if (!twin) {
      const isParameter = reference.parameters.some((p) => sameTensor(p.value, input.value));
      if (!isParameter) unmatched.push(input);
      continue;
    }
    open.delete(twin);
    same++;
    if (isTelling(input.value)) telling++;
  }
  const differing = unmatched.filter(({ name, value }) =>
    [...open].some(
      (other) =>
        normalisedName(other.name) === normalisedName(name) ||
        (sameShape(other.value.shape, value.shape) &&
          isFloat(other.value.dtype) === isFloat(value.dtype)),
    ),
  );
  const isSure = telling > 0 || unmatched.length === 0;
  return { same: isSure ? same : 0, differing: differing.map(({ name }) => name) };
}

function nearMisses(
  subject: Subject,
  relations: readonly { root: Subject; relation: Relation }[],
): OpenQuestion[] {
  return relations.flatMap(({ root, relation }): OpenQuestion[] => {
    const subjects = [root.id, subject.id];
    if (relation.kind === "inputsDiffer") {
      const names = relation.names.map((name) => `"${name}"`).join(", ");
      return [
        {
          code: "inputs-differ",
          subjects,
          text: `${subject.id} shares parameters with ${root.id} but did not get the same inputs${names === "" ? "" : `: ${names} differs`}`,
        },
      ];
    }
    if (relation.kind !== "noSharedValues") return [];
    return [
      {
        code: "no-shared-values",
        subjects,
        text: `${root.id} and ${subject.id} got the same inputs but share no parameter values: comparing them proves nothing`,
      },
    ];
  });
}

function byRank(a: Subject, b: Subject): number {
  const rank = (subject: Subject): number[] => [
    subject.framework === "torch" ? 0 : 1,
    -precisionOf(subject),
    subject.isJagged ? 0 : 1,
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
