import type { DeclaredPair } from "../protocol/runFile.js";
import type { PairedBy } from "../protocol/report.js";
import type { Alignment } from "./alignment.js";
import { align } from "./layouts.js";
import { fillGlob, matchGlob, normalisedName, withoutCount } from "./names.js";
import {
  producers,
  type Observation,
  type ObservedPort,
  type ObservedTensor,
  type TensorKey,
} from "./observation.js";

/** A reference tensor and the candidate tensor that must equal it. */
export interface TensorPair {
  readonly reference: TensorKey;
  readonly candidate: TensorKey;
  readonly pairedBy: PairedBy;
  /** Absent when no layout explains the shapes: the pair fails by its shape. */
  readonly alignment?: Alignment;
  readonly shapeReason?: string;
  /** Of two shapes, but what follows matches with the reference's tensor in the candidate's place. */
  readonly fitsInPlace?: boolean;
  readonly layoutFindings: readonly { readonly text: string }[];
  /** The final output, or one of them. */
  readonly isOutput: boolean;
}

export interface Pairing {
  /** In the candidate's execution order. */
  readonly pairs: readonly TensorPair[];
  /** Why a candidate tensor whose name has a counterpart was not paired. */
  readonly refused: ReadonlyMap<TensorKey, string>;
  readonly unusedDeclarations: readonly DeclaredPair[];
  readonly unpairedOutputs: readonly string[];
  /** Outputs of the reference with which nothing of the candidate was paired. */
  readonly unpairedReferenceOutputs: readonly string[];
}

/**
 * Pairs tensors by declaration, outputs by their port, then by name and by normalised name. Names are hypotheses: a
 * pair by name is made only where a layout explains the shapes and where both sides assign the variable equally often.
 */
export function pairTensors(
  reference: Observation,
  candidate: Observation,
  declared: readonly DeclaredPair[] = [],
): Pairing {
  const pairs = new Map<TensorKey, TensorPair>();
  const usedReference = new Set<TensorKey>();
  const refused = new Map<TensorKey, string>();
  const outputKeys = new Set(candidate.outputs.map((output) => output.tensor));
  const referenceSide = namedTensors(reference);
  const candidateSide = namedTensors(candidate);

  const take = (
    r: ObservedTensor,
    c: ObservedTensor,
    pairedBy: PairedBy,
    binding: boolean,
  ): void => {
    if (usedReference.has(r.key) || pairs.has(c.key)) return;
    const aligned = align(r, { shape: c.shape });
    if (!aligned.ok && !binding) {
      refused.set(c.key, `same name as a reference tensor, but ${aligned.reason}`);
      return;
    }
    usedReference.add(r.key);
    refused.delete(c.key);
    pairs.set(c.key, {
      reference: r.key,
      candidate: c.key,
      pairedBy,
      ...(aligned.ok ? { alignment: aligned.alignment } : { shapeReason: aligned.reason }),
      layoutFindings: aligned.ok ? aligned.findings : [],
      isOutput: outputKeys.has(c.key),
    });
  };

  const unusedDeclarations = declared.filter((declaration) => {
    let used = false;
    for (const [name, r] of referenceSide.byName) {
      const captures = matchGlob(declaration.reference, name);
      const wanted = captures && fillGlob(declaration.candidate, captures);
      const c = wanted === undefined ? undefined : candidateSide.byName.get(wanted);
      if (!c) continue;
      used = true;
      take(r, c, "declared", true);
    }
    return !used;
  });

  const outputOf = outputsByPort(reference, candidate);
  const unpairedOutputs: string[] = [];
  for (const output of candidate.outputs) {
    const counterpart = outputOf.get(output);
    const r = counterpart && reference.tensors.get(counterpart.tensor);
    const c = candidate.tensors.get(output.tensor);
    if (r && c) take(r, c, counterpart.name === output.name ? "name" : "output", true);
    if (!pairs.has(output.tensor)) unpairedOutputs.push(output.name);
  }

  for (const [by, form] of [
    ["name", (name: string) => name],
    ["normalisedName", normalisedName],
  ] as const) {
    const r = formsOf(referenceSide, form);
    const c = formsOf(candidateSide, form);
    for (const [name, { tensor, rank }] of c.tensors) {
      const counterpart = r.tensors.get(name);
      if (!counterpart || (rank > 0 && counterpart.rank > 0)) continue;
      const base = withoutCount(name);
      if (r.assignments.get(base) !== c.assignments.get(base)) {
        if (!pairs.has(tensor.key)) {
          refused.set(
            tensor.key,
            "same name as a reference tensor, but the two sides assign it a different number of times",
          );
        }
        continue;
      }
      take(counterpart.tensor, tensor, by, false);
    }
  }

  return {
    pairs: inOrder([...pairs.values()], candidate),
    refused,
    unusedDeclarations,
    unpairedOutputs,
    unpairedReferenceOutputs: reference.outputs
      .filter((output) => !usedReference.has(output.tensor))
      .map((output) => output.name),
  };
}

