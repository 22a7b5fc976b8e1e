import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { TensorValue } from "../core/tensorValue.js";
import { readSafetensors, writeSafetensors } from "../trace/safetensors.js";
import { withoutBfloat16Ports } from "./bfloat16Ports.js";
import { RunnerFailure, type Executor } from "./executor.js";
import type { FailureText, GraphOptimizationLevel } from "./messages.js";
import { startRunner, type RunnerProcess } from "./runnerProcess.js";
import { createTurns } from "./turns.js";

export interface CreateRunnerOptions {
  /** "cpu", or "auto", which takes what there is. */
  readonly provider: string;
  /** The bundled child, `engine/runner/runnerChild.ts`. */
  readonly entry: string | URL;
  /** Limit for one evaluation, the start of the child included; waiting for its turn is not. */
  readonly timeoutMs: number;
  /** Added to the child's environment when it starts. */
  readonly env?: Readonly<Record<string, string>>;
  /** Folder for temporary files. Default: the system's. */
  readonly tempRoot?: string;
  /** Default: as many as ONNX Runtime chooses. */
  readonly intraOpNumThreads?: number;
  /** Default "disabled": each op is computed by itself, whether or not its result is observed. */
  readonly graphOptimizationLevel?: GraphOptimizationLevel;
}

export interface Runner extends Executor {
  /** Process id of the living child; undefined before the first evaluation and after its end. */
  readonly pid: number | undefined;
}

/**
 * An executor whose ONNX Runtime lives in a child process. The child starts with the first evaluation and is kept warm;
 * after a cancel, a crash or a timeout the next evaluation starts another. Evaluations wait for one another.
 */
export function createRunner(options: CreateRunnerOptions): Runner {
  const entry = typeof options.entry === "string" ? options.entry : fileURLToPath(options.entry);
  let current: RunnerProcess | undefined;
  let disposed = false;
  let jobs = 0;
  const turns = createTurns();

  const living = (): RunnerProcess => {
    if (current?.alive !== true) {
      current?.dispose();
      current = startRunner({
        entry,
        env: options.env ?? {},
        tempRoot: options.tempRoot ?? os.tmpdir(),
        intraOpNumThreads: options.intraOpNumThreads ?? 0,
        graphOptimizationLevel: options.graphOptimizationLevel ?? "disabled",
      });
    }
    return current;
  };

  const runJob = async (
    model: Uint8Array,
    feeds: Readonly<Record<string, TensorValue>>,
    outputs: readonly string[],
    signal: AbortSignal,
  ): Promise<Answer> => {
    if (disposed) throw new Error("the runner has been disposed of");
    const child = living();
    const job = ++jobs;
    const modelHash = createHash("sha256").update(model).digest("hex");
    const file = (name: string): string => path.join(child.folder, `${job}.${name}`);
    const modelFile = child.held.has(modelHash) ? undefined : file("onnx");
    const feedsFile = file("feeds.safetensors");
    const outputsFile = file("outputs.safetensors");
    try {
      if (modelFile !== undefined) await writeFile(modelFile, model);
      await writeSafetensors(feedsFile, feeds);
      const reply = await child.ask(
        {
          type: "evaluate",
          job,
          modelHash,
          ...(modelFile !== undefined && { modelFile }),
          feedsFile,
          outputs,
          outputsFile,
        },
        options.timeoutMs,
        signal,
      );
      if (reply.type === "failed") return { failure: reply };
      const values = await readSafetensors(outputsFile);
      signal.throwIfAborted();
      return { values: Object.fromEntries(values) };
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof RunnerFailure || error instanceof RangeError) throw error;
      // The child's folder goes with the child, which may die at any moment.
      throw new RunnerFailure(
        "runner-crashed",
        child.alive
          ? `the runner's temporary files cannot be used: ${String(error)}`
          : "the runner ended before the evaluation",
        child.alive ? "Check the space in the folder for temporary files." : "Run it again.",
      );
    } finally {
      const written = [modelFile, feedsFile, outputsFile].filter((name) => name !== undefined);
      await Promise.all(written.map((name) => rm(name, { force: true }))).catch(() => undefined);
    }
  };

  const evaluateInTurn: Executor["evaluate"] = async (model, feeds, outputs, signal) => {
    const answer = await runJob(model, feeds, outputs, signal);
    if (answer.values) return answer.values;
    if (answer.failure.elementType !== onnxBfloat16) throw failureOf(answer.failure);
    const plain = withoutBfloat16Ports(model, feeds);
    const second = await runJob(plain.model, plain.feeds, outputs, signal);
    if (second.values) return plain.restore(second.values);
    throw failureOf(second.failure);
  };

  return {
    name: `onnxruntime-node${versionBeside(entry)}`,
    provider: options.provider === "auto" ? "cpu" : options.provider,
    get pid() {
      return current?.alive === true ? current.pid : undefined;
    },
    async evaluate(model, feeds, outputs, signal) {
      signal.throwIfAborted();
      if (options.provider !== "cpu" && options.provider !== "auto") {
        throw new RunnerFailure(
          "provider-unavailable",
          `the provider "${options.provider}" is not available in this version`,
          'Use the provider "cpu".',
        );
      }
      return turns.take(() => evaluateInTurn(model, feeds, outputs, signal), signal);
    },
    dispose() {
      disposed = true;
      current?.dispose();
      current = undefined;
    },
  };
}

/** TensorProto.DataType.BFLOAT16. */
const onnxBfloat16 = 16;

type Answer =
  | { readonly values: Record<string, TensorValue>; readonly failure?: undefined }
  | { readonly failure: FailureText; readonly values?: undefined };

function failureOf({ code, message, nextStep, op }: FailureText): RunnerFailure {
  return new RunnerFailure(code, message, nextStep, "", op);
}

/** The version as the package beside the child's entry says; the package itself is loaded in the child alone. */
function versionBeside(entry: string): string {
  try {
    const file = createRequire(entry).resolve("onnxruntime-node/package.json");
    const { version } = JSON.parse(readFileSync(file, "utf8")) as { version: string };
    return ` ${version}`;
  } catch {
    return "";
  }
}
