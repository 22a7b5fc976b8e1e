import type { Origin, Site } from "../protocol/report.js";
import type { Explanation } from "./explanation.js";
import type { Judgement } from "./judge.js";
import { splitTensorName, withoutCount } from "./names.js";
import type { Observation, ObservedOp, TensorKey } from "./observation.js";
import { isDataOp } from "./segments.js";
import { callKey, flowBetween, isSameLine, type Flow } from "./sourceFlow.js";
import type { Statement, StatementsOf } from "./statements.js";

/** One line that may be at fault, and what speaks for it. */
export interface BlamedLine {
  readonly site: Site;
  readonly why: string;
}

export interface Blamed {
  readonly kind: Origin["kind"];
  /** Best first. */
  readonly lines: readonly BlamedLine[];
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
  readonly statementsOf: StatementsOf;
}

/** The lines of origins: decided after the walk, because what else reads a tensor says where it went wrong. */
export function findLines(options: LineOptions): (judgement: Judgement) => Blamed {
  const { candidate, explanations, judgements } = options;
  const wrongReads = new Set(
    [...explanations.values()].flatMap(({ reader, operand, other }) =>
      [operand, other].filter((key) => key !== undefined).map((key) => readKey(reader, key)),
    ),
  );
  const computing = new Set(
    candidate.observation.ops.flatMap((op) => op.frames.map(({ file, line }) => `${file}:${line}`)),
  );
  const introduced = new Map(judgements.map((j) => [j.pair.candidate, j]));
  const context: Context = { ...options, wrongReads, computing };
  return (judgement) => {
    const explanation = explanations.get(judgement.pair.candidate);
    const lines = explanation
      ? explanation.kind === "missingStep"
        ? linesOfMissingStep(explanation, judgement, context)
        : linesOfOperand(explanation, context)
      : linesOfOp(judgement, context, introduced);
    return { kind: kindOf(explanation, judgement), lines: distinct(lines) };
  };
}

interface Context extends LineOptions {
  readonly wrongReads: ReadonlySet<string>;
  /** Lines in which something is computed. */
  readonly computing: ReadonlySet<string>;
}

function kindOf(explanation: Explanation | undefined, { pair }: Judgement): Origin["kind"] {
  if (!pair.alignment) return "output";
  if (!explanation) return "op";
  return explanation.kind === "missingStep" ? "missingStep" : "operand";
}

// An op that reads the wrong tensor

/**
 * The line at which the wrong tensor was taken: the view that selected it if nothing reads it rightly, else the first op
 * after the last tensor that is also read rightly, or the line of the call by which it came there.
 */
function linesOfOperand(explanation: Explanation, context: Context): BlamedLine[] {
  const { reader, operand } = explanation;
  const { candidate } = context;
  const own = reader.frames[0];
  if (!own) return [];
  const isParameter = candidate.observation.parameters.some(({ tensor }) => tensor === operand);
  if (isParameter) return linesOfParameterRead(explanation, own, context);
  if (explanation.kind === "transposed") {
    return [{ site: own, why: "reads the wrong operand" }];
  }
  let tensor = operand;
  let taker = reader;
  for (;;) {
    if (isReadRightly(tensor, taker, explanation, context)) break;
    const maker = candidate.makerOf.get(tensor);
    const base = maker?.inputs[0];
    if (!maker || base === undefined) break;
    const isRearranged = isRearrangement(maker, tensor, base, candidate);
    if (!isRearranged && !isSelection(maker)) break;
    taker = maker;
    if (!isRearranged) break;
    tensor = base;
  }
  const site = taker.frames[0] ?? own;
  const maker = candidate.makerOf.get(tensor);
  const flow = flowBetween(maker?.frames ?? [], taker === maker ? reader.frames : taker.frames);
  const call = flow && flow.called.length > 0 ? flow.to : undefined;
  const taken: BlamedLine = {
    site,
    why:
      taker === reader
        ? "reads the wrong operand"
        : "takes the wrong tensor, and nothing reads it rightly",
  };
  const used: BlamedLine = { site: own, why: "reads the wrong operand" };
  if (!call || taker === maker) return [taken, used];
  const handedOver: BlamedLine = { site: call, why: "hands over the wrong tensor" };
  const first = cameByCall(explanation, flow as Flow, context)
    ? [handedOver, taken]
    : [taken, handedOver];
  return [...first, used];
}

/** Whether all that is read of the wrong tensor within the call is wrong, and nothing there reads the right one rightly. */
function cameByCall(explanation: Explanation, flow: Flow, context: Context): boolean {
  const { reader, operand, wanted } = explanation;
  const depth = reader.frames.length - flow.called.length;
  const key = callKey(reader.frames, depth);
  const within = (op: ObservedOp): boolean =>
    op.frames.length > depth &&
    callKey(op.frames, depth) === key &&
    op.instance === reader.instance;
  const areWrong = (tensor: TensorKey): boolean =>
    (context.candidate.readersOf.get(tensor) ?? [])
      .filter(within)
      .every((op) => context.wrongReads.has(readKey(op, tensor)));
  return areWrong(operand) && context.counterpartsOf(wanted).every(areWrong);
}

