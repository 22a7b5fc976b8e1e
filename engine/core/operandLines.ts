import { linesOfExchange } from "./exchangedLines.js";
import type { Explanation, WrongRead } from "./explanation.js";
import {
  framesAtFault,
  isNamedRightly,
  variablesOf,
  type BlamedLine,
  type LineContext,
} from "./lineContext.js";
import { enclosing, isSameCall, loopAround } from "./loops.js";
import { beforeTheSame } from "./parallelReads.js";
import type { ObservedOp, TensorKey } from "./observation.js";
import { isRearrangement, isSelection, isTurn } from "./rearrangement.js";
import { linesOfParameter } from "./parameterLines.js";
import { isDataOp } from "./segments.js";
import { callKey, commonFrames, flowOf, ownerOf, type Flow } from "./sourceFlow.js";

/**
 * The line at which a wrong tensor was taken: the view that selected it if nothing reads it rightly, else the first op
 * after the last tensor that is also read rightly, or the line of the call by which it came there.
 */
export function linesOfOperand(explanation: Explanation, context: LineContext): BlamedLine[] {
  const [first] = explanation.reads as [WrongRead];
  const { reader, operand } = first;
  const frames = framesAtFault(reader, context);
  const own = reader.frames[0];
  if (!own || !frames[0]) return [];
  const uses: BlamedLine[] = [
    { site: frames[0], why: frames[0] === own ? readsWrong : "hands over the wrong operand" },
    { site: own, why: readsWrong },
  ];
  const exchange =
    explanation.kind === "swapped" ? linesOfExchange(explanation.reads, context) : [];
  if (exchange.length > 0) return [...exchange, ...uses];
  const ofOther = callOfOtherLayer(first, context);
  const ofParameter = linesOfParameter(explanation, uses, context);
  if (ofParameter) return [...(explanation.kind === "transposed" ? [] : ofOther), ...ofParameter];
  if (explanation.kind === "transposed") return uses;
  const tooMany = explanation.kind === "operand" ? stepTooMany(first, context) : [];
  if (tooMany.length > 0) return [...tooMany, ...uses];
  uses.unshift(...makerFromTheSame(explanation, context));
  if (explanation.kind === "layout") return [...rearrangements(operand, context), ...uses];
  if (ofOther.length > 0) return [...ofOther, ...uses];
  const { taker, tensor } = whereTaken(beforeTheSame(first, context), context);
  const maker = context.candidate.makerOf.get(tensor);
  const caller = reader.frames[1];
  if (!maker && caller && isReadWronglyThere(tensor, reader, context)) {
    return [{ site: caller, why: "hands over the wrong tensor" }, ...uses];
  }
  const flow = maker && flowOf(maker, taker === maker ? reader : taker);
  const swaps = flow ? swapsBetween(flow, tensor, context) : [];
  const site = taker === reader ? frames[0] : (taker.frames[0] ?? own);
  const why =
    taker === reader ? readsWrong : "takes the wrong tensor, and nothing reads it rightly";
  const taken: BlamedLine = { site, why };
  if (!flow || flow.called.length === 0 || taker === maker) return [...swaps, taken, ...uses];
  const handedOver: BlamedLine = { site: flow.to, why: "hands over the wrong tensor" };
  return cameByCall(first, tensor, flow, context) ||
    isBoundByCall(taker, tensor, flow, first, context)
    ? [...swaps, handedOver, taken, ...uses]
    : [...swaps, taken, handedOver, ...uses];
}

const readsWrong = "reads the wrong operand";

/** The op that makes the wrong tensor out of the right one, if nothing reads what it makes rightly. */
function stepTooMany(read: WrongRead, context: LineContext): BlamedLine[] {
  const { candidate, counterpartsOf, referenceOf } = context;
  // It is made rightly, and read in the place of another one.
  if (referenceOf.get(read.operand) === read.wanted) return [];
  const maker = candidate.makerOf.get(read.operand);
  const site = maker?.frames[0];
  const isMadeOfIt = counterpartsOf(read.wanted).some((key) => maker?.inputs.includes(key));
  if (!maker || !site || !isMadeOfIt || isReadRightly(read.operand, maker, read, context))
    return [];
  return [{ site, why: "does something to the right tensor that the reference does not do here" }];
}

