import { mantissaBits } from "../core/dtypes.js";
import { isFaulty } from "../core/origins.js";
import {
  producers,
  type Observation,
  type ObservedTensor,
  type TensorKey,
} from "../core/observation.js";
import { addPairs, type Pairing, type TensorPair } from "../core/pairing.js";
import type { ParameterComparison } from "../core/parameters.js";
import { implementationPrecision, isDataTensor } from "../core/segments.js";
import { sameShape } from "../core/shapes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { ValueIndex, ValueMatch } from "../core/valueIndex.js";
import { fittedParameters } from "./replay.js";
import type { Counterpart } from "./counterpartOptions.js";
import { differs } from "./differs.js";
import { startWalk, type Walk } from "./walk.js";
import type { Program } from "./program.js";

export interface PairByValueOptions {
  readonly reference: Observation;
  readonly candidate: Observation;
  /** Absent when nothing can execute the candidate's ops: then only its own values are looked up. */
  readonly program?: Program | undefined;
  readonly index: ValueIndex;
  readonly parameters: ParameterComparison;
  readonly signal: AbortSignal;
}

export interface PairedByValue {
  readonly pairing: Pairing;
  /** With the parameters that were paired by what reads them. */
  readonly parameters: ParameterComparison;
  /** By candidate tensor; see `Walk`. */
  readonly readsTooEarly: Walk["readsTooEarly"];
}

/** Each round names at least one line more, or is the last. */
const mostRounds = 64;

/**
 * Adds pairs without names. First, candidate tensors whose own values are a reference tensor's ("signature"). Then, as
 * long as a pair differs, in lockstep: with the reference's values in place of every paired tensor, what follows a fault
 * is found as well, and within the ops that lead to a difference the first tensor is sought that, replaced by a tensor of
 * the reference, makes those after it match: it is the one that is wrong, and that tensor is its counterpart.
 */
export async function pairByValue(
  given: Pairing,
  options: PairByValueOptions,
): Promise<PairedByValue> {
  const { reference, candidate, program, index, parameters, signal } = options;
  const precision = mantissaBits(implementationPrecision(candidate));
  // What is rounded further than the rest is not the reference's tensor, although it is near it.
  const makerOf = producers(candidate);
  const made = [...makerOf.keys()].filter(
    (key) => mantissaBits(candidate.tensors.get(key)?.dtype) >= precision,
  );
  const pairs = new Map(given.pairs.map((pair) => [pair.candidate, pair]));
  const used = new Set(given.pairs.map((pair) => pair.reference));
  const found: TensorPair[] = [];
  const take = (
    { reference: r, alignment }: Counterpart["match"],
    c: TensorKey,
    by: "signature" | "lockstep",
  ) => {
    const pair: TensorPair = {
      reference: r,
      candidate: c,
      pairedBy: by,
      ...(alignment
        ? { alignment }
        : {
            fitsInPlace: true,
            shapeReason: shapes(reference.tensors.get(r), candidate.tensors.get(c)),
          }),
      layoutFindings: [],
      isOutput: false,
    };
    pairs.set(c, pair);
    used.add(r);
    found.push(pair);
  };
  const lookUp = (
    keys: readonly TensorKey[],
    values: (key: TensorKey) => TensorValue | undefined,
    by: "signature" | "lockstep",
  ) => {
    for (const key of keys) {
      const known = pairs.get(key);
      const value = values(key);
      if (!value || (known && !isDoubtful(known, value))) continue;
      // On the reference's values a tensor may have another shape: the reason lies before it.
      if (!sameShape(value.shape, candidate.tensors.get(key)?.shape ?? [])) continue;
      const match = preferUnused(index.matches(value), used);
      if (match) take(match, key, by);
    }
  };
  /**
   * A name says less than values do: a variable may hold what another one holds in the reference. And what a fault makes may
   * look like another tensor of the reference.
   */
  const isDoubtful = (pair: TensorPair, value: TensorValue): boolean =>
    ["name", "normalisedName", "signature"].includes(pair.pairedBy) &&
    !pair.isOutput &&
    differs(pair, index, value);
  const own = (key: TensorKey): TensorValue | undefined => candidate.tensors.get(key)?.value;
  // What is made with a parameter that differs is looked up once that is repaired.
  const faulty = new Set(
    parameters.findings.filter(isFaulty).map((finding) => finding.candidate.tensor),
  );
  const misled = new Set<TensorKey>(faulty);
  for (const op of candidate.ops) {
    if (op.inputs.some((input) => misled.has(input))) for (const key of op.outputs) misled.add(key);
  }
  lookUp(
    made.filter((key) => isDataTensor(candidate.tensors.get(key)) && !misled.has(key)),
    own,
    "signature",
  );
  if (
    !program ||
    !given.pairs.some((pair) => differs(pair, index, candidate.tensors.get(pair.candidate)?.value))
  ) {
    return { pairing: addPairs(given, found, candidate), parameters, readsTooEarly: new Map() };
  }

  const walk = startWalk({
    ...options,
    program,
    pairs,
    repairs: fittedParameters(parameters.findings.filter(isFaulty), () => false),
  });
  const tried = new Set<TensorKey>();
  let differing = [...pairs.values()].filter((pair) => differs(pair, index, own(pair.candidate)));
  for (let round = 0; round < mostRounds && differing.length > 0; round++) {
    signal.throwIfAborted();
    const values = await walk.onReference(differing);
    const inQuestion = made.filter((key) => values.has(key));
    // What follows a doubtful name was computed on its value: the next round does it anew.
    const before = found.length;
    lookUp(
      inQuestion.filter((key) => pairs.has(key)),
      (key) => values.get(key),
      "lockstep",
    );
    if (found.length > before) continue;
    lookUp(inQuestion, (key) => values.get(key), "lockstep");
    differing = inQuestion
      .map((key) => pairs.get(key))
      .filter((pair) => pair !== undefined && !tried.has(pair.candidate))
      .filter((pair) =>
        differs(pair as TensorPair, index, values.get((pair as TensorPair).candidate)),
      ) as TensorPair[];
    let narrowed = false;
    const next: TensorPair[] = [];
    for (const pair of differing) {
      if (await walk.isOfParameter(pair)) {
        tried.add(pair.candidate);
        narrowed = true;
        // What else differs may differ because of it: the next round knows.
        break;
      }
      const counterparts = await walk.firstWrong(pair, values);
      if (counterparts.length === 0) tried.add(pair.candidate);
      for (const counterpart of counterparts) {
        take(counterpart.match, counterpart.candidate, "lockstep");
        // What leads to it is looked at next: it need not be the line itself.
        next.push(pairs.get(counterpart.candidate) as TensorPair);
        narrowed = true;
      }
    }
    differing = [...differing, ...next];
    if (!narrowed) break;
  }
  const { readsTooEarly } = walk;
  return {
    pairing: addPairs(given, found, candidate),
    parameters: walk.parameters(),
    readsTooEarly,
  };
}

/** Several tensors of the reference may hold the same values: each candidate tensor gets one of its own, if it can. */
function preferUnused(
  matches: Iterable<ValueMatch>,
  used: ReadonlySet<TensorKey>,
): ValueMatch | undefined {
  let first: ValueMatch | undefined;
  for (const match of matches) {
    if (!used.has(match.reference)) return match;
    first ??= match;
  }
  return first;
}

function shapes(
  reference: ObservedTensor | undefined,
  candidate: ObservedTensor | undefined,
): string {
  return `[${candidate?.shape.join(", ")}] where the reference has [${reference?.shape.join(", ")}]`;
}
