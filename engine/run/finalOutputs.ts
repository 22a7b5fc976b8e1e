import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Alignment } from "../core/alignment.js";
import { float64Reader, fromFloat64, isFloat } from "../core/dtypes.js";
import type { Judgement } from "../core/judge.js";
import type { TensorValue } from "../core/tensorValue.js";
import { npyBytes } from "../trace/npy.js";
import type { ObservedImplementation } from "./observe.js";

/** One final output of a candidate beside the reference's. */
export interface ComparedOutput {
  readonly reference: TensorValue;
  readonly candidate: TensorValue;
  readonly alignment: Alignment;
}

/** The final outputs that could be compared. */
export function comparedOutputs(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  judgements: readonly Judgement[],
): ComparedOutput[] {
  return judgements.flatMap(({ pair: { isOutput, alignment, ...pair } }) => {
    const r = reference.observation.tensors.get(pair.reference)?.value;
    const c = candidate.observation.tensors.get(pair.candidate)?.value;
    return isOutput && alignment && r && c ? [{ reference: r, candidate: c, alignment }] : [];
  });
}

/**
 * Writes `<id>.<n>.reference.npy` and `<id>.<n>.candidate.npy` for the n-th output of a candidate: flat arrays with the
 * valid elements alone, in the reference's order, so that any other program can compare the two as they stand.
 */
export async function writeOutputs(
  folder: string,
  id: string,
  outputs: readonly ComparedOutput[],
): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [n, { reference, candidate, alignment }] of outputs.entries()) {
    for (const [side, value] of Object.entries({ reference, candidate })) {
      const file = `${id.replace(/[^\w.-]/g, "_")}.${n}.${side}.npy`;
      const starts = alignment.runs.map((run) => ({
        start: side === "reference" ? run.reference : run.candidate,
        length: run.length,
      }));
      await writeFile(path.join(folder, file), npyBytes(flat(value, starts, alignment.count)));
    }
  }
}

/** The elements of the runs, one behind the other. */
function flat(value: TensorValue, runs: readonly Run[], count: number): TensorValue {
  const into = new Float64Array(count);
  const read = float64Reader(value);
  let at = 0;
  for (const { start, length } of runs) {
    read(start, length, into, at);
    at += length;
  }
  const dtype = isFloat(value.dtype) ? value.dtype : "int64";
  return { dtype, shape: [count], bytes: fromFloat64(into, dtype) };
}

interface Run {
  readonly start: number;
  readonly length: number;
}
