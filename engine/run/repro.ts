import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Judgement } from "../core/judge.js";
import { producers, type ObservedOp, type TensorKey } from "../core/observation.js";
import type { FoundOrigin } from "../core/origins.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { Origin, Site } from "../protocol/report.js";
import { npyBytes } from "../trace/npy.js";
import type { ObservedImplementation } from "./observe.js";
import { substitutionFor, type ReplayWithRepairs } from "./replay.js";

/** One origin alone: the candidate's ops on the reference's values, and what both sides make of them. */
export interface OriginRepro {
  readonly candidate: string;
  readonly origin: Origin;
  readonly inputs: readonly { readonly name: string; readonly value: TensorValue }[];
  readonly expected: TensorValue;
  readonly actual: TensorValue;
  readonly candidateOps: readonly ObservedOp[];
  readonly referenceOp: ObservedOp | undefined;
  /** The candidate's ops as an ONNX model; absent for those that torch runs. */
  readonly model?: Uint8Array;
}

export function reproOf(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  { origin, judgements }: FoundOrigin,
  replay: ReplayWithRepairs,
  pairOf: ReadonlyMap<TensorKey, Judgement["pair"]>,
): OriginRepro | undefined {
  const lead = judgements[0];
  if (!lead?.pair.alignment) return undefined;
  const { pair, segment } = lead;
  const [r, c] = [reference.observation, candidate.observation];
  const expected = substitutionFor(pair, r, c);
  const actual = replay.onReference.get(pair.candidate);
  if (!expected || !actual) return undefined;
  const inputs = segment.frontier.flatMap((key) => {
    const known = pairOf.get(key);
    const value = (known && substitutionFor(known, r, c)) ?? c.tensors.get(key)?.value;
    return value ? [{ name: key, value }] : [];
  });
  const model = candidate.program?.extract?.(segment.frontier, pair.candidate);
  return {
    candidate: candidate.id,
    origin,
    inputs,
    expected,
    actual,
    candidateOps: segment.ops,
    referenceOp: producers(r).get(pair.reference),
    ...(model && { model }),
  };
}

/**
 * Writes a folder for each origin: `repro.py`, its inputs and both results as .npy, and the candidate's ops as ONNX.
 * @returns the folders, relative to `folder`.
 */
export async function writeRepros(
  folder: string,
  base: string,
  repros: readonly OriginRepro[],
): Promise<string[]> {
  const written: string[] = [];
  for (const repro of repros) {
    const name = `${repro.candidate}-${repro.origin.id}`.replace(/[^\w.-]/g, "_");
    const target = path.join(folder, name);
    await mkdir(target, { recursive: true });
    const write = (file: string, content: Uint8Array | string) =>
      writeFile(path.join(target, file), content);
    for (const [at, { value }] of repro.inputs.entries()) {
      await write(`input${at}.npy`, npyBytes(value));
    }
    await write("expected.npy", npyBytes(repro.expected));
    await write("actual.npy", npyBytes(repro.actual));
    if (repro.model) await write("candidate.onnx", repro.model);
    await write("repro.py", await script(repro, base));
    written.push(name);
  }
  return written;
}

async function script(repro: OriginRepro, base: string): Promise<string> {
  const { origin, referenceOp, candidateOps, inputs, model } = repro;
  const line = async (site: Site | undefined): Promise<string> => {
    if (!site) return "";
    const text = await readFile(path.resolve(base, site.file), "utf8").catch(() => "");
    return `${site.file}:${site.line}  ${text.split("\n")[site.line - 1]?.trim() ?? ""}`;
  };
  const kinds = [...new Set(candidateOps.map(({ kind }) => kind))].join(", ");
  const cause = origin.cause ? `It ${origin.cause.text}.\n` : "";
  const again = model
    ? `try:
    import onnxruntime
except ImportError:
    print("the candidate's result is the recorded one: onnxruntime is not installed")
else:
    session = onnxruntime.InferenceSession(str(here / "candidate.onnx"))
    wanted = {given.name for given in session.get_inputs()}
    actual = session.run(None, {name: inputs[name] for name in wanted})[0]
`
    : `print("the candidate's result is the one that torch computed when this was written")
`;
  return `"""One origin alone: ${origin.site.file}:${origin.site.line}.

candidate: ${await line(origin.site)}
    ${kinds}
reference: ${await line(origin.referenceSite ?? referenceOp?.frames[0])}
    ${referenceOp?.kind ?? "no op"}
${cause}
The inputs are the reference's values in the candidate's layout; padding is the candidate's own.
"""

import pathlib

import numpy as np

here = pathlib.Path(__file__).resolve().parent
inputs = {
${inputs.map(({ name }, at) => `    ${JSON.stringify(name)}: np.load(here / "input${at}.npy"),`).join("\n")}
}
expected = np.load(here / "expected.npy")
actual = np.load(here / "actual.npy")
${again}
difference = actual.astype(np.float64) - expected.astype(np.float64)
norm = np.linalg.norm(expected.astype(np.float64))
print("expected", expected.ravel()[:6])
print("actual  ", actual.ravel()[:6])
print(f"relL2 {np.linalg.norm(difference) / norm:.3g}, max |difference| {np.abs(difference).max():.3g}")
`;
}
