import type { TensorKey } from "../core/observation.js";
import { findOrigins, type FoundOrigin } from "../core/origins.js";
import { twinInputs } from "./twinInputs.js";
import type { TensorPair } from "../core/pairing.js";
import { compareParameters, type ParameterFinding } from "../core/parameters.js";
import { makeRows, rowId } from "../core/rows.js";
import { coverage } from "../core/segments.js";
import type { StatementsOf } from "../core/statements.js";
import type { ValueIndex } from "../core/valueIndex.js";
import type { Implementation, Pair, Problem, Repair } from "../protocol/report.js";
import type { ComparisonRules } from "../protocol/runFile.js";
import { fromWire } from "../protocol/wire.js";
import { comparedOutputs, type ComparedOutput } from "./finalOutputs.js";
import type { ObservedImplementation } from "./observe.js";
import { requireSameInputs } from "./sameInputs.js";
import { reproOf, type OriginRepro } from "./repro.js";
import { judgeCandidate, judgeInOrder, type Judged } from "./judgeCandidate.js";
import { explainOrigins, type ProvenExplanation } from "./explainOrigins.js";
import { declarationProblems, reportPair } from "./reportPair.js";
import { prove } from "./prove.js";
import { parameterProblems, reportParameters } from "./reportParameters.js";

export interface CompareOptions {
  readonly rules: ComparisonRules;
  readonly signal: AbortSignal;
  /** Whether both are known to have got the same inputs, under whatever names. */
  readonly inputsAreKnown?: boolean;
  /** For the lines in which nothing is computed. */
  readonly statementsOf: StatementsOf;
}

export interface ComparedCandidate {
  readonly pair: Pair;
  readonly parameters: Implementation["parameters"];
  readonly problems: readonly Problem[];
  /** Each origin alone, for those who want to see it so. */
  readonly repros: () => readonly OriginRepro[];
  readonly outputs: readonly ComparedOutput[];
}

/** Compares one candidate with the reference: parameters first, then every pair, origins, proof and coverage. */
export async function compareCandidate(
  original: ObservedImplementation,
  whole: ObservedImplementation,
  { rules, signal, statementsOf, inputsAreKnown = false }: CompareOptions,
): Promise<ComparedCandidate> {
  if (!inputsAreKnown) requireSameInputs(original, whole);
  const given = compareParameters(
    original.observation.parameters,
    whole.observation.parameters,
    rules.parameterPairs,
  );
  const { judged, explanations } = await explained(
    await judgeCandidate(original, whole, given, { rules, signal }),
    { rules, signal },
  );
  const { reference, candidate, index, judgements, pairing, parameters, replay, segments } = judged;
  const r = reference.observation;
  const c = candidate.observation;

  const pairOf = new Map(pairing.pairs.map((pair) => [pair.candidate, pair]));
  const findingOf = new Map(parameters.findings.map((f) => [f.candidate.tensor, f]));
  const supposed = findOrigins(judgements, {
    reference: r,
    candidate: c,
    parameters: findingOf,
    rowIdOf: (judgement) => rowId(judgement.pair.candidate),
    explanations,
    counterpartsOf: counterparts(pairing.pairs, parameters.findings, twinInputs(r, c), index),
    classOf: (key) => index.classOf(pairOf.get(key)?.reference ?? ""),
    referenceClassOf: index.classOf,
    twinOf: (key) => findingOf.get(key)?.reference?.tensor,
    statementsOf,
    ...(replay && { onReference: replay.onReferenceParameters }),
  });
  const covered = coverage(c, new Set(pairing.pairs.map((pair) => pair.candidate)), [
    ...segments.values(),
  ]);
  const proveWith = (origins: readonly FoundOrigin[]) =>
    prove(reference, candidate, judgements, origins, replay, explanations, signal);
  const { found, repair } = await leastProof(supposed, proveWith);
  const rows = makeRows(judgements, {
    reference: r,
    candidate: c,
    coverage: covered,
    refused: pairing.refused,
    stages: rules.stages ?? {},
  });
  const causeOf = new Map(
    found.flatMap(({ origin }) =>
      origin.cause ? origin.instances.map((i) => [i.row, origin.cause] as const) : [],
    ),
  );
  for (const row of rows) {
    const cause = causeOf.get(row.id);
    if (cause) row.cause = cause;
  }
  return {
    repros: () =>
      found.flatMap((one) => (replay && reproOf(reference, candidate, one, replay, pairOf)) ?? []),
    outputs: comparedOutputs(reference, candidate, judgements),
    parameters: reportParameters(reference, candidate, parameters),
    problems: [
      ...candidate.problems,
      ...layoutProblems(judged),
      ...parameterProblems(reference, candidate, parameters, found),
      ...declarationProblems(reference, candidate, parameters, pairing),
    ],
    pair: reportPair(reference, candidate, {
      rules,
      judgements,
      found,
      covered,
      rows,
      pairing,
      ...(repair && { repair }),
    }),
  };
}

