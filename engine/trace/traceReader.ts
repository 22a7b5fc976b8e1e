import { readFile } from "node:fs/promises";
import path from "node:path";
import type { TensorValue } from "../core/tensorValue.js";
import type { TensorRef } from "../protocol/tensor.js";
import type { TraceFile, TraceTensor } from "../protocol/trace.js";
import { userError } from "../protocol/userError.js";
import { DecodeError } from "./decoder.js";
import { openSafetensors, type SafetensorsFile } from "./safetensors.js";
import { decodeTrace } from "./traceFile.js";

/** A trace whose lists are in memory and whose values are read from disk one by one. */
export interface OpenedTrace {
  readonly trace: TraceFile;
  /** Where the value of a tensor lies; `file` is relative to the trace's file. undefined when none was recorded. */
  ref(tensorId: number): TensorRef | undefined;
  /** @throws UserError when no value was recorded or the file no longer holds it. */
  read(tensorId: number): Promise<TensorValue>;
  close(): Promise<void>;
}

/**
 * Opens NAME.trace.json and the safetensors file that it names.
 * @throws UserError that names file and field when one of them is missing, truncated or malformed, or when they disagree.
 */
export async function openTrace(file: string): Promise<OpenedTrace> {
  const trace = parseTrace(await readTraceText(file), file);
  const tensorsFile =
    trace.tensorsFile === undefined
      ? undefined
      : path.resolve(path.dirname(file), trace.tensorsFile);
  const stored = tensorsFile === undefined ? undefined : await openSafetensors(tensorsFile);
  try {
    const tensors = new Map(trace.tensors.map((tensor) => [tensor.id, tensor]));
    if (stored && tensorsFile !== undefined) checkAgainst(stored, tensorsFile, trace, file);
    return {
      trace,
      ref: (id) => {
        const key = tensors.get(id)?.key;
        const ref = key === undefined ? undefined : stored?.tensors.get(key);
        return ref && { ...ref, file: trace.tensorsFile ?? ref.file };
      },
      read: (id) => {
        const key = tensors.get(id)?.key;
        if (key === undefined || !stored) {
          return Promise.reject(
            userError(
              "tensor-not-recorded",
              `${file} has no value for tensor ${id}`,
              "Record the trace again with its values.",
            ),
          );
        }
        return stored.read(key);
      },
      close: async () => stored?.close(),
    };
  } catch (error) {
    await stored?.close();
    throw error;
  }
}

async function readTraceText(file: string): Promise<string> {
  return readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    throw error.code === "ENOENT"
      ? userError(
          "trace-missing",
          `there is no trace ${file}`,
          "Check the path, or record it again.",
        )
      : userError(
          "trace-unreadable",
          `the trace ${file} cannot be read: ${error.code ?? error.message}`,
          "Check that it is a file that you may read.",
        );
  });
}

function parseTrace(text: string, file: string): TraceFile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw userError(
      "trace-malformed",
      `${file} is not JSON: it is truncated or no trace`,
      "A trace ends in .trace.json. Copy or record it again.",
    );
  }
  try {
    return decodeTrace(value);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    throw userError(
      "trace-malformed",
      `${file}: ${error.message}`,
      "Record the trace again with this version of the tool.",
    );
  }
}

function checkAgainst(
  stored: SafetensorsFile,
  tensorsFile: string,
  trace: TraceFile,
  file: string,
): void {
  for (const tensor of trace.tensors) {
    if (tensor.key === undefined) continue;
    const ref = stored.tensors.get(tensor.key);
    if (ref && describes(tensor, ref)) continue;
    throw userError(
      "trace-disagrees",
      ref
        ? `tensor "${tensor.key}" is ${tensor.dtype} [${tensor.shape.join(", ")}] in ${file}, but ${ref.dtype} [${ref.shape.join(", ")}] in ${tensorsFile}`
        : `${file} names the tensor "${tensor.key}", which ${tensorsFile} does not have`,
      "The two files belong to different recordings: record them again, or copy both.",
    );
  }
}

function describes({ dtype, shape }: TraceTensor, ref: TensorRef): boolean {
  return (
    dtype === ref.dtype &&
    shape.length === ref.shape.length &&
    shape.every((size, axis) => size === -1 || size === ref.shape[axis])
  );
}
