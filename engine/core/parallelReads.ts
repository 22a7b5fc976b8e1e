import type { WrongRead } from "./explanation.js";
import type { LineContext } from "./lineContext.js";
import type { TensorKey } from "./observation.js";
import { isSameLine } from "./sourceFlow.js";

/**
 * Where both sides do the same with the wrong tensor as with the right one, it was wrong before that: backwards over ops of
 * the candidate, and in parallel over the reference's that make the one and the other in the same lines.
 */
export function beforeTheSame(read: WrongRead, context: LineContext): WrongRead {
  const { candidate, referenceOf, referenceClassOf } = context;
  const given = referenceOf.get(read.operand);
  if (given === undefined) return read;
  const classOf = (key: TensorKey): string => referenceClassOf(key) ?? key;
  const wantedFor = new Map(
    [...inParallel(given, read.wanted, context)].map(([key, wanted]) => [classOf(key), wanted]),
  );
  let found = read;
  const open: WrongRead[] = [read];
  const seen = new Set<TensorKey>();
  for (const one of open) {
    const maker = candidate.makerOf.get(one.operand);
    if (!maker || seen.size > mostInParallel || seen.has(one.operand)) continue;
    seen.add(one.operand);
    maker.inputs.forEach((operand, position) => {
      if (!candidate.makerOf.has(operand)) return;
      const wanted = wantedFor.get(classOf(referenceOf.get(operand) ?? ""));
      const before = { ...read, reader: maker, position, operand, wanted: wanted ?? read.wanted };
      if (wanted !== undefined) found = before;
      open.push(before);
    });
  }
  return found;
}

/** What stands in the making of one tensor of the reference where another stands in that of the other. */
function inParallel(
  first: TensorKey,
  second: TensorKey,
  { reference, referenceClassOf }: LineContext,
): ReadonlyMap<TensorKey, TensorKey> {
  const found = new Map<TensorKey, TensorKey>();
  const open = [[first, second] as const];
  for (const [one, other] of open) {
    const [a, b] = [reference.makerOf.get(one), reference.makerOf.get(other)];
    if (!a || !b || a === b || a.inputs.length !== b.inputs.length) continue;
    if (found.size > mostInParallel || !isSameLine(a.frames[0], b.frames[0])) continue;
    // Steps of a fused op have their place in their kind.
    if (withoutPlace(a.kind) !== withoutPlace(b.kind)) continue;
    a.inputs.forEach((key, at) => {
      const twin = b.inputs[at] as TensorKey;
      const own = referenceClassOf(key);
      const isSame = key === twin || (own !== undefined && own === referenceClassOf(twin));
      if (isSame || found.has(key)) return;
      found.set(key, twin);
      open.push([key, twin]);
    });
  }
  return found;
}

const mostInParallel = 40;

/** "torch.gru:step 3 input 0" is "torch.gru:step input" in another turn. */
function withoutPlace(kind: string): string {
  return kind.replace(/ \d+/g, "");
}
