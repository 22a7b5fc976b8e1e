import type { WrongRead } from "./explanation.js";
import type { LineContext, Side } from "./lineContext.js";
import type { ObservedOp, TensorKey } from "./observation.js";
import { isSameLine } from "./sourceFlow.js";
import { whereComputed } from "./whereComputed.js";

/** Further back, nothing is compared. */
const mostInParallel = 60;

/**
 * Where both sides do the same with the wrong tensor as with the right one, it was wrong before that: backwards over ops of
 * the candidate, to the last tensor out of which the reference makes the one as it makes the other out of another.
 */
export function beforeTheSame(read: WrongRead, context: LineContext): WrongRead {
  const { reference, referenceOf, referenceClassOf, alikeInReference, counterpartsOf } = context;
  const held = referenceOf.get(read.operand);
  if (held === undefined) return read;
  // Of what holds the same, what is made in the same way.
  const kindOf = (key: TensorKey): string => withoutPlace(reference.makerOf.get(key)?.kind ?? "");
  const given =
    [held, ...alikeInReference(held)].find((key) => kindOf(key) === kindOf(read.wanted)) ?? held;
  const classOf = (key: TensorKey): string => referenceClassOf(key) ?? key;
  const [, ...before] = parallelRoots(given, read.wanted, reference, classOf);
  const readers = readsBehind(read, context);
  for (const { given: root, wanted } of before.toReversed()) {
    const found = readers.find(
      ({ operand }) =>
        classOf(referenceOf.get(operand) ?? "") === classOf(root) ||
        counterpartsOf(root).includes(operand),
    );
    if (!found) continue;
    const own = referenceOf.get(found.operand) ?? root;
    return {
      ...read,
      ...found,
      own,
      wanted: whereComputed(wanted, reference.makerOf, referenceClassOf),
    };
  }
  return read;
}

/** What is read behind a tensor of the candidate, the nearest first. */
function readsBehind(
  { operand }: WrongRead,
  { candidate }: LineContext,
): Pick<WrongRead, "reader" | "position" | "operand">[] {
  const found: Pick<WrongRead, "reader" | "position" | "operand">[] = [];
  const open = new Set([operand]);
  for (const key of open) {
    const reader = candidate.makerOf.get(key);
    if (!reader || open.size > mostInParallel) continue;
    reader.inputs.forEach((input, position) => {
      found.push({ reader, position, operand: input });
      open.add(input);
    });
  }
  return found;
}

export interface Parallel {
  readonly given: TensorKey;
  readonly wanted: TensorKey;
}

/**
 * Two tensors of one side, and before them those out of which the same ops make both, as long as it is one tensor in the
 * place of one other that makes all of the difference: the nearest first.
 */
export function parallelRoots(
  given: TensorKey,
  wanted: TensorKey,
  { observation, makerOf }: Side,
  classOf: (key: TensorKey) => string,
): readonly Parallel[] {
  const parameters = new Set(observation.parameters.map(({ tensor }) => tensor));
  const known = new Map<string, readonly Parallel[]>();
  const rootsOf = (one: TensorKey, other: TensorKey): readonly Parallel[] => {
    const id = `${one} ${other}`;
    const given = known.get(id);
    if (given) return given;
    const own = { given: one, wanted: other };
    known.set(id, [own]);
    const differing = known.size > mostInParallel ? [] : differingReads(one, other);
    const [first = [], ...others] = differing.map(([a, b]) => rootsOf(a, b));
    const common = first.filter((pair) => others.every((roots) => roots.includes(pair)));
    const roots = [own, ...common];
    known.set(id, roots);
    return roots;
  };
  /** What the makers of two tensors read otherwise; nothing where they are not the same op. */
  const differingReads = (one: TensorKey, other: TensorKey): [TensorKey, TensorKey][] => {
    const [a, b] = [makerOf.get(one), makerOf.get(other)];
    if (!a || !b || a === b) return [];
    // Steps of a fused op have their place in their kind, and a layer does the same wherever it stands.
    const isLayer = /\.functional\.|:/.test(a.kind);
    if (withoutPlace(a.kind) !== withoutPlace(b.kind)) return [];
    if (!isLayer && !isSameLine(a.frames[0], b.frames[0])) return [];
    const [read, readThere] = readByBoth(a, b);
    if (read.length !== readThere.length) return [];
    const differing = read
      .map((key, at): [TensorKey, TensorKey] => [key, readThere[at] as TensorKey])
      .filter(([key, twin]) => classOf(key) !== classOf(twin));
    // With other weights it is not the same.
    const isOther = differing.some((pair) => pair.some((key) => parameters.has(key)));
    return isOther ? [] : differing;
  };
  return rootsOf(given, wanted);
}

/** A fused op of which only one is written out is taken as a whole. */
function readByBoth(a: ObservedOp, b: ObservedOp): [readonly TensorKey[], readonly TensorKey[]] {
  const areAlike = (a.wholeInputs === undefined) === (b.wholeInputs === undefined);
  return areAlike ? [a.inputs, b.inputs] : [a.wholeInputs ?? a.inputs, b.wholeInputs ?? b.inputs];
}

/** "torch.gru:step 3 input 0" is "torch.gru:step input" in another turn. */
function withoutPlace(kind: string): string {
  return kind.replace(/ \d+/g, "");
}
