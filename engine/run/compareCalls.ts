import { createHash } from "node:crypto";
import {
  chooseImplementations,
  relate,
  relateInputs,
  type Choice,
  type OpenQuestion,
} from "../core/implementations.js";
import type { CapturedComparison, CaptureIndex } from "../protocol/capture.js";
import type { Problem } from "../protocol/report.js";
import type { ComparisonRules } from "../protocol/runFile.js";
import { fromWire } from "../protocol/wire.js";
import { userError } from "../protocol/userError.js";
import type { Executor } from "../runner/executor.js";
import type { CapturedCall } from "./capturedCalls.js";
import { compareCandidate, type ComparedCandidate } from "./compareCandidate.js";
import { siteOf } from "./describeCapture.js";
import { inUsersTerms, type ObservedImplementation } from "./observe.js";
import { sourceStatements } from "../source/sourceStatements.js";
import { observeTrace } from "./observeTrace.js";
import { observeTripy } from "./observeTripy.js";
import { relativeToBase } from "./sources.js";
import { onInputs, roundedInputs, withConstantsAsInputs } from "./sharedInputs.js";
import type { TorchExecutor } from "./torchProgram.js";

export interface CompareCallsOptions {
  readonly base: string;
  /** Folder of the capture. */
  readonly folder: string;
  readonly index: CaptureIndex;
  readonly reference?: string;
  readonly candidates?: readonly string[];
  readonly rules?: ComparisonRules;
  readonly executor: Executor;
  readonly torch: TorchExecutor;
  readonly signal: AbortSignal;
  readonly onProgress: (stage: string, fraction?: number) => void;
}

export interface ComparedCalls {
  readonly references: readonly ObservedImplementation[];
  readonly compared: readonly { candidate: ObservedImplementation; result: ComparedCandidate }[];
  readonly problems: readonly Problem[];
  readonly atBest: "pass" | "unknown";
  readonly hashes: Readonly<Record<string, string>>;
}

/** Chooses among the calls of a script what is compared with what, compares it, and says what was chosen and why. */
export async function compareCalls(
  calls: readonly CapturedCall[],
  options: CompareCallsOptions,
): Promise<ComparedCalls> {
  const { signal, onProgress, rules = {} } = options;
  const callOf = new Map(calls.map((call) => [call.id, call]));
  const areCompared = (a: string, b: string): boolean =>
    comparisonOf([a, b], options.index, callOf) !== undefined;
  const choice = asked(chooseImplementations(calls, areCompared), calls, options);
  const references = new Map<string, ObservedImplementation>();
  const statementsOf = sourceStatements(options.base);
  const compared: { candidate: ObservedImplementation; result: ComparedCandidate }[] = [];
  const hashes: Record<string, string> = {};
  const observed = async (call: CapturedCall): Promise<ObservedImplementation> => {
    hashCall(call, hashes);
    return inUsersTerms(call.id, () => observeCall(call, options));
  };
  for (const [index, { reference: referenceId, candidate: id }] of choice.pairs.entries()) {
    const share = 0.45 / choice.pairs.length;
    signal.throwIfAborted();
    onProgress(`Reading ${referenceId}`, 0.5 + index * share);
    const [referenceCall, call] = [referenceId, id].map((one) => callOf.get(one)) as [
      CapturedCall,
      CapturedCall,
    ];
    const reference = references.get(referenceId) ?? (await observed(referenceCall));
    references.set(referenceId, reference);
    onProgress(`Comparing ${id} with ${referenceId}`, 0.5 + (index + 0.3) * share);
    const candidate = await onInputsOf(referenceCall, call, observed, signal);
    const result = await inUsersTerms(id, () =>
      compareCandidate(reference, candidate, { rules, signal, statementsOf, inputsAreKnown: true }),
    );
    const isRandom = [referenceCall, call].some((one) => !(differingOf(one) <= mostNonDeterminism));
    compared.push({ candidate, result: isRandom ? undecided(result) : result });
  }
  const problems = [...explainPairs(choice), ...explainQuestions(choice, options, callOf)];
  problems.push(...compared.flatMap(({ candidate: { id } }) => raised(id, callOf)));
  problems.push(...compared.flatMap((one) => stale(one, options.base, callOf)));
  if (calls.length === 0) problems.push(nothingCaptured);
  else if (compared.length === 0 && choice.questions.length === 0) problems.push(allAlone(calls));
  const open = choice.questions.some((question) => isOpen(question, options.index, callOf));
  return {
    references: [...references.values()],
    compared,
    problems,
    atBest: open || compared.length === 0 ? "unknown" : "pass",
    hashes,
  };
}

/** Reads or runs one recorded call. */
export async function observeCall(
  call: CapturedCall,
  {
    base,
    executor,
    torch,
    signal,
  }: Pick<CompareCallsOptions, "base" | "executor" | "torch" | "signal">,
): Promise<ObservedImplementation> {
  const { id, label, framework, file, feeds } = call;
  const observed = await (framework === "torch"
    ? observeTrace({ id, label, file, base, torch })
    : observeTripy({ id, label, file, base, feeds, executor, signal }));
  return withNonDeterminism(observed, differingOf(call));
}

