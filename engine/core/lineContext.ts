import type { Site } from "../protocol/report.js";
import type { Explanation } from "./explanation.js";
import type { Judgement } from "./judge.js";
import { normalisedName, splitTensorName, withoutCount } from "./names.js";
import type { Observation, ObservedOp, TensorKey } from "./observation.js";
import { isRearrangement } from "./rearrangement.js";
import { isDataOp, segmentGraph, segmentOf } from "./segments.js";
import { isSamePlace } from "./sourceFlow.js";
import type { StatementsOf } from "./statements.js";

/** One line that may be at fault, and what speaks for it. */
export interface BlamedLine {
  readonly site: Site;
  readonly why: string;
}

/** Where an op stands, and in which instance of a module. */
export type Placed = Pick<ObservedOp, "frames" | "instance">;

/** What the search for lines knows about one side. */
export interface Side {
  readonly observation: Observation;
  readonly makerOf: ReadonlyMap<TensorKey, ObservedOp>;
  readonly readersOf: ReadonlyMap<TensorKey, readonly ObservedOp[]>;
}

export interface LineOptions {
  readonly reference: Side;
  readonly candidate: Side;
  /** By the candidate's tensor whose op introduces the difference. */
  readonly explanations: ReadonlyMap<TensorKey, Explanation>;
  readonly judgements: readonly Judgement[];
  /** Candidate tensors that hold what a tensor of the reference holds. */
  readonly counterpartsOf: (reference: TensorKey) => readonly TensorKey[];
  /** Tensors of the candidate of one class hold the same values; undefined for what has no counterpart. */
  readonly classOf: (candidate: TensorKey) => string | undefined;
  readonly referenceClassOf: (reference: TensorKey) => string | undefined;
  /** The reference's parameter that one of the candidate's was paired with. */
  readonly twinOf: (parameter: TensorKey) => TensorKey | undefined;
  readonly statementsOf: StatementsOf;
  /** Whether a part of what an origin makes is as it should be. */
  readonly differsInPart: (judgement: Judgement) => boolean;
}

export interface LineContext extends LineOptions {
  /** Whether an op was found to read a wrong tensor at this place. */
  readonly isWrongRead: (op: ObservedOp, position: number) => boolean;
  /** Whether something is computed in this line. */
  readonly isComputing: (file: string, line: number) => boolean;
  /** Frames of ops that make what they should. */
  readonly rightFrames: readonly Placed[];
  /** Frames of ops that do not, or that read what they should not. */
  readonly wrongFrames: readonly Placed[];
  /** Parameters that the reference reads between the last paired tensors and this one. */
  readonly parametersBehind: (reference: TensorKey) => ReadonlySet<TensorKey>;
  /**
   * Whether the reference too has an op that reads what one of the candidate's reads beside `base`.
   */
  readonly hasReferenceOp: (op: ObservedOp, base: TensorKey) => boolean;
  /**
   * "same" where a tensor lies in memory as one of the reference does, "other" where the reference has the same numbers in
   * this shape otherwise.
   */
  readonly layoutOf: (candidate: TensorKey) => "same" | "other" | undefined;
  /** Tensors of the reference that hold the same. */
  readonly alikeInReference: (reference: TensorKey) => readonly TensorKey[];
  /** The pairs' reference tensors. */
  readonly referenceOf: ReadonlyMap<TensorKey, TensorKey>;
}

