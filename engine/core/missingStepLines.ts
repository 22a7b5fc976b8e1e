import type { Site } from "../protocol/report.js";
import type { Explanation, WrongRead } from "./explanation.js";
import type { Judgement } from "./judge.js";
import { enclosing, isWholeTurn, loopAround } from "./loops.js";
import { hasUnused, idle, idleBetween } from "./idleLines.js";
import { framesAtFault, variablesOf, type BlamedLine, type LineContext } from "./lineContext.js";
import type { ObservedOp, TensorKey } from "./observation.js";
import { isRearrangement } from "./rearrangement.js";
import {
  flowOf,
  isInActivationOf,
  isSameLine,
  isSamePlace,
  ownerOf,
  type Flow,
} from "./sourceFlow.js";

/**
 * A missing step has no op: the line is the assignment or return on the tensor's way that makes none. Where the reference
 * does the step in the line in which it makes or reads the tensor, the candidate's line that does the same comes first.
 */
export function linesOfMissingStep(
  { reads }: Explanation,
  { pair }: Judgement,
  context: LineContext,
): BlamedLine[] {
  const [{ reader, operand, own, wanted }] = reads as [WrongRead];
  const { candidate, reference } = context;
  if (reader.outputs.includes(operand)) return linesAfterAll(reader, context);
  const stepOp = reference.makerOf.get(wanted);
  const readerOp = nearestReader(wanted, reference.makerOf.get(pair.reference), context);
  const toReader = stepOp && readerOp && flowOf(stepOp, readerOp);
  const step = stepOp?.frames ?? [];
  const { lines: changesNothing, base, passed } = withoutEffect(operand, wanted, context);
  const names = new Set([...variablesOf(operand, candidate), ...variablesOf(base, candidate)]);
  const maker = candidate.makerOf.get(base);
  const flow = maker && flowOf(maker, reader);
  // As many calls further out as the reference's reader stands below the step, and out of what does right elsewhere.
  const level = Math.min(
    (toReader?.called.length ?? 0) + (isLayer(readerOp) ? 1 : 0),
    flow?.called.length ?? reader.frames.length - 1,
  );
  const frames = framesAtFault(
    { frames: reader.frames.slice(level), instance: reader.instance },
    context,
  );
  const moved = stepOp ? doneAfterwards(stepOp, own, reader, context) : [];
  const readers = lines(frames.slice(0, 1), "reads a tensor to which the reference has done more");
  if (!flow) {
    const before = reader.frames.flatMap((site) => idle(site, "before", names, context));
    const turns = betweenTurns(toReader, readerOp, reader, context);
    return [
      ...moved,
      ...turns,
      ...changesNothing,
      ...before,
      ...readers,
      ...lines(reader.frames, readsLess),
    ];
  }
  const after = flow.returned.flatMap((site) => idle(site, "after", names, context));
  const between = idleBetween(flow, names, context);
  const before = flow.called.flatMap((site) => idle(site, "before", names, context));
  const makes = lines(flow.returned.slice(0, 1), "makes the tensor; the reference does more here");
  const made = lines([flow.from], "makes the tensor; the reference does more");
  const passes = lines([flow.to], "passes on a tensor to which the reference has done more");

  const referenceMaker = own === undefined ? undefined : reference.makerOf.get(own);
  const toStep = referenceMaker && stepOp && flowOf(referenceMaker, stepOp);
  const inReadersLine = isDirect(toReader) && isSameLine(step[0], readerOp?.frames[0]);
  // In which function the reference does it: the maker's, before it returns; the reader's; or between the two.
  const isReturned = toStep?.returned.length === 0 && (toReader?.returned.length ?? 0) > 0;
  const isCalled = (toStep?.called.length ?? 0) > 0 && toReader?.called.length === 0;
  const inMakersLine = isDirect(toStep) && isSameLine(referenceMaker?.frames[0], step[0]);
  // A call beside the one that makes the tensor: of another layer, perhaps.
  const isAgain = (toStep?.returned.length ?? 0) > 0 && isSameLine(toStep?.from, toStep?.to);
  const beside = isAgain ? Math.min(toStep?.returned.length ?? 0, flow.returned.length) : -1;
  const again = beside >= 0 ? maker.frames.slice(beside, beside + 1) : [];
  const turning = again.length > 0 ? loopAround(again, context) : undefined;
  const besides = [...lines(turning ? [turning] : [], turnsLess), ...lines(again, calledOnce)];
  const unused = [...passed, frames[0], flow.to].flatMap((site) =>
    site && hasUnused(site, names, context) ? lines([site], readsAnother) : [],
  );
  // A step of a fused op is done where the steps before it are.
  const isWithin = referenceMaker !== undefined && referenceMaker.sourceOp === stepOp?.sourceOp;
  const isLate = stepOp !== undefined && readsWhatIsMadeBelow(stepOp, own, maker, context);
  const first =
    isLate && (isWithin || inMakersLine)
      ? readers
      : inMakersLine && isWrongElsewhere(flow, context)
        ? after
        : isWithin && makes.length > 0
          ? makes
          : inMakersLine
            ? isReturned
              ? makes
              : made
            : inReadersLine
              ? readers
              : [];
  const supposed = isReturned ? after : isCalled ? before : between;
  const there = supposed.length > 0 ? supposed : between;
  return [
    ...betweenTurns(toReader, readerOp, reader, context),
    ...moved,
    ...unused,
    ...changesNothing,
    ...besides,
    ...first,
    ...there,
    ...(isReturned ? makes : []),
    ...readers,
    ...passes,
    ...between,
    ...after,
    ...before,
    ...made,
    ...makes,
  ];
}

