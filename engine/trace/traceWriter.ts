import path from "node:path";
import type { TensorValue } from "../core/tensorValue.js";
import type { TraceFile, TraceTensor } from "../protocol/trace.js";
import { writeSafetensors, writeWhole } from "./safetensors.js";

/**
 * Writes NAME.trace.json and, when there are values, NAME.safetensors beside it. A tensor's type and shape become those
 * of its value; a tensor without one loses its key. @returns the trace as it was written.
 */
export async function writeTrace(
  file: string,
  trace: TraceFile,
  values: ReadonlyMap<number, TensorValue>,
): Promise<TraceFile> {
  if (!file.endsWith(suffix)) throw new Error(`a trace's name ends in ${suffix}: ${file}`);
  const stored = new Map<string, TensorValue>();
  const tensors = trace.tensors.map((tensor): TraceTensor => {
    const { key: oldKey, ...rest } = tensor;
    const value = values.get(tensor.id);
    if (!value) return rest;
    const key = freeKey(oldKey ?? `t${tensor.id}`, value, stored);
    stored.set(key, value);
    return { ...rest, dtype: value.dtype, shape: [...value.shape], key };
  });
  const { tensorsFile: _, ...rest } = trace;
  const tensorsFile = `${path.basename(file).slice(0, -suffix.length)}.safetensors`;
  const written: TraceFile = { ...rest, tensors, ...(stored.size > 0 && { tensorsFile }) };
  // The values first: a trace that exists has its values.
  if (stored.size > 0) await writeSafetensors(path.join(path.dirname(file), tensorsFile), stored);
  await writeWhole(file, [Buffer.from(traceText(written))]);
  return written;
}

const suffix = ".trace.json";

/** Tensors that share a key share their bytes; other bytes get another key. */
function freeKey(
  wanted: string,
  value: TensorValue,
  stored: ReadonlyMap<string, TensorValue>,
): string {
  let key = wanted;
  for (let n = 1; ; n++) {
    const other = stored.get(key);
    if (!other || isSame(other, value)) return key;
    key = `${wanted}#${n}`;
  }
}

function isSame(a: TensorValue, b: TensorValue): boolean {
  return (
    a.dtype === b.dtype &&
    String(a.shape) === String(b.shape) &&
    Buffer.compare(a.bytes, b.bytes) === 0
  );
}

/** One line for each op, tensor and frame: compact, and a version control system shows what changed. */
function traceText(trace: TraceFile): string {
  const members = Object.entries(trace)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => {
      if (!Array.isArray(value) || value.length === 0) return `"${name}": ${JSON.stringify(value)}`;
      const items = value.map((item) => `    ${JSON.stringify(item)}`);
      return `"${name}": [\n${items.join(",\n")}\n  ]`;
    });
  return `{\n  ${members.join(",\n  ")}\n}\n`;
}
