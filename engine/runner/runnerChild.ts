/**
 * The child process that holds ONNX Runtime. `run()` blocks its thread and a native crash ends its process, so it lives
 * alone, is killed to be cancelled, and speaks with the supervisor over fork's channel only.
 */
import { rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import type { InferenceSession, Tensor } from "onnxruntime-node";
import { elementArray } from "../core/dtypes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { DType } from "../protocol/tensor.js";
import { UserError } from "../protocol/userError.js";
import { readSafetensors, writeSafetensors } from "../trace/safetensors.js";
import type { EvaluateReply, EvaluateRequest, FailureText, RunnerOptions } from "./messages.js";
import { ortFailure } from "./ortFailure.js";

type OnnxRuntime = typeof import("onnxruntime-node");

const options = JSON.parse(process.argv[2] ?? "{}") as RunnerOptions;

process.on("message", (request: EvaluateRequest) => void answer(request));
process.on("disconnect", () => {
  // The supervisor is gone, perhaps without having had the time to clean up.
  rmSync(options.folder, { recursive: true, force: true });
  process.exit(0);
});
// Ctrl-C reaches the whole process group; the supervisor decides what becomes of this child.
process.on("SIGINT", () => undefined);

/** Sessions by the model's hash, least recently used first. */
const sessions = new Map<string, { session: InferenceSession; modelBytes: number }>();
const mostSessions = 32;
/** A session holds its own copy of the parameters. */
const mostModelBytes = 512 * 2 ** 20;

let runtime: OnnxRuntime | undefined;

function onnxRuntime(): OnnxRuntime {
  if (!runtime) {
    process.env["ORT_DISABLE_TELEMETRY"] = "1";
    runtime = createRequire(import.meta.url)("onnxruntime-node") as OnnxRuntime;
  }
  return runtime;
}

async function answer(request: EvaluateRequest): Promise<void> {
  let reply: EvaluateReply;
  try {
    await evaluate(request);
    reply = { type: "done", job: request.job, held: [...sessions.keys()] };
  } catch (error) {
    const failure = error instanceof Failure ? error.failure : unexpected(error);
    reply = { type: "failed", job: request.job, held: [...sessions.keys()], ...failure };
  }
  process.send?.(reply);
}

async function evaluate(request: EvaluateRequest): Promise<void> {
  const session = await sessionOf(request);
  const values = await readSafetensors(request.feedsFile);
  const unknown = request.outputs.find((name) => !session.outputNames.includes(name));
  if (unknown !== undefined) {
    throw new Failure({
      code: "model-refused",
      message: `the model has no output "${unknown}"`,
      nextStep: `Ask for one of: ${session.outputNames.join(", ")}.`,
    });
  }
  const feeds = feedsFor(session, values);
  let results: InferenceSession.ReturnType;
  try {
    results = await session.run(feeds, [...request.outputs]);
  } catch (error) {
    throw new Failure(ortFailure(error, "run"));
  }
  const outputs = new Map<string, TensorValue>();
  for (const name of request.outputs) outputs.set(name, valueOf(name, results[name]));
  await writeSafetensors(request.outputsFile, outputs);
}

async function sessionOf({ modelHash, modelFile }: EvaluateRequest): Promise<InferenceSession> {
  let held = sessions.get(modelHash);
  sessions.delete(modelHash);
  if (!held) {
    if (modelFile === undefined) throw new Error(`no session of the model ${modelHash}`);
    held = { session: await createSession(modelFile), modelBytes: statSync(modelFile).size };
  }
  sessions.set(modelHash, held);
  let bytes = [...sessions.values()].reduce((sum, { modelBytes }) => sum + modelBytes, 0);
  for (const [hash, oldest] of sessions) {
    if (oldest === held || (sessions.size <= mostSessions && bytes <= mostModelBytes)) break;
    sessions.delete(hash);
    bytes -= oldest.modelBytes;
    await oldest.session.release();
  }
  return held.session;
}

async function createSession(modelFile: string): Promise<InferenceSession> {
  let ort: OnnxRuntime;
  try {
    ort = onnxRuntime();
  } catch (error) {
    throw new Failure({
      code: "provider-unavailable",
      message: `ONNX Runtime cannot be loaded on ${process.platform} ${process.arch}: ${String(error)}`,
      nextStep: "Install the dependencies again on this machine (npm ci).",
    });
  }
  try {
    return await ort.InferenceSession.create(modelFile, {
      executionProviders: ["cpu"],
      graphOptimizationLevel: options.graphOptimizationLevel,
      ...(options.intraOpNumThreads > 0 && { intraOpNumThreads: options.intraOpNumThreads }),
      // Errors come back as exceptions; warnings about unused initializers would drown the last words of a crash.
      logSeverityLevel: 4,
      // Threads that spin between runs would take a laptop's processor while nothing is asked.
      extra: { session: { intra_op: { allow_spinning: "0" } } },
    });
  } catch (error) {
    throw new Failure(ortFailure(error, "load"));
  }
}

function feedsFor(
  session: InferenceSession,
  values: ReadonlyMap<string, TensorValue>,
): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = {};
  for (const metadata of session.inputMetadata) {
    const { name } = metadata;
    const value = values.get(name);
    if (!value) throw badFeed(`the input "${name}" is missing`);
    if (metadata.isTensor && !fits(value, metadata)) {
      throw badFeed(
        `the input "${name}" takes ${form(metadata.type, metadata.shape)}, not ${form(value.dtype, value.shape)}`,
      );
    }
    feeds[name] = tensorOf(value);
  }
  const superfluous = [...values.keys()].find((name) => !session.inputNames.includes(name));
  if (superfluous !== undefined) throw badFeed(`the model has no input "${superfluous}"`);
  return feeds;
}