/** Where the candidate does the step to what comes later: the line that reads too early, and the one that does it. */
function doneAfterwards(
  step: ObservedOp,
  own: TensorKey | undefined,
  { frames }: ObservedOp,
  { judgements, explanations, twinOf, referenceOf }: LineContext,
): BlamedLine[] {
  const others = new Set(step.inputs.filter((key) => key !== own));
  const isOfStep = (op: ObservedOp): boolean =>
    op.inputs.some((key) => others.has(twinOf(key) ?? referenceOf.get(key) ?? ""));
  for (const { pair, segment } of judgements) {
    if (explanations.get(pair.candidate)?.kind !== "extraStep") continue;
    for (const op of segment.ops.filter(isOfStep)) {
      const later = op.frames.find((site) =>
        frames.some((one) => isSameFunction(one, site) && one.line < site.line),
      );
      const early = frames.find((one) => later && isSameFunction(one, later));
      if (!later || !early) continue;
      const why = "reads first what the reference first does a step to";
      return [...lines([early], why), ...lines([later], "does the step afterwards")];
    }
  }
  return [];
}

function isSameFunction(one: Site, other: Site): boolean {
  return one.file === other.file && one.function === other.function;
}

/** A layer of a library is a call too, although it has no lines. */
function isLayer(op: ObservedOp | undefined): boolean {
  return /norm|linear|conv|embedding|attention/i.test(op?.kind ?? "");
}

/** Whether the step reads something that the candidate makes, in this turn or in another one, only below the tensor. */
function readsWhatIsMadeBelow(
  step: ObservedOp,
  own: TensorKey | undefined,
  maker: ObservedOp,
  { candidate, reference, counterpartsOf, referenceClassOf }: LineContext,
): boolean {
  const [site] = maker.frames;
  const classOf = (key: TensorKey): string => referenceClassOf(key) ?? key;
  const isBelow = (key: TensorKey): boolean => {
    const [other] = candidate.makerOf.get(key)?.frames ?? [];
    return (
      other !== undefined &&
      other.file === site?.file &&
      other.function === site.function &&
      other.line > site.line
    );
  };
  return step.inputs
    .filter((key) => own === undefined || classOf(key) !== classOf(own))
    .some((key) => {
      const right = reference.makerOf.get(key);
      const turns = reference.observation.ops.filter(
        (op) => op.kind === right?.kind && isSameLine(op.frames[0], right.frames[0]),
      );
      return turns.some((op) => op.outputs.some((one) => counterpartsOf(one).some(isBelow)));
    });
}

/** What is handed out as it is made: nothing reads it any more, and yet something should have been done to it. */
function linesAfterAll(maker: ObservedOp, context: LineContext): BlamedLine[] {
  const names = new Set(maker.outputs.flatMap((key) => [...variablesOf(key, context.candidate)]));
  const idlers = maker.frames.flatMap((site) => idle(site, "after", names, context));
  const isReturn = ({ site }: BlamedLine): boolean =>
    context
      .statementsOf(site.file)
      .some(({ kind, line }) => kind === "return" && line === site.line);
  return [
    // That a function returns what it made is nothing to wonder at.
    ...idlers.filter((line) => !isReturn(line)),
    ...idlers.filter(isReturn),
    ...lines(maker.frames, "makes the tensor; the reference does more"),
  ];
}

/** Whether the function that makes the tensor makes another wrong one where it is called from elsewhere. */
function isWrongElsewhere({ from, returned }: Flow, { wrongFrames }: LineContext): boolean {
  const inner = returned.at(-1);
  return wrongFrames.some(({ frames }) =>
    frames.some(
      (site, at) =>
        site.file === inner?.file &&
        site.function === inner.function &&
        frames[at + 1] !== undefined &&
        !isSamePlace(frames[at + 1], from),
    ),
  );
}