type Explanations = ReadonlyMap<TensorKey, ProvenExplanation>;

/** Explains the origins; where an op's operands explain nothing, joined parameters may hold their parts in another order. */
async function explained(
  judged: Judged,
  options: Pick<CompareOptions, "rules" | "signal">,
): Promise<{ judged: Judged; explanations: Explanations }> {
  const explanations = await explain(judged, options.signal);
  const isOpen = judged.judgements.some(
    ({ verdict, pair }) => verdict === "origin" && !explanations.has(pair.candidate),
  );
  const again = isOpen ? await judgeInOrder(judged, options) : judged;
  return again === judged
    ? { judged, explanations }
    : { judged: again, explanations: await explain(again, options.signal) };
}

async function explain(
  { reference, candidate, judgements, index, pairing, parameters, replay, readsTooEarly }: Judged,
  signal: AbortSignal,
): Promise<Explanations> {
  const { observation, program } = candidate;
  if (!program || !replay) return new Map();
  return explainOrigins(judgements, {
    reference: reference.observation,
    candidate: observation,
    program,
    index,
    pairs: pairing.pairs,
    parameters: parameters.findings,
    repairs: replay.repairs,
    readsTooEarly,
    signal,
  });
}

/** What was found out about where rows lie. Nothing declares it, so the user must see it. */
function layoutProblems({ paddedBy, reference, candidate }: Judged): Problem[] {
  const problems: Problem[] = [];
  const tell = (code: string, message: string, nextStep: string): void => {
    problems.push({ severity: "information", code, message, nextStep });
  };
  if (paddedBy !== undefined) {
    tell(
      "padding-inferred",
      `${paddedBy} begins with ones in every row: what lies behind them is taken as padding and not compared`,
      "The outputs are compared as a whole.",
    );
  }
  const placed = [...reference.observation.tensors.values()].find(({ placement }) => placement);
  if (placed?.placement) {
    const { positions, width } = placed.placement;
    tell(
      "rows-placed",
      `by their contents, ${candidate.id} keeps the ${positions[0]?.length ?? 0} rows of the first sample at ${ranges(positions[0] ?? [])} of ${width} positions, and so on: rows are compared with those, and what lies at other positions is not compared`,
      "The outputs are compared as a whole.",
    );
  }
  return problems;
}

/** 0, 1, 2, 11 as "0–2, 11". */
function ranges(positions: readonly number[]): string {
  const found: [number, number][] = [];
  for (const position of positions) {
    const last = found.at(-1);
    if (last?.[1] === position - 1) last[1] = position;
    else found.push([position, position]);
  }
  return found.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
}

/** Pairs by value are no nearer than this: what is introduced below it, and is not needed for the proof, is no origin. */
const leastTelling = 2e-6;

async function leastProof(
  supposed: readonly FoundOrigin[],
  proveWith: (origins: readonly FoundOrigin[]) => Promise<Repair | undefined>,
): Promise<{ found: readonly FoundOrigin[]; repair: Repair | undefined }> {
  const repair = await proveWith(supposed);
  const telling = supposed.filter(
    ({ origin, judgements }) =>
      fromWire(origin.introduced) > leastTelling ||
      judgements.some(({ pair }) => pair.pairedBy === "declared"),
  );
  const isMore = telling.length > 0 && telling.length < supposed.length;
  if (!repair?.proves || repair.minimal || !isMore) return { found: supposed, repair };
  const less = await proveWith(telling);
  return less?.proves ? { found: telling, repair: less } : { found: supposed, repair };
}

/** Candidate tensors by what they hold of the reference. */
function counterparts(
  pairs: readonly TensorPair[],
  findings: readonly ParameterFinding[],
  inputs: ReadonlyMap<TensorKey, TensorKey>,
  index: ValueIndex,
): (reference: TensorKey) => readonly TensorKey[] {
  const classOf = (key: TensorKey): string => index.classOf(key) ?? key;
  const found = new Map<string, TensorKey[]>();
  const add = (reference: TensorKey, candidate: TensorKey): void => {
    const known = found.get(classOf(reference));
    if (known) known.push(candidate);
    else found.set(classOf(reference), [candidate]);
  };
  for (const { reference, candidate } of pairs) add(reference, candidate);
  for (const { reference, candidate } of findings) {
    if (reference) add(reference.tensor, candidate.tensor);
  }
  for (const [candidate, reference] of inputs) add(reference, candidate);
  return (reference) => found.get(classOf(reference)) ?? [];
}