/** The candidate on the reference's inputs: what came before it was computed twice and is compared on its own. */
async function onInputsOf(
  reference: CapturedCall,
  candidate: CapturedCall,
  observe: (call: CapturedCall) => Promise<ObservedImplementation>,
  signal: AbortSignal,
): Promise<ObservedImplementation> {
  const inputs = roundedInputs(reference, candidate, relateInputs(reference, candidate).twins);
  if (candidate.framework === "torch") {
    return onInputs(await observe(candidate), inputs, signal);
  }
  const observed = await observe({ ...candidate, feeds: new Map([...candidate.feeds, ...inputs]) });
  return withConstantsAsInputs(observed, reference);
}

/** Two runs that differ by more than this are random: no gate can tell a fault from them. */
const mostNonDeterminism = 1e-3;

/** relL2 between results of two calls on equal inputs. */
function differingOf({ entry }: CapturedCall): number {
  return fromWire(entry.differing ?? 0);
}

/** Only the results of two calls were compared: what lies before them is taken to differ as much. */
function withNonDeterminism(
  observed: ObservedImplementation,
  nonDeterminism: number,
): ObservedImplementation {
  // What is random is not judged at all.
  if (nonDeterminism === 0 || !(nonDeterminism <= mostNonDeterminism)) return observed;
  const { observation } = observed;
  const tensors = new Map(
    [...observation.tensors].map(([key, tensor]) => [
      key,
      {
        ...tensor,
        nonDeterminism: Math.max(nonDeterminism, tensor.nonDeterminism ?? 0),
      },
    ]),
  );
  return { ...observed, observation: { ...observation, tensors } };
}

/** An executable that was built and saved when the parameters were others. */
function stale(
  { candidate, result }: ComparedCalls["compared"][number],
  base: string,
  callOf: ReadonlyMap<string, CapturedCall>,
): Problem[] {
  const from = callOf.get(candidate.id)?.entry.loadedFrom;
  const { different, notFromReference } = result.parameters;
  const wrong = different.length + notFromReference.length;
  if (!from || wrong === 0) return [];
  const site = siteOf(from.frame, base);
  return [
    {
      severity: "warning",
      code: "stale-engine",
      message: `${candidate.id} was loaded from ${relativeToBase(base, from.file)}, which was saved with other parameters: ${wrong} of ${result.parameters.total} are not those of ${result.pair.reference}`,
      nextStep: "Compile it again and save it after the parameters have changed.",
      ...(site && { site }),
    },
  ];
}

/** Of what is random, no line can be blamed. The rows stay, to be looked at. */
function undecided({ pair, ...result }: ComparedCandidate): ComparedCandidate {
  const { repair: _repair, firstDivergence: _first, ...rest } = pair;
  return { ...result, pair: { ...rest, verdict: "unknown", origins: [] } };
}

/** A candidate that raised has no output to compare. */
function raised(id: string, callOf: ReadonlyMap<string, CapturedCall>): Problem[] {
  if (callOf.get(id)?.entry.incomplete !== true) return [];
  return [
    {
      severity: "warning",
      code: "call-incomplete",
      message: `${id} raised before it returned: there is no output to compare`,
      nextStep: "Mend the script: its own traceback is above.",
    },
  ];
}

/** What the user asked for goes before what was found. */
function asked(
  found: Choice,
  calls: readonly CapturedCall[],
  { reference, candidates }: Pick<CompareCallsOptions, "reference" | "candidates">,
): Choice {
  const callOf = new Map(calls.map((call) => [call.id, call]));
  const named = [...new Set(candidates)];
  for (const id of [...(reference === undefined ? [] : [reference]), ...named]) {
    if (!callOf.has(id)) throw unknownCall(id, [...callOf.keys()]);
  }
  if (reference !== undefined) {
    const r = callOf.get(reference) as CapturedCall;
    const others = candidates ? named : fitting(r, calls);
    if (others.length === 0) {
      throw userError(
        "candidate-missing",
        `nothing that the script called got the same inputs as "${reference}"`,
        "Name what to compare it with: --candidate ID.",
      );
    }
    for (const id of others) requireSameCall(r, callOf.get(id) as CapturedCall);
    return {
      pairs: others.map((candidate) => ({ reference, candidate, because: "you named them" })),
      questions: [],
    };
  }
  if (!candidates) return found;
  const pairs = found.pairs.filter(({ candidate }) => named.includes(candidate));
  const lost = named.find((id) => !pairs.some(({ candidate }) => candidate === id));
  if (lost === undefined) return { pairs, questions: [] };
  throw userError(
    "candidate-without-reference",
    `nothing says what "${lost}" is to be compared with`,
    `Name it: --reference ID, one of: ${[...callOf.keys()].filter((id) => id !== lost).join(", ")}.`,
  );
}