/**
 * Where one line of the reference hands over from one of its activations to the next, as a loop over layers does: the line
 * of the candidate that calls what is done in the next, and the loop around it.
 */
function betweenTurns(
  toReader: Flow | undefined,
  readerOp: ObservedOp | undefined,
  reader: ObservedOp,
  context: LineContext,
): BlamedLine[] {
  const { candidate, reference, counterpartsOf } = context;
  if (!readerOp || !isBetweenTurns(toReader)) return [];
  const turn = reference.observation.ops.filter((op) => isInActivationOf(op, readerOp));
  const twins = turn
    .flatMap((op) => op.outputs.flatMap(counterpartsOf))
    .flatMap((key) => candidate.makerOf.get(key) ?? [])
    .filter((op) => ownerOf(op) === ownerOf(reader));
  const { call, sites, loop } = enclosing([reader, ...twins], context);
  // The turn is no call but the body of the loop.
  if (loop && isWholeTurn(loop, sites, context)) return lines([loop], turnsOtherwise);
  if (!call || sites.length === 0) return [];
  const around = loopAround([call], context);
  return [
    ...lines([call], "hands over what the reference hands over at another turn"),
    ...lines(around ? [around] : [], turnsOtherwise),
  ];
}

const turnsOtherwise = "decides what is done one after another";

function isBetweenTurns(flow: Flow | undefined): boolean {
  return (
    isSameLine(flow?.from, flow?.to) &&
    (flow?.returned.length ?? 0) > 0 &&
    (flow?.called.length ?? 0) > 0
  );
}

/** The reference's op that reads a tensor on the way to another one, if several ops lie between the two. */
function nearestReader(
  wanted: TensorKey,
  end: ObservedOp | undefined,
  { reference }: LineContext,
): ObservedOp | undefined {
  if (!end || end.inputs.includes(wanted)) return end;
  const behind = new Set([end]);
  for (const op of behind) {
    for (const key of op.inputs) {
      const maker = reference.makerOf.get(key);
      if (maker && behind.size < mostBehind) behind.add(maker);
    }
  }
  return (reference.readersOf.get(wanted) ?? []).find((op) => behind.has(op)) ?? end;
}

const mostBehind = 200;

const readsLess = "reads a tensor to which the reference has done more";

const readsAnother = "reads the tensor, while what an earlier line makes of it is not used";

const turnsLess = "turns less often than what the reference does before it goes on";

const calledOnce = "makes the tensor; the reference comes by here again before it goes on";

/** Whether two lines stand in one activation of one function. */
function isDirect(flow: Flow | undefined): boolean {
  return flow !== undefined && flow.returned.length === 0 && flow.called.length === 0;
}

function lines(sites: readonly Site[], why: string): BlamedLine[] {
  return sites.map((site) => ({ site, why }));
}

/**
 * Backwards over ops that compute and yet give what they read: in the place of one the reference does the step, unless the
 * reference has that op too.
 */
function withoutEffect(
  operand: TensorKey,
  wanted: TensorKey,
  context: LineContext,
): { lines: BlamedLine[]; base: TensorKey; passed: Site[] } {
  const { candidate, classOf, hasReferenceOp } = context;
  const ownClass = classOf(operand);
  const found: BlamedLine[] = [];
  const passed: Site[] = [];
  let tensor = operand;
  for (;;) {
    const maker = candidate.makerOf.get(tensor);
    const base = maker?.inputs.find((key) => ownClass !== undefined && classOf(key) === ownClass);
    if (!maker || base === undefined) return { lines: found, base: tensor, passed };
    const isComputed = !isRearrangement(maker, tensor, base, candidate.observation);
    const isAnOp = isComputed && !hasReferenceOp(maker, base) && !isLeftAsItIs(wanted, context);
    if (isComputed) passed.push(...maker.frames.slice(0, 1));
    if (isAnOp && maker.frames[0]) {
      const why = "changes nothing; in its place the reference does a step";
      found.push({ site: maker.frames[0], why });
    }
    tensor = base;
  }
}

/** Whether the reference too does something to a tensor that changes nothing: a clamp that does not bind. */
function isLeftAsItIs(key: TensorKey, { reference, referenceClassOf }: LineContext): boolean {
  const own = referenceClassOf(key);
  return (reference.readersOf.get(key) ?? []).some((op) =>
    op.outputs.some(
      (output) =>
        own !== undefined &&
        referenceClassOf(output) === own &&
        !isRearrangement(op, output, key, reference.observation),
    ),
  );
}