function fits(value: TensorValue, wanted: InferenceSession.TensorValueMetadata): boolean {
  if (value.dtype !== wanted.type) return false;
  // ONNX Runtime reports an input of unknown rank as one without axes; it checks scalars itself.
  if (wanted.shape.length === 0) return true;
  return (
    value.shape.length === wanted.shape.length &&
    wanted.shape.every((size, axis) => typeof size === "string" || size === value.shape[axis])
  );
}

function form(type: string, shape: readonly (number | string)[]): string {
  return `${type} [${shape.map((size) => (size === "" ? "?" : size)).join(", ")}]`;
}

function tensorOf(value: TensorValue): Tensor {
  const { Tensor: OrtTensor } = onnxRuntime();
  // The binding has no constructor signature for a type that is only known at run time.
  const data = elementArray(value) as unknown as Float32Array;
  return new OrtTensor(value.dtype as "float32", data, value.shape);
}

function valueOf(name: string, tensor: Tensor | undefined): TensorValue {
  if (!tensor || !ArrayBuffer.isView(tensor.data)) {
    throw new Failure({
      code: "model-refused",
      message: `the output "${name}" is no tensor of numbers`,
      nextStep: "Ask for another output.",
    });
  }
  const { buffer, byteOffset, byteLength } = tensor.data;
  return {
    dtype: tensor.type as DType,
    shape: tensor.dims,
    bytes: new Uint8Array(buffer, byteOffset, byteLength),
  };
}

class Failure extends Error {
  constructor(readonly failure: FailureText) {
    super(failure.message);
  }
}

function badFeed(message: string): Failure {
  return new Failure({
    code: "bad-feeds",
    message,
    nextStep: "Give inputs of the names, types and shapes that the model takes.",
  });
}

function unexpected(error: unknown): FailureText {
  if (error instanceof UserError || (error as NodeJS.ErrnoException).code === "ENOSPC") {
    return {
      code: "runner-crashed",
      message: `the runner's temporary files cannot be used: ${(error as Error).message}`,
      nextStep: "Check the space in the folder for temporary files.",
    };
  }
  return ortFailure(error, "run");
}