/** The op that makes the wrong tensor of all that the reference makes the right one of, which nothing else is. */
function makerFromTheSame(
  { kind, reads }: Explanation,
  { candidate, reference, counterpartsOf }: LineContext,
): BlamedLine[] {
  const [{ operand, wanted }] = reads as [WrongRead];
  const maker = candidate.makerOf.get(operand);
  const right = reference.makerOf.get(wanted);
  const [site] = maker?.frames ?? [];
  if (!maker || !right || !site) return [];
  if (kind !== "layout" && counterpartsOf(wanted).length > 0) return [];
  const held = right.inputs.map((key) =>
    counterpartsOf(key).filter((k) => maker.inputs.includes(k)),
  );
  const isSame =
    held.length > 1 &&
    held.every((keys) => keys.length > 0) &&
    maker.inputs.every((key) => held.some((keys) => keys.includes(key)));
  return isSame
    ? [{ site, why: "makes another tensor of what the reference makes the right one of" }]
    : [];
}

/**
 * The views that laid a tensor out as it is, the last first, but what lies in the reference just so is right; and the op
 * that made it where that lays out what it makes as it likes.
 */
function rearrangements(operand: TensorKey, context: LineContext): BlamedLine[] {
  const { candidate, layoutOf } = context;
  const found: (BlamedLine & { readonly isWrong: boolean; readonly isTurned: boolean })[] = [];
  let tensor = operand;
  for (;;) {
    const maker = candidate.makerOf.get(tensor);
    const base = maker?.inputs[0];
    if (
      !maker ||
      base === undefined ||
      !isRearrangement(maker, tensor, base, candidate.observation)
    ) {
      const made = maker?.frames[0];
      const isFree = made !== undefined && /einsum|tensordot|stack|cat/i.test(maker?.kind ?? "");
      const making = isFree ? [{ site: made, why: "lays out what it makes in another way" }] : [];
      if (layoutOf(tensor) !== "same" && isFree) return [...making, ...found];
      // A reshape keeps the order of the elements: what it is given in another order came so.
      const turned = found.findLastIndex(({ isTurned }) => isTurned);
      const first = turned >= 0 ? turned : found.findLastIndex(({ isWrong }) => isWrong);
      const ordered =
        first < 0 ? found : [found[first] as BlamedLine, ...found.toSpliced(first, 1)];
      return [...ordered, ...making];
    }
    const site = maker.frames[0];
    const isWrong = layoutOf(tensor) === "other";
    const isTurned = layoutOf(tensor) !== "same" && isTurn(maker);
    if (site) found.push({ site, why: "lays the tensor out in another way", isWrong, isTurned });
    tensor = base;
  }
}

/** Backwards from the reader, as long as nothing else reads the tensor rightly. */
function whereTaken(
  read: WrongRead,
  context: LineContext,
): { taker: ObservedOp; tensor: TensorKey } {
  const { candidate, classOf } = context;
  let tensor = read.operand;
  let taker = read.reader;
  while (!isReadRightly(tensor, taker, read, context)) {
    const maker = candidate.makerOf.get(tensor);
    const base = maker?.inputs[0];
    if (!maker || base === undefined || isNamedRightly(tensor, context)) break;
    const isRearranged =
      isRearrangement(maker, tensor, base, candidate.observation) ||
      // A clamp that does not bind.
      (classOf(tensor) !== undefined && classOf(tensor) === classOf(base));
    if (!isRearranged && !isSelection(maker)) break;
    taker = maker;
    if (!isRearranged) break;
    tensor = base;
  }
  return { taker, tensor };
}

function isReadRightly(
  tensor: TensorKey,
  taker: ObservedOp,
  { wanted, reader, operand }: WrongRead,
  { candidate, isWrongRead, counterpartsOf }: LineContext,
): boolean {
  if (candidate.observation.inputs.some((port) => port.tensor === tensor)) return true;
  if (tensor !== operand && counterpartsOf(wanted).includes(tensor)) return true;
  return (candidate.readersOf.get(tensor) ?? []).some((op) =>
    op.inputs.some(
      (input, position) =>
        input === tensor &&
        isDataOp(op, candidate.observation) &&
        !isWrongRead(op, position) &&
        (op !== taker || op === reader),
    ),
  );
}

