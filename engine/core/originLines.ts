import type { Origin, Site } from "../protocol/report.js";
import { elementCount } from "./dtypes.js";
import type { Explanation, WrongRead } from "./explanation.js";
import type { Judgement } from "./judge.js";
import {
  distinctLines,
  framesAtFault,
  lineContext,
  type BlamedLine,
  type LineContext,
  type LineOptions,
} from "./lineContext.js";
import { enclosing, isWholeTurn } from "./loops.js";
import { linesOfMissingStep } from "./missingStepLines.js";
import type { ObservedOp, TensorKey } from "./observation.js";
import { isRearrangement, isSelection } from "./rearrangement.js";
import { linesOfOperand } from "./operandLines.js";
import { beforeTheSame } from "./parallelReads.js";
import { isDataOp } from "./segments.js";
import { commonFrames, isSamePlace } from "./sourceFlow.js";

export interface Blamed {
  readonly kind: Origin["kind"];
  /** Best first. */
  readonly lines: readonly BlamedLine[];
  /** What was proven, told of the tensor with which it begins. */
  readonly explanation?: Explanation;
}

/** The lines of origins: decided after the walk, because what else reads a tensor says where it went wrong. */
export function findLines(options: LineOptions): (judgement: Judgement) => Blamed {
  const context = lineContext(options);
  return (judgement) => {
    const explanation = fromItsBeginning(
      options.explanations.get(judgement.pair.candidate),
      context,
    );
    const lines = linesFor(explanation, judgement, context);
    return {
      kind: kindOf(explanation, judgement),
      lines: distinctLines(lines),
      ...(explanation && { explanation }),
    };
  };
}

/** Where a layer's norm is read in the place of another layer's norm, it is the layer's input that lacks a step. */
function fromItsBeginning(
  explanation: Explanation | undefined,
  context: LineContext,
): Explanation | undefined {
  if (explanation?.kind !== "missingStep" || explanation.reads.length !== 1) return explanation;
  const [read] = explanation.reads as [WrongRead];
  return { ...explanation, reads: [beforeTheSame(read, context)] };
}

function kindOf(explanation: Explanation | undefined, { pair }: Judgement): Origin["kind"] {
  if (!pair.alignment && !pair.fitsInPlace) return "output";
  switch (explanation?.kind) {
    case undefined:
      return "op";
    case "missingStep":
    case "extraStep":
      return explanation.kind;
    case "constant":
      return "op";
    default:
      return "operand";
  }
}

function linesFor(
  explanation: Explanation | undefined,
  judgement: Judgement,
  context: LineContext,
): BlamedLine[] {
  if (!explanation) return linesOfOp(judgement, context);
  switch (explanation.kind) {
    case "missingStep":
      return linesOfMissingStep(explanation, judgement, context);
    case "constant":
      return linesOfConstant(explanation, judgement, context);
    case "extraStep":
      return linesOfExtraStep(judgement, context);
    default:
      return linesOfOperand(explanation, context);
  }
}

function linesOfConstant(
  { reads }: Explanation,
  judgement: Judgement,
  context: LineContext,
): BlamedLine[] {
  const [{ reader }] = reads as [WrongRead];
  const [site] = framesAtFault(reader, context);
  const why = "multiplies by another number than the reference";
  return [...(site ? [{ site, why }] : []), ...linesOfOp(judgement, context)];
}

/** The call that does all of it, else the lines of its ops, the last first. */
function linesOfExtraStep(judgement: Judgement, context: LineContext): BlamedLine[] {
  const ops = dataOps(judgement, context);
  const common = commonFrames(ops.map((op) => op.frames));
  const call = common.at(-1);
  const isCall =
    ops.some((op) => op.frames.length > common.length) && doesNothingElse(call, ops, context);
  const why = "does something that the reference does not do";
  const frames = isCall ? common.toReversed() : (ops.at(-1)?.frames ?? []);
  const outer = framesAtFault({ frames, instance: ops.at(-1)?.instance ?? "" }, context)[0];
  const own = linesOfOp(judgement, context).map(({ site }) => ({ site, why }));
  const { loop, sites } = enclosing(ops, context);
  if (loop && isWholeTurn(loop, sites, context)) {
    return [{ site: loop, why: "turns once more than the reference" }, ...own.slice(0, 3)];
  }
  return call && outer ? [{ site: outer, why }, ...own.slice(0, 3)] : own;
}

/** Whether nothing but these ops is done by a call, from the first of them to the last. */
function doesNothingElse(
  call: Site | undefined,
  ops: readonly ObservedOp[],
  { candidate }: LineContext,
): boolean {
  const all = candidate.observation.ops;
  const own = new Set(ops);
  const within = all.slice(
    all.indexOf(ops[0] as ObservedOp),
    all.indexOf(ops.at(-1) as ObservedOp),
  );
  return !within.some(
    (op) =>
      !own.has(op) &&
      isDataOp(op, candidate.observation) &&
      op.frames.some((frame) => call !== undefined && isSamePlace(frame, call)),
  );
}