function isReadRightly(
  tensor: TensorKey,
  taker: ObservedOp,
  { wanted }: Explanation,
  { candidate, wrongReads, counterpartsOf }: Context,
): boolean {
  if (candidate.observation.inputs.some((port) => port.tensor === tensor)) return true;
  if (counterpartsOf(wanted).includes(tensor)) return true;
  return (candidate.readersOf.get(tensor) ?? []).some(
    (op) =>
      op !== taker && isDataOp(op, candidate.observation) && !wrongReads.has(readKey(op, tensor)),
  );
}

/** A parameter of another instance: the outermost call within which every parameter that is read is a wrong one. */
function linesOfParameterRead(
  { reader, operand }: Explanation,
  own: Site,
  context: Context,
): BlamedLine[] {
  const { candidate, wrongReads } = context;
  const parameters = new Set(candidate.observation.parameters.map(({ tensor }) => tensor));
  const declared = candidate.observation.parameters.find(
    ({ tensor }) => tensor === operand,
  )?.declaredAt;
  let best: Site | undefined;
  for (let depth = 1; depth < reader.frames.length; depth++) {
    const key = callKey(reader.frames, depth);
    const reads = candidate.observation.ops
      .filter((op) => callKey(op.frames, depth) === key && (op.call ?? 0) === (reader.call ?? 0))
      .filter((op) => op.instance.startsWith(reader.instance))
      .flatMap((op) =>
        op.inputs.filter((key) => parameters.has(key)).map((key) => readKey(op, key)),
      );
    if (new Set(reads).size > 1 && reads.every((read) => wrongReads.has(read))) {
      best = reader.frames.at(-depth);
      break;
    }
  }
  const use: BlamedLine = { site: own, why: "reads the wrong parameter" };
  return [
    ...(best ? [{ site: best, why: "every parameter that this call reads is a wrong one" }] : []),
    use,
    ...(declared ? [{ site: declared, why: "declares the parameter that is read instead" }] : []),
  ];
}

// A step that is missing

/**
 * A missing step has no op: the line is the assignment or return on the tensor's way that makes none. Where the reference
 * does the step in the line in which it makes or reads the tensor, the candidate's line that does the same comes first.
 */
function linesOfMissingStep(
  { reader, operand, own: read, wanted }: Explanation,
  { pair }: Judgement,
  context: Context,
): BlamedLine[] {
  const { candidate, reference } = context;
  const maker = candidate.makerOf.get(operand);
  const readers: BlamedLine[] = reader.frames.slice(0, 1).map((site) => ({
    site,
    why: "reads a tensor to which the reference has done more",
  }));
  const flow = maker && flowBetween(maker.frames, reader.frames);
  if (!flow) return readers;
  const step = reference.makerOf.get(wanted)?.frames ?? [];
  const referenceReader = reference.makerOf.get(pair.reference)?.frames ?? [];
  const names = namesOf(operand, candidate);

  const after = flow.returned.flatMap((site) => idle(site, "after", names, context));
  const between = idleBetween(flow, names, context);
  const before = flow.called.flatMap((site) => idle(site, "before", names, context));
  const changesNothing = withoutEffect(operand, context);
  const makes: BlamedLine = {
    site: flow.returned[0] ?? flow.from,
    why: "makes the tensor; the reference does more here",
  };
  const made: BlamedLine = { site: flow.from, why: "makes the tensor; the reference does more" };
  const passes: BlamedLine = {
    site: flow.to,
    why: "passes on a tensor to which the reference has done more",
  };

  const referenceMaker = read === undefined ? undefined : reference.makerOf.get(read);
  const toStep = flowBetween(referenceMaker?.frames ?? [], step);
  const toReader = flowBetween(step, referenceReader);
  const inReadersLine = isSameLine(step[0], referenceReader[0]);
  // In which function the reference does it: the maker's, before it returns; the reader's; or between the two.
  const isReturned = toStep?.returned.length === 0 && (toReader?.returned.length ?? 0) > 0;
  const isCalled = (toStep?.called.length ?? 0) > 0 && toReader?.called.length === 0;
  const inMakersLine = isSameLine(referenceMaker?.frames[0], step[0]);
  const own = inReadersLine ? readers : [];
  const producers = inMakersLine ? (isReturned ? [makes] : [made, makes]) : [];
  const there = isReturned ? after : isCalled ? before : between;
  const elsewhere = [...between, ...after, ...before];
  return [
    ...changesNothing,
    ...producers,
    ...own,
    ...there,
    ...readers,
    passes,
    ...elsewhere,
    made,
    makes,
  ];
}

function idleBetween(
  { from, to }: Flow,
  names: ReadonlySet<string>,
  context: Context,
): BlamedLine[] {
  const isLoop = from.line > to.line;
  return idleIn(to, names, context, ({ line, endLine }) =>
    isLoop ? line > from.line || endLine < to.line : line > from.line && endLine < to.line,
  );
}