/** Outputs of one name belong together; where as many are left over on both sides, each has its place among them. */
function outputsByPort(
  reference: Observation,
  candidate: Observation,
): ReadonlyMap<ObservedPort, ObservedPort> {
  const found = new Map<ObservedPort, ObservedPort>();
  for (const output of candidate.outputs) {
    const sameName = reference.outputs.find((port) => port.name === output.name);
    if (sameName) found.set(output, sameName);
  }
  const used = new Set(found.values());
  const left = candidate.outputs.filter((output) => !found.has(output));
  const open = reference.outputs.filter((output) => !used.has(output));
  if (left.length === open.length)
    left.forEach((output, at) => found.set(output, open[at] as ObservedPort));
  return found;
}

/** The pairing with more pairs, found in another way; a later one takes the place of an earlier one. */
export function addPairs(
  pairing: Pairing,
  more: readonly TensorPair[],
  candidate: Observation,
): Pairing {
  if (more.length === 0) return pairing;
  const pairs = new Map([...pairing.pairs, ...more].map((pair) => [pair.candidate, pair]));
  const added = new Set(more.map((pair) => pair.candidate));
  return {
    ...pairing,
    pairs: inOrder([...pairs.values()], candidate),
    refused: new Map([...pairing.refused].filter(([key]) => !added.has(key))),
  };
}

function inOrder(pairs: readonly TensorPair[], candidate: Observation): TensorPair[] {
  const order = new Map(candidate.ops.flatMap((op, index) => op.outputs.map((o) => [o, index])));
  return [...pairs].sort((a, b) => (order.get(a.candidate) ?? -1) - (order.get(b.candidate) ?? -1));
}

interface NamedTensors {
  /** By each of its names; the first tensor that bears a name has it. */
  readonly byName: ReadonlyMap<string, ObservedTensor>;
  readonly observed: readonly ObservedTensor[];
}

/** Tensors that an op made and whose value was observed. Inputs and parameters are compared on their own. */
function namedTensors(observation: Observation): NamedTensors {
  const made = producers(observation);
  const given = new Set([
    ...observation.inputs.map((port) => port.tensor),
    ...observation.parameters.map((parameter) => parameter.tensor),
  ]);
  const observed = [...made.keys()]
    .filter((key) => !given.has(key))
    .map((key) => observation.tensors.get(key))
    .filter((tensor) => tensor?.value !== undefined) as ObservedTensor[];
  const byName = new Map<string, ObservedTensor>();
  const ranks = Math.max(0, ...observed.map((tensor) => tensor.names.length));
  for (let rank = 0; rank < ranks; rank++) {
    for (const tensor of observed) {
      const name = tensor.names[rank];
      if (name !== undefined && !byName.has(name)) byName.set(name, tensor);
    }
  }
  return { byName, observed };
}

function formsOf(
  side: NamedTensors,
  form: (name: string) => string,
): {
  tensors: Map<string, { tensor: ObservedTensor; rank: number }>;
  /** How often each variable is assigned. */
  assignments: Map<string, number>;
} {
  const tensors = new Map<string, { tensor: ObservedTensor; rank: number }>();
  const twice = new Set<string>();
  const assignments = new Map<string, number>();
  for (const [name, tensor] of side.byName) {
    const key = form(name);
    const base = withoutCount(key);
    assignments.set(base, (assignments.get(base) ?? 0) + 1);
    const known = tensors.get(key);
    if (known && known.tensor !== tensor) twice.add(key);
    else tensors.set(key, { tensor, rank: tensor.names.indexOf(name) });
  }
  for (const key of twice) tensors.delete(key);
  return { tensors, assignments };
}