/** Lines of the segment's ops: the one that makes the tensor first, then backwards. */
function linesOfOp(judgement: Judgement, context: LineContext): BlamedLine[] {
  const lines: BlamedLine[] = [
    ...callOfOtherLayer(judgement, context),
    ...loopBefore(judgement, context),
  ];
  const ops = dataOps(judgement, context).toReversed();
  lines.push(...indexLines(judgement, ops[0], context));
  const isPartial = ops.length > 2 && context.differsInPart(judgement);
  // What only lays out or selects is asked after what computes, and what a library does with it last.
  const rank = (op: ObservedOp): number => {
    if (isFixedStep(op)) return 3;
    if (laysOut(op, context)) return 2;
    return isPartial && decides(op) ? 0 : 1;
  };
  for (const op of ops.toSorted((a, b) => rank(a) - rank(b))) {
    const settings = op.constructedAt
      ? [{ site: op.constructedAt, why: "makes the layer with its settings" }]
      : [];
    const hasFew = hasFewSettings(op);
    if (!hasFew) lines.push(...settings);
    const isFirst = lines.length === 0;
    const [outer] = op.constructedAt || !isFirst ? [] : framesAtFault(op, context);
    const own = op.frames[0] as Site;
    if (outer && outer !== own) {
      lines.push({ site: outer, why: "calls what does right when it is called from elsewhere" });
    }
    lines.push({ site: own, why: isFirst ? "makes the tensor that differs" : between });
    if (hasFew) lines.push(...settings);
  }
  return lines;
}

/** Where to draw a line between elements: bounds, comparisons, what is filled. */
function decides({ kind }: ObservedOp): boolean {
  return /(^|[._])(r?(gt|lt|ge|le|eq|ne)|greater\w*|less\w*|\w*equal|min|max|minimum|maximum|clamp\w*|clip|pad|where|masked_fill|tri[lu])_*$/i.test(
    kind,
  );
}

/** A step of attention that has no settings: wrong results of it are those of what it reads. */
function isFixedStep({ kind, wholeInputs }: ObservedOp): boolean {
  return (
    /attention(_forward)?:(scores|masked scores|weights)$/.test(kind) ||
    (wholeInputs !== undefined && /attention$/.test(kind))
  );
}

/** What has hardly more than its parameters, which are known. */
function hasFewSettings({ kind }: ObservedOp): boolean {
  return /linear|gather|embedding$|matmul|matrixmultiply/i.test(kind);
}

function laysOut(op: ObservedOp, { candidate }: LineContext): boolean {
  const [output] = op.outputs;
  const [base] = op.inputs;
  return (
    isSelection(op) ||
    /stack|concat|\bcat$/i.test(op.kind) ||
    (output !== undefined &&
      base !== undefined &&
      isRearrangement(op, output, base, candidate.observation))
  );
}

/** A table that is the right one is looked up in the wrong places: what makes these, the nearest first. */
function indexLines(
  { segment }: Judgement,
  lookup: ObservedOp | undefined,
  { twinOf, referenceOf }: LineContext,
): BlamedLine[] {
  // A bag pools what it looks up, so more than its places may be wrong.
  const isLookup = /gather|embedding|index_select/i.test(lookup?.kind ?? "");
  if (!lookup || !isLookup || /bag/i.test(lookup.kind)) return [];
  const isKnown = (key: TensorKey): boolean =>
    twinOf(key) !== undefined || referenceOf.get(key) !== undefined;
  const before = segment.ops.filter((op) => op !== lookup && op.frames.length > 0);
  if (!lookup.inputs.some(isKnown) || before.length === 0) return [];
  const why = "makes the places at which the right table is looked up";
  return before.toReversed().map((op) => ({ site: op.frames[0] as Site, why }));
}

/** The loop whose turns made the parts, where their number differs. */
function loopBefore({ pair, segment }: Judgement, { statementsOf }: LineContext): BlamedLine[] {
  const maker = segment.ops.at(-1);
  const site = maker?.frames[0];
  if (!pair.fitsInPlace || !site || !/stack|cat/i.test(maker.kind)) return [];
  const loop = statementsOf(site.file).findLast(
    (one) => one.kind === "loop" && one.function === site.function && one.line < site.line,
  );
  const why = "turns another number of times than the reference's parts are";
  return loop ? [{ site: { ...site, line: loop.line }, why }] : [];
}

/** The call that holds all ops which read parameters, where none of these is one that the reference reads here. */
function callOfOtherLayer(judgement: Judgement, context: LineContext): BlamedLine[] {
  const { segment, pair } = judgement;
  const twins = segment.parameters.map((key) => context.twinOf(key));
  const read = context.parametersBehind(pair.reference);
  const isOther = twins.every((twin) => twin !== undefined && !read.has(twin));
  if (twins.length < 2 || read.size === 0 || !isOther) return [];
  const readers = segment.ops.filter((op) =>
    op.inputs.some((input) => segment.parameters.includes(input)),
  );
  const call = commonFrames(readers.map((op) => op.frames)).at(-1);
  const isBelow = readers.every((op) => op.frames[0] !== call);
  return call && isBelow
    ? [{ site: call, why: "what it calls reads the parameters of another layer throughout" }]
    : [];
}

const between =
  "lies between the last tensors that match and this one; nothing in between has a counterpart";

/** The segment's ops that have a line: those on tensors of rank 2 or more, or on more than a shape, if there are any. */
function dataOps({ segment }: Judgement, { candidate }: LineContext) {
  const ops = segment.ops.filter((op) => op.frames.length > 0);
  const data = ops.filter((op) =>
    op.outputs.some((key) => {
      const shape = candidate.observation.tensors.get(key)?.shape ?? [];
      return shape.length >= 2 || elementCount(shape) > mostAxes;
    }),
  );
  return data.length > 0 ? data : ops;
}

/** A vector that is longer is no shape. */
const mostAxes = 5;