/** Ops before the reader that compute and yet give what they read: in their place the reference does the step. */
function withoutEffect(operand: TensorKey, { candidate, classOf }: Context): BlamedLine[] {
  const own = classOf(operand);
  const lines: BlamedLine[] = [];
  let tensor = operand;
  for (;;) {
    const maker = candidate.makerOf.get(tensor);
    const base = maker?.inputs.find((key) => own !== undefined && classOf(key) === own);
    if (!maker || base === undefined) return lines;
    if (!isRearrangement(maker, tensor, base, candidate) && maker.frames[0]) {
      const why = "changes nothing; in its place the reference does a step";
      lines.push({ site: maker.frames[0], why });
    }
    tensor = base;
  }
}

function idle(
  site: Site,
  side: "after" | "before",
  names: ReadonlySet<string>,
  context: Context,
): BlamedLine[] {
  return idleIn(site, names, context, ({ line, endLine }) =>
    side === "after" ? line > site.line : endLine < site.line,
  );
}

/** Statements of the function around a line in which nothing is computed, although they could: best first. */
function idleIn(
  site: Site,
  names: ReadonlySet<string>,
  { statementsOf, computing }: Context,
  isThere: (statement: Statement) => boolean,
): BlamedLine[] {
  const all = statementsOf(site.file);
  const around = all.findLast(
    (one) =>
      one.function === site.function && one.line <= site.line && one.functionLine <= site.line,
  );
  const isRelevant = ({ reads }: Statement): boolean => reads.some((name) => names.has(name));
  const own = all.filter(
    (one) => one.functionLine === around?.functionLine && one.function === site.function,
  );
  /** What nothing reads afterwards is no step that was left out, but one whose result is not used. */
  const isUnused = ({ writes, line }: Statement): boolean =>
    writes.length > 0 &&
    !own.some((other) => other.line > line && other.reads.some((name) => writes.includes(name)));
  return own
    .filter((one) => ["assignment", "return", "condition"].includes(one.kind))
    .filter((one) => isThere(one) && isRelevant(one) && !isUnused(one))
    .filter((one) => {
      for (let line = one.line; line <= one.endLine; line++) {
        if (computing.has(`${site.file}:${line}`)) return false;
      }
      return true;
    })
    .flatMap(({ line, condition, kind }) => {
      const at = (where: number): Site => ({
        file: site.file,
        line: where,
        function: site.function,
      });
      const decides = "decides whether a step is made, and none was";
      const makes = "makes nothing of the tensor; the reference does a step here";
      return [
        ...(condition > 0 ? [{ site: at(condition), why: decides }] : []),
        { site: at(line), why: kind === "condition" ? decides : makes },
      ];
    });
}

/** The names of the variables that hold a tensor, whatever the function. */
function namesOf(tensor: TensorKey, { observation }: Side): ReadonlySet<string> {
  const names = observation.tensors.get(tensor)?.names ?? [];
  return new Set(
    names.map((name) => {
      const { local } = splitTensorName(withoutCount(name));
      return local.slice(local.indexOf(".") + 1).replace(/#\d+$/, "");
    }),
  );
}

// An op that computes something else

function linesOfOp(
  { segment, pair }: Judgement,
  { candidate, reference }: Context,
  _introduced: ReadonlyMap<TensorKey, Judgement>,
): BlamedLine[] {
  const ops = segment.ops.filter((op) => op.frames.length > 0);
  const data = ops.filter((op) =>
    op.outputs.some((key) => (candidate.observation.tensors.get(key)?.shape.length ?? 0) >= 2),
  );
  const wanted = reference.makerOf.get(pair.reference)?.kind;
  void wanted;
  const chosen = data.length > 0 ? data : ops;
  const lines: BlamedLine[] = [];
  for (const op of chosen.toReversed()) {
    const why = lines.length === 0 ? "makes the tensor that differs" : between;
    if (op.constructedAt) {
      lines.push({ site: op.constructedAt, why: "makes the layer with its settings" });
    }
    lines.push({ site: op.frames[0] as Site, why });
  }
  return lines;
}

const between =
  "lies between the last tensors that match and this one; nothing in between has a counterpart";

/** Whether an op takes a part of what it reads. */
function isSelection({ kind }: ObservedOp): boolean {
  return /slice|split|chunk|select|unbind|getitem|narrow|gather/i.test(kind);
}

/** Whether a tensor holds the elements of another one, whatever their order: nothing was selected or computed. */
function isRearrangement(
  maker: ObservedOp,
  tensor: TensorKey,
  base: TensorKey,
  { observation }: Side,
): boolean {
  const count = (key: TensorKey): number =>
    (observation.tensors.get(key)?.shape ?? []).reduce((product, n) => product * n, 1);
  const kindly =
    /reshape|view|transpose|permute|squeeze|flatten|shuffle|contiguous|identity|alias|expand|detach|\.t$|\.T$/i;
  return count(tensor) === count(base) && kindly.test(maker.kind);
}

function readKey(op: ObservedOp, tensor: TensorKey): string {
  return `${op.id} ${tensor}`;
}

function distinct(lines: readonly BlamedLine[]): BlamedLine[] {
  const seen = new Set<string>();
  return lines.filter(({ site }) => {
    const key = `${site.file}:${site.line}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
