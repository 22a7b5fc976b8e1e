import type { Site } from "../protocol/report.js";
import type { WrongRead } from "./explanation.js";
import { variablesOf, type BlamedLine, type LineContext, type Side } from "./lineContext.js";
import { normalisedName } from "./names.js";
import type { TensorKey } from "./observation.js";
import { parallelRoots } from "./parallelReads.js";
import { flowOf, isSameLine, type Flow } from "./sourceFlow.js";

/**
 * Two tensors that are read in one another's place: the call that binds them crosswise, else the statement that takes both
 * from what makes them, `sin, cos = tables()`.
 */
export function linesOfExchange(
  reads: readonly WrongRead[],
  context: LineContext,
): readonly BlamedLine[] {
  const [first] = reads;
  const second = reads.find(({ operand }) => operand !== first?.operand);
  if (!first || !second) return [];
  const { candidate, classOf } = context;
  const root = parallelRoots(
    first.operand,
    second.operand,
    candidate,
    (key) => classOf(key) ?? key,
  ).at(-1);
  if (!root) return [];
  const flows = [
    flowFrom(root.given, first, context),
    flowFrom(root.wanted, second, context),
  ] as const;
  const [one, other] = flows;
  if (!one || !other) return [];
  const crossed = crossedCall(root.given, root.wanted, one, context);
  if (crossed) return [{ site: crossed, why: "hands over two tensors in one another's place" }];
  if (!isSameLine(one.from, other.from)) return [];
  if (isNamedAs(root.given, root.given, context) || isNamedAs(root.wanted, root.wanted, context)) {
    return [];
  }
  // An op that reads both is as likely to have them the wrong way round, if no name says otherwise.
  const isAtOp = reads.every(({ reader }) => reader === first.reader);
  if (isAtOp && !isNamedAs(root.given, root.wanted, context)) return [];
  const taking = context
    .statementsOf(one.from.file)
    .some(
      ({ kind, line, endLine, writes }) =>
        kind === "assignment" &&
        line <= one.from.line &&
        one.from.line <= endLine &&
        writes.length > 1,
    );
  const made = candidate.makerOf.get(root.given)?.frames[0];
  return [
    ...(taking ? [{ site: one.from, why: "takes two results in one another's place" }] : []),
    ...(taking && made ? [{ site: made, why: "makes what is taken in another's place" }] : []),
  ];
}

/** Whether the variable of a tensor bears the name that the reference has for another one, or its beginning: "q", "query". */
function isNamedAs(
  tensor: TensorKey,
  other: TensorKey,
  { candidate, reference, referenceOf, alikeInReference }: LineContext,
): boolean {
  const twin = referenceOf.get(other);
  const names = (key: TensorKey, side: Side) => [...variablesOf(key, side)].map(normalisedName);
  // The first is the one that it was made under; others are parameters that it was handed to.
  const own = names(tensor, candidate).slice(0, 1);
  const wanted =
    twin === undefined
      ? []
      : [twin, ...alikeInReference(twin)].flatMap((key) => names(key, reference));
  return own.some((a) => wanted.some((b) => a.startsWith(b) || b.startsWith(a)));
}

function flowFrom(
  tensor: TensorKey,
  { reader }: WrongRead,
  { candidate }: LineContext,
): Flow | undefined {
  const maker = candidate.makerOf.get(tensor);
  return maker && flowOf(maker, reader);
}

/** The call `f(k, q)` of `f(q, k)`, by the names of both. */
function crossedCall(
  one: TensorKey,
  other: TensorKey,
  { to, called: [inner] }: Flow,
  { candidate, statementsOf }: LineContext,
): Site | undefined {
  if (!inner) return undefined;
  const parameters = statementsOf(inner.file)
    .filter(({ kind, function: name }) => kind === "parameter" && name === inner.function)
    .flatMap(({ writes }) => writes);
  const read = statementsOf(to.file)
    .filter(({ line, endLine }) => line <= to.line && to.line <= endLine)
    .flatMap(({ reads }) => reads);
  const nameOf = (key: TensorKey): string | undefined =>
    [...variablesOf(key, candidate)].find((name) => read.includes(name));
  const [a, b] = [nameOf(one), nameOf(other)];
  if (a === undefined || b === undefined || a === b) return undefined;
  if (!parameters.includes(a) || !parameters.includes(b)) return undefined;
  const isFirst = (all: readonly string[]): boolean => all.indexOf(a) < all.indexOf(b);
  return isFirst(read) === isFirst(parameters) ? undefined : to;
}
