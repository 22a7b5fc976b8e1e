import type { Explanation, WrongRead } from "./explanation.js";
import type { BlamedLine, LineContext } from "./lineContext.js";
import type { TensorKey } from "./observation.js";
import { isRearrangement, isSelection, isTurn } from "./rearrangement.js";

/** Where an operand is a parameter: the line that declares it, and those that read it. */
export function linesOfParameter(
  { kind, reads }: Explanation,
  uses: readonly BlamedLine[],
  context: LineContext,
): BlamedLine[] | undefined {
  const [first] = reads as [WrongRead];
  const stored = kind === "transposed" ? behindViews(first.operand, context) : first.operand;
  const { parameters } = context.candidate.observation;
  const parameter = parameters.find(({ tensor }) => tensor === stored);
  if (!parameter) return undefined;
  const declared = parameter.declaredAt
    ? [{ site: parameter.declaredAt, why: "declares the parameter that is read" }]
    : [];
  const isStored =
    kind === "transposed" && (hasSameReader(first, context) || !readsTurned(context));
  return isStored ? [...declared, ...uses] : [...uses, ...declared];
}

/** What a tensor is a view or a part of. */
function behindViews(tensor: TensorKey, context: LineContext): TensorKey {
  const { makerOf, observation } = context.candidate;
  const maker = makerOf.get(tensor);
  const [base] = maker?.inputs ?? [];
  if (!maker || base === undefined) return tensor;
  const isView = isSelection(maker) || isRearrangement(maker, tensor, base, observation);
  return isView ? behindViews(base, context) : tensor;
}

/**
 * Whether the candidate turns any of its parameters round where it reads them: else they are to be stored turned round. What
 * a layer of a library does with its own says nothing.
 */
function readsTurned({ candidate }: LineContext): boolean {
  const parameters = new Set(candidate.observation.parameters.map(({ tensor }) => tensor));
  return candidate.observation.ops.some(
    (op) => op.constructedAt === undefined && parameters.has(op.inputs[0] ?? "") && isTurn(op),
  );
}

/** Whether both sides read the parameter by an op of one kind: then it is stored the wrong way round, not read so. */
function hasSameReader({ reader, own }: WrongRead, { reference }: LineContext): boolean {
  const readers = own === undefined ? [] : (reference.readersOf.get(own) ?? []);
  return readers.some(({ kind }) => kind === reader.kind);
}