/** Whether all that is read of the wrong tensor within the call is wrong, and nothing there reads the right one rightly. */
function cameByCall(
  { reader, wanted }: WrongRead,
  tensor: TensorKey,
  flow: Flow,
  context: LineContext,
): boolean {
  const { candidate, counterpartsOf, isWrongRead } = context;
  const depth = reader.frames.length - flow.called.length;
  const key = callKey(reader.frames, depth);
  const within = (op: ObservedOp): boolean =>
    op.frames.length > depth &&
    callKey(op.frames, depth) === key &&
    ownerOf(op) === ownerOf(reader) &&
    isSameCall(op, reader, depth, candidate.observation.ops);
  const areWrong = (start: TensorKey): boolean =>
    readsThroughViews(start, context)
      .filter(({ op }) => within(op) && isDataOp(op, candidate.observation))
      .every(({ op, position }) => isWrongRead(op, position));
  return areWrong(tensor) && counterpartsOf(wanted).every(areWrong);
}

/**
 * Whether a tensor came into a function twice, and is read wrongly under one of its parameters and rightly under another:
 * `f(v, k, v)` where `f(q, k, v)` is asked for.
 */
function isBoundByCall(
  taker: ObservedOp,
  tensor: TensorKey,
  flow: Flow,
  read: WrongRead,
  context: LineContext,
): boolean {
  const { candidate, statementsOf, isWrongRead } = context;
  const site = flow.called[0];
  if (!site || taker.frames[0]?.function !== site.function) return false;
  const statements = statementsOf(site.file).filter((one) => one.function === site.function);
  const parameters = new Set(
    statements.flatMap(({ kind, writes }) => (kind === "parameter" ? writes : [])),
  );
  const namesAt = (op: ObservedOp): string[] =>
    op.frames
      .filter((frame) => frame.function === site.function && frame.file === site.file)
      .flatMap(({ line }) => statements.filter((one) => one.line <= line && line <= one.endLine))
      .flatMap(({ reads }) => reads.filter((name) => parameters.has(name)));
  const wrong = new Set(namesAt(taker));
  const right = new Set(
    (candidate.readersOf.get(tensor) ?? [])
      .filter((op) => op !== taker && op !== read.reader && isDataOp(op, candidate.observation))
      .filter((op) => op.inputs.every((input, at) => input !== tensor || !isWrongRead(op, at)))
      .flatMap(namesAt),
  );
  return [...wrong].some((name) => !right.has(name)) && [...right].some((name) => !wrong.has(name));
}

/** Whether a function reads an input of the model wrongly wherever it reads it: then it was handed over. */
function isReadWronglyThere(tensor: TensorKey, reader: ObservedOp, context: LineContext): boolean {
  const { frames } = reader;
  const depth = frames.length - 1;
  const key = callKey(frames, depth);
  const { ops } = context.candidate.observation;
  const reads = readsThroughViews(tensor, context).filter(
    ({ op }) =>
      op.frames.length >= frames.length &&
      callKey(op.frames, depth) === key &&
      isSameCall(op, reader, depth, ops) &&
      isDataOp(op, context.candidate.observation),
  );
  return reads.every(({ op, position }) => context.isWrongRead(op, position));
}

/** What reads a tensor or what only lays it out in another way. */
function readsThroughViews(
  start: TensorKey,
  { candidate }: LineContext,
): { op: ObservedOp; position: number }[] {
  const found: { op: ObservedOp; position: number }[] = [];
  const open = [start];
  const seen = new Set(open);
  while (open.length > 0) {
    const tensor = open.pop() as TensorKey;
    for (const op of candidate.readersOf.get(tensor) ?? []) {
      op.inputs.forEach((input, position) => {
        if (input !== tensor) return;
        const [output] = op.outputs;
        const isView =
          position === 0 &&
          output !== undefined &&
          isRearrangement(op, output, tensor, candidate.observation);
        if (!isView) found.push({ op, position });
        else if (!seen.has(output)) {
          seen.add(output);
          open.push(output);
        }
      });
    }
  }
  return found;
}

