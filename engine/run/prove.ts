import { compareTensors } from "../core/compare.js";
import { relL2 } from "../core/difference.js";
import type { Judgement } from "../core/judge.js";
import type { TensorKey } from "../core/observation.js";
import type { FoundOrigin } from "../core/origins.js";
import { rowId } from "../core/rows.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { Repair } from "../protocol/report.js";
import { fromWire, toWire } from "../protocol/wire.js";
import type { ObservedImplementation } from "./observe.js";
import type { ProvenExplanation } from "./explainOrigins.js";
import { runCorrected, runReplaced, type ReplayWithRepairs } from "./replay.js";

/** Re-runs the candidate with all origins repaired: the output must match then, and with any origin left out it must not. */
export async function prove(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  judgements: readonly Judgement[],
  found: readonly FoundOrigin[],
  replay: ReplayWithRepairs | undefined,
  explanations: ReadonlyMap<TensorKey, ProvenExplanation>,
  signal: AbortSignal,
): Promise<Repair | undefined> {
  const { program } = candidate;
  const outputs = judgements.filter(({ pair }) => pair.isOutput && pair.alignment);
  const expected = judgements.filter((judgement) => judgement.verdict === "expected");
  if (!program || !replay || outputs.length === 0) return undefined;
  if (found.length === 0 && expected.length === 0) return undefined;
  const run = { program, observation: candidate.observation };
  const outputKeys = outputs.map(({ pair }) => pair.candidate);
  const errorWith = async (
    origins: readonly FoundOrigin[],
    method: "replaced" | "corrected",
  ): Promise<{ error: number; isWithin: boolean }> => {
    const ops = origins.filter(({ origin }) => origin.kind !== "parameter");
    const blamed = new Set([...ops.flatMap((o) => o.judgements), ...expected]);
    // A wrong operand is repaired where it is read: what the op makes of the right one is part of the proof.
    const isRepairedBefore = ({ pair }: Judgement): boolean =>
      method === "replaced" && (explanations.get(pair.candidate)?.operands.length ?? 0) > 0;
    const operands = [...blamed]
      .filter(isRepairedBefore)
      .flatMap(({ pair }) => explanations.get(pair.candidate)?.operands ?? []);
    const pairs = [...blamed].filter((j) => !isRepairedBefore(j)).map((j) => j.pair);
    const repairs = new Map(
      origins
        .flatMap((o) => o.parameters)
        .flatMap((p) => {
          const value = replay.repairs.get(p.candidate.tensor);
          return value ? [[p.candidate.tensor, value] as const] : [];
        }),
    );
    const r = reference.observation;
    const values =
      method === "replaced"
        ? await runReplaced(run, r, pairs, repairs, outputKeys, signal, operands)
        : await runCorrected(run, r, pairs, replay, repairs, outputKeys, signal);
    const each = outputs.map((output) =>
      remaining(
        output,
        r.tensors.get(output.pair.reference)?.value,
        values.get(output.pair.candidate),
      ),
    );
    return {
      error: Math.max(...each.map(({ error }) => error)),
      isWithin: each.every(({ isWithin }) => isWithin),
    };
  };
  const after = await errorWith(found, "replaced");
  let corrected: ReturnType<typeof errorWith> | undefined;
  const isNeeded = async (left: FoundOrigin): Promise<boolean> => {
    const others = found.filter((other) => other !== left);
    if (!(await errorWith(others, "replaced")).isWithin) return true;
    // A repair further down may hide that this one is missing; a correction lets its error through.
    return (
      (await (corrected ??= errorWith(found, "corrected"))).isWithin &&
      !(await errorWith(others, "corrected")).isWithin
    );
  };
  let minimal = after.isWithin;
  for (const origin of found.length > 1 ? found : []) {
    minimal &&= await isNeeded(origin);
  }
  const repaired = new Set(
    found.flatMap(({ origin, judgements: own, parameters }) =>
      origin.kind === "parameter"
        ? parameters.map((p) => `parameter ${p.candidate.name}`)
        : own.map((j) => j.pair.candidate),
    ),
  );
  return {
    tensors: repaired.size,
    sites: found.length,
    outputRelL2After: toWire(after.error),
    // A repair puts a value in place for the readers of a tensor: repairing an output itself changes and proves nothing.
    proves: after.isWithin,
    minimal,
    unexplained: after.isWithin ? [] : outputs.map(({ pair }) => rowId(pair.candidate)),
  };
}

/** What is left of one output's difference, judged by its own gate or by the user's tolerance for it. */
function remaining(
  { pair, accumulatedGate, tolerance }: Judgement,
  reference: TensorValue | undefined,
  value: TensorValue | undefined,
): { error: number; isWithin: boolean } {
  if (!reference || !value || !pair.alignment) return { error: Infinity, isWithin: false };
  const equalNan = tolerance?.equalNan ?? false;
  const error = relL2(reference, value, pair.alignment, { equalNan });
  if (tolerance?.rtol === undefined && tolerance?.atol === undefined) {
    return { error, isWithin: error <= fromWire(accumulatedGate.value) };
  }
  const { atol = 0, rtol = 0 } = tolerance;
  const { alignment } = pair;
  return {
    error,
    isWithin: compareTensors(reference, value, { alignment, atol, rtol, equalNan }).allclose,
  };
}