export function lineContext(options: LineOptions): LineContext {
  const { candidate, explanations, judgements } = options;
  const wrong = new Set(
    [...explanations.values()].flatMap(({ reads }) =>
      reads.map(({ reader, position }) => `${reader.id} ${position}`),
    ),
  );
  const computing = new Set(
    candidate.observation.ops.flatMap((op) => op.frames.map(({ file, line }) => `${file}:${line}`)),
  );
  const faulty = new Set(
    judgements.flatMap(({ verdict, segment }) => (verdict === "origin" ? segment.ops : [])),
  );
  const right = judgements.flatMap(({ verdict, segment }) =>
    verdict === "origin" || verdict === "unknown" ? [] : segment.ops,
  );
  /** A view without a counterpart holds what it is a view of. */
  const classBehind = (key: TensorKey): string | undefined => {
    const maker = candidate.makerOf.get(key);
    const base = maker?.inputs[0];
    return maker && base !== undefined && isRearrangement(maker, key, base, candidate.observation)
      ? (options.classOf(base) ?? classBehind(base))
      : undefined;
  };
  const referenceOf = new Map(judgements.map(({ pair }) => [pair.candidate, pair.reference]));
  const paired = new Set(referenceOf.values());
  const graph = segmentGraph(options.reference.observation);
  const pairOf = new Map(judgements.map(({ pair }) => [pair.candidate, pair]));
  const classes = new Map<string, TensorKey[]>();
  for (const key of options.reference.observation.tensors.keys()) {
    const own = options.referenceClassOf(key);
    if (own === undefined) continue;
    const known = classes.get(own);
    if (known) known.push(key);
    else classes.set(own, [key]);
  }
  const shapeOf = (key: TensorKey, { observation }: Side): string | undefined =>
    observation.tensors.get(key)?.shape.join();
  return {
    ...options,
    layoutOf: (key) => {
      const pair = pairOf.get(key);
      if (pair?.alignment && !pair.alignment.transform.includes("permuted")) return "same";
      const alike = classes.get(options.classOf(key) ?? classBehind(key) ?? "") ?? [];
      const shape = shapeOf(key, candidate);
      return alike.some((other) => shapeOf(other, options.reference) === shape)
        ? "other"
        : undefined;
    },
    alikeInReference: (key) => classes.get(options.referenceClassOf(key) ?? "") ?? [],
    parametersBehind: (key) => new Set(segmentOf(key, paired, graph).parameters),
    hasReferenceOp: (op, base) => {
      const others = op.inputs.filter((key) => key !== base).map((key) => referenceOf.get(key));
      return others.some(
        (key) => key !== undefined && (options.reference.readersOf.get(key)?.length ?? 0) > 0,
      );
    },
    isWrongRead: (op, position) => wrong.has(`${op.id} ${position}`),
    isComputing: (file, line) => computing.has(`${file}:${line}`),
    wrongFrames: judgements
      .filter(({ verdict }) => verdict === "origin")
      .flatMap(({ pair, segment }) => {
        const reads = explanations.get(pair.candidate)?.reads.map(({ reader }) => reader);
        return reads ?? segment.ops.slice(-1);
      }),
    rightFrames: [...new Set(right)].filter(
      (op) => !faulty.has(op) && isDataOp(op, candidate.observation),
    ),
    referenceOf,
  };
}

/**
 * The frames of an op from the line that is at fault: a line that does right when it is called from elsewhere is not, but
 * the line that calls it. A line that other turns of a loop come to by the same calls says nothing, nor does one that reads
 * what other instances of its module have otherwise.
 */
export function framesAtFault(
  { frames, instance }: Placed,
  { rightFrames, wrongFrames, statementsOf }: FaultContext,
): readonly Site[] {
  let depth = 0;
  while (depth < frames.length - 1) {
    const [here, caller] = [frames[depth] as Site, frames[depth + 1]];
    const callersIn = (all: readonly Placed[]) =>
      all.flatMap((one) =>
        one.frames.flatMap((site, at) =>
          isSamePlace(site, here) ? [{ site: one.frames[at + 1], of: one }] : [],
        ),
      );
    const right = callersIn(rightFrames);
    // Wrong from everywhere but where it does not matter: then it is the line.
    const isWrongElsewhere = callersIn(wrongFrames).some(({ site }) => !isSamePlace(site, caller));
    if (right.length === 0 || right.some(({ site }) => isSamePlace(site, caller))) break;
    if (isWrongElsewhere) break;
    if (right.every(({ of }) => of.instance !== instance) && readsOwnState(here, statementsOf))
      break;
    depth++;
  }
  return frames.slice(depth);
}

type FaultContext = Pick<LineContext, "rightFrames" | "wrongFrames" | "statementsOf">;

/** Whether a line reads attributes of the object whose method it stands in. */
function readsOwnState({ file, line }: Site, statementsOf: StatementsOf): boolean {
  return statementsOf(file).some(
    (one) =>
      one.line <= line && line <= one.endLine && one.reads.some((name) => name.startsWith("self.")),
  );
}

/** The names of the variables that hold a tensor, whatever the function. */
export function variablesOf(tensor: TensorKey, { observation }: Side): ReadonlySet<string> {
  const names = observation.tensors.get(tensor)?.names ?? [];
  const ports = observation.inputs.filter((port) => port.tensor === tensor).map(({ name }) => name);
  const variables = names.map((name) => {
    const { local } = splitTensorName(withoutCount(name));
    return local.slice(local.indexOf(".") + 1).replace(/#\d+$/, "");
  });
  return new Set([...variables, ...ports]);
}

/** Whether the variable that a tensor was made under bears the name that the reference gives to the same values. */
export function isNamedRightly(
  tensor: TensorKey,
  { candidate, reference, referenceOf, alikeInReference }: LineContext,
): boolean {
  const twin = referenceOf.get(tensor);
  if (twin === undefined) return false;
  const [own] = [...variablesOf(tensor, candidate)].map(normalisedName);
  if (own === undefined) return false;
  return [twin, ...alikeInReference(twin)].some((key) =>
    [...variablesOf(key, reference)].map(normalisedName).includes(own),
  );
}

export function distinctLines(lines: readonly BlamedLine[]): BlamedLine[] {
  const seen = new Set<string>();
  return lines.filter(({ site }) => {
    const key = `${site.file}:${site.line}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