/** `k, v = v, k` makes no op, and yet it is the line. */
function swapsBetween(
  { from, to }: Flow,
  tensor: TensorKey,
  { candidate, statementsOf }: LineContext,
): BlamedLine[] {
  const names = variablesOf(tensor, candidate);
  return statementsOf(to.file)
    .filter(({ kind, line, function: name }) => {
      return kind === "assignment" && name === to.function && line > from.line && line < to.line;
    })
    .filter(
      ({ reads, writes }) =>
        writes.length > 1 &&
        writes.every((name) => reads.includes(name)) &&
        reads.some((name) => names.has(name)),
    )
    .map(({ line }) => ({
      site: { file: to.file, line, function: to.function },
      why: "exchanges variables on the way to where they are read wrongly",
    }));
}

/** A whole layer in the place of another: the call in which more than one line reads what is another layer's. */
function callOfOtherLayer({ reader }: WrongRead, context: LineContext): BlamedLine[] {
  const { candidate, explanations } = context;
  const parameters = new Set(candidate.observation.parameters.map(({ tensor }) => tensor));
  const group = [...explanations.values()]
    .filter(({ kind }) => kind === "operand")
    .flatMap(({ reads }) => reads)
    .filter((read) => (read.reader.call ?? 0) === (reader.call ?? 0));
  const ofParameters = group.filter((read) => parameters.has(read.operand));
  const lines = new Set(
    ofParameters.map(({ reader: { frames } }) => `${frames[0]?.file}:${frames[0]?.line}`),
  );
  const call = commonFrames(group.map((read) => read.reader.frames)).at(-1);
  const isBelow = group.every((read) => read.reader.frames[0] !== call);
  if (ofParameters.length < 2 || lines.size < 2 || !call || !isBelow) return [];
  const deciding = decidedBefore(
    group.map((read) => read.reader),
    commonFrames(group.map((read) => read.reader.frames)).length,
    context,
  );
  const why = "what it calls reads the parameters of another layer throughout";
  const { loop = loopAround([call], context) } = enclosing(
    group.map((read) => read.reader),
    context,
  );
  const isLoop = loop && areExchanged(ofParameters);
  const order = isLoop ? [{ site: loop, why: "takes the layers in another order" }] : [];
  return [...order, ...deciding, ...(deciding.length > 0 ? [] : [{ site: call, why }])];
}

/** Whether all parameters are read that should be, each in the place of another. */
function areExchanged(reads: readonly WrongRead[]): boolean {
  const own = new Set(reads.map((read) => read.own));
  const wanted = new Set(reads.map((read) => read.wanted));
  return own.size === wanted.size && [...own].every((key) => key !== undefined && wanted.has(key));
}

/** A statement in which nothing is computed and from which all these lines of one function get what they read. */
function decidedBefore(
  ops: readonly ObservedOp[],
  depth: number,
  { statementsOf, isComputing }: LineContext,
): BlamedLine[] {
  const sites = ops.map(({ frames }) => frames.at(-1 - depth));
  const [first] = sites;
  if (
    !first ||
    sites.some((site) => site?.file !== first.file || site.function !== first.function)
  ) {
    return [];
  }
  const own = statementsOf(first.file).filter((one) => one.function === first.function);
  const readBy = (line: number): Set<string> =>
    new Set(own.flatMap((one) => (one.line <= line && line <= one.endLine ? one.reads : [])));
  const all = sites.map((site) => readBy(site?.line ?? 0));
  const earliest = Math.min(...sites.map((site) => site?.line ?? 0));
  return own
    .filter(({ kind, line, writes }) => {
      const isBefore = line < earliest && (kind === "loop" || kind === "assignment");
      return isBefore && writes.some((name) => all.every((reads) => reads.has(name)));
    })
    .filter(({ kind, line }) => kind === "loop" || !isComputing(first.file, line))
    .toReversed()
    .map(({ line }) => ({
      site: { file: first.file, line, function: first.function },
      why: "says which layer's parameters are read",
    }));
}
