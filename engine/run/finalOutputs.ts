import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Alignment } from "../core/alignment.js";
import { float64Reader, fromFloat64, isFloat } from "../core/dtypes.js";
import type { Judgement } from "../core/judge.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { DType } from "../protocol/tensor.js";
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
      await writeFile(path.join(folder, file), npy(value, starts, alignment.count));
    }
  }
}

/** NumPy's format, version 1.0. NumPy has no bfloat16: those are widened. */
function npy(
  value: TensorValue,
  runs: readonly { readonly start: number; readonly length: number }[],
  count: number,
): Uint8Array {
  const into = new Float64Array(count);
  const read = float64Reader(value);
  let at = 0;
  for (const { start, length } of runs) {
    read(start, length, into, at);
    at += length;
  }
  const dtype: DType =
    value.dtype === "bfloat16" ? "float32" : isFloat(value.dtype) ? value.dtype : "int64";
  const described = `{'descr': '${codes[dtype] ?? "<f8"}', 'fortran_order': False, 'shape': (${count},), }`;
  const unpadded = 10 + described.length + 1;
  const header = `${described}${" ".repeat((64 - (unpadded % 64)) % 64)}\n`;
  const start = new Uint8Array(10);
  start.set([0x93, ...Buffer.from("NUMPY"), 1, 0, header.length & 0xff, header.length >> 8]);
  return Buffer.concat([start, Buffer.from(header, "latin1"), fromFloat64(into, dtype)]);
}

const codes: Partial<Record<DType, string>> = {
  float64: "<f8",
  float32: "<f4",
  float16: "<f2",
  int64: "<i8",
};
