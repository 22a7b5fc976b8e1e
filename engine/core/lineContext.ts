import type { Site } from "../protocol/report.js";
import type { Explanation } from "./explanation.js";
import type { Judgement } from "./judge.js";
import { normalisedName, splitTensorName, withoutCount } from "./names.js";
import type { Observation, ObservedOp, TensorKey } from "./observation.js";
import { isDataOp, segmentGraph, segmentOf } from "./segments.js";
import { isSamePlace } from "./sourceFlow.js";
import type { StatementsOf } from "./statements.js";

/** One line that may be at fault, and what speaks for it. */
export interface BlamedLine {
  readonly site: Site;
  readonly why: string;
}

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
  /** The reference's parameter that one of the candidate's was paired with. */
  readonly twinOf: (parameter: TensorKey) => TensorKey | undefined;
  readonly statementsOf: StatementsOf;
}

export interface LineContext extends LineOptions {
  /** Whether an op was found to read a wrong tensor at this place. */
  readonly isWrongRead: (op: ObservedOp, position: number) => boolean;
  /** Whether something is computed in this line. */
  readonly isComputing: (file: string, line: number) => boolean;
  /** Frames of ops that make what they should. */
  readonly rightFrames: readonly (readonly Site[])[];
  /** Frames of ops that do not, or that read what they should not. */
  readonly wrongFrames: readonly (readonly Site[])[];
  /** Parameters that the reference reads between the last paired tensors and this one. */
  readonly parametersBehind: (reference: TensorKey) => ReadonlySet<TensorKey>;
  /**
   * Whether the reference too has an op that reads what one of the candidate's reads beside `base`.
   */
  readonly hasReferenceOp: (op: ObservedOp, base: TensorKey) => boolean;
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
  const referenceOf = new Map(judgements.map(({ pair }) => [pair.candidate, pair.reference]));
  const paired = new Set(referenceOf.values());
  const graph = segmentGraph(options.reference.observation);
  return {
    ...options,
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
        return (reads ?? segment.ops.slice(-1)).map((op) => op.frames);
      }),
    rightFrames: [...new Set(right)]
      .filter((op) => !faulty.has(op) && isDataOp(op, candidate.observation))
      .map((op) => op.frames),
    referenceOf,
  };
}

/**
 * The frames of an op from the line that is at fault: a line that does right when it is called from elsewhere is not, but
 * the line that calls it. A line that other turns of a loop come to by the same calls says nothing.
 */
export function framesAtFault(
  frames: readonly Site[],
  { rightFrames, wrongFrames }: Pick<LineContext, "rightFrames" | "wrongFrames">,
): readonly Site[] {
  let depth = 0;
  while (depth < frames.length - 1) {
    const [here, caller] = [frames[depth], frames[depth + 1]];
    const callersIn = (all: LineContext["rightFrames"]) =>
      all.flatMap((one) =>
        one.flatMap((site, at) => (isSamePlace(site, here) ? [one[at + 1]] : [])),
      );
    const right = callersIn(rightFrames);
    // Wrong from everywhere but where it does not matter: then it is the line.
    const isWrongElsewhere = callersIn(wrongFrames).some((other) => !isSamePlace(other, caller));
    if (right.length === 0 || right.some((other) => isSamePlace(other, caller))) break;
    if (isWrongElsewhere) break;
    depth++;
  }
  return frames.slice(depth);
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
  { candidate, reference, referenceOf }: LineContext,
): boolean {
  const twin = referenceOf.get(tensor);
  if (twin === undefined) return false;
  const [own] = [...variablesOf(tensor, candidate)].map(normalisedName);
  return own !== undefined && [...variablesOf(twin, reference)].map(normalisedName).includes(own);
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