function unknownCall(id: string, ids: readonly string[]): Error {
  return userError(
    "implementation-unknown",
    `the script called nothing that is named "${id}"`,
    ids.length > 0 ? `Choose among: ${ids.join(", ")}.` : "It called no model at all.",
  );
}

function fitting(reference: CapturedCall, calls: readonly CapturedCall[]): string[] {
  return calls
    .filter(({ object }) => object !== reference.object)
    .filter((call) => relate(reference, call, false).kind === "related")
    .map(({ id }) => id);
}

/** @throws UserError where the two are one call, or where their inputs can be told to differ. */
export function requireSameCall(reference: CapturedCall, candidate: CapturedCall): void {
  if (reference.id === candidate.id && reference.file === candidate.file) {
    throw userError(
      "same-call",
      `"${reference.id}" cannot be compared with itself`,
      "Name two calls.",
    );
  }
  const { differing, twins, given, taken } = relateInputs(reference, candidate);
  const nothingMeets =
    twins.length + given + taken === 0 &&
    reference.inputs.length > 0 &&
    candidate.inputs.length > 0;
  if (differing.length === 0 && !nothingMeets) return;
  const which =
    differing.length > 0 ? `: ${differing.map((name) => `"${name}"`).join(", ")} differs` : "";
  throw userError(
    "inputs-differ",
    `${reference.id} and ${candidate.id} did not get the same inputs${which}`,
    "Give both the same inputs, or name two calls that got them.",
  );
}

function explainPairs({ pairs }: Choice): Problem[] {
  return pairs.map(({ reference, candidate, because }) => ({
    severity: "information",
    code: "implementations-chosen",
    message: `${candidate} was compared with ${reference}: ${because}`,
    nextStep: "Choose otherwise with --reference ID and --candidate ID, or in a run file.",
  }));
}

function explainQuestions(
  { questions }: Choice,
  { index, base }: CompareCallsOptions,
  callOf: ReadonlyMap<string, CapturedCall>,
): Problem[] {
  return questions.map(({ code, text, subjects }): Problem => {
    const check = code === "no-shared-values" ? comparisonOf(subjects, index, callOf) : undefined;
    const site = siteOf(check?.frame, base);
    return {
      severity: "warning",
      code,
      message: check ? `${text}, and the script does (${check.op})` : text,
      nextStep: nextSteps[code],
      ...(site && { site }),
    };
  });
}

const nextSteps: Readonly<Record<OpenQuestion["code"], string>> = {
  "inputs-differ": "Give both the same inputs.",
  "no-shared-values": "Copy the parameters from one into the other before comparing them.",
  "unlike-results":
    "If one is an implementation of the other, say so: --reference ID --candidate ID, or in a run file.",
  "several-references": "Say it: --reference ID --candidate ID, or in a run file.",
  "nothing-to-compare-with":
    "Call both implementations on the same inputs in one script, or name two calls with --reference ID --candidate ID.",
};

function allAlone(calls: readonly CapturedCall[]): Problem {
  const names = [...new Set(calls.map(({ id }) => id))];
  const shown = names.length > 6 ? [...names.slice(0, 6), "…"] : names;
  return {
    severity: "warning",
    code: "nothing-to-compare-with",
    message: `the script called ${shown.join(", ")}, and nothing that got the same inputs`,
    nextStep: nextSteps["nothing-to-compare-with"],
  };
}

const nothingCaptured: Problem = {
  severity: "warning",
  code: "nothing-captured",
  message: "the script called no torch model and no Tripy program that computes with floats",
  nextStep: "Run a script that calls both implementations on the same inputs.",
};

/** Two torch models that share nothing are a question only if the script itself compares them. */
function isOpen(
  { code, subjects }: OpenQuestion,
  index: CaptureIndex,
  callOf: ReadonlyMap<string, CapturedCall>,
): boolean {
  if (code === "no-shared-values" && isTorchOnly(subjects, callOf)) {
    return comparisonOf(subjects, index, callOf) !== undefined;
  }
  if (code === "unlike-results") return false;
  // Evaluating a tensor to look at it is no implementation.
  return code !== "nothing-to-compare-with" || callOf.get(subjects[0] ?? "")?.entry.kind !== "eval";
}

function isTorchOnly(
  subjects: readonly string[],
  callOf: ReadonlyMap<string, CapturedCall>,
): boolean {
  return subjects.every((id) => callOf.get(id)?.framework === "torch");
}

/** The operation by which the script itself compares the two calls. */
function comparisonOf(
  subjects: readonly string[],
  { comparisons = [] }: CaptureIndex,
  callOf: ReadonlyMap<string, CapturedCall>,
): CapturedComparison | undefined {
  const files = subjects.map((id) => callOf.get(id)?.entry.file);
  return comparisons.find(({ traces }) => traces.every((file) => files.includes(file)));
}

function hashCall({ id, inputs, parameters }: CapturedCall, hashes: Record<string, string>): void {
  for (const { name, value } of [...inputs, ...parameters]) {
    const hash = createHash("sha256").update(value.dtype).update(value.bytes).digest("hex");
    hashes[`${id}/${name}`] = hash;
  }
}
