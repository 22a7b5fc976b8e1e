import { rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { TensorValue } from "../core/tensorValue.js";
import { createTurns } from "../runner/turns.js";
import { RunnerFailure } from "../runner/executor.js";
import { readSafetensors, writeSafetensors } from "../trace/safetensors.js";
import { startTorchReplay, type TorchReplayProcess } from "./torchReplayProcess.js";

export interface TorchEvaluation {
  /** The `NAME.trace.json` of a torch trace whose values lie beside it. */
  readonly trace: string;
  /** Tensor ids of the trace, as all keys here. */
  readonly outputs: readonly string[];
  /** Readers of these tensors get the given value, while the tensors themselves are still computed. */
  readonly replace: ReadonlyMap<string, TensorValue>;
  /** Readers of these tensors get what is computed plus the given value. */
  readonly correct: ReadonlyMap<string, TensorValue>;
  /** Values of tensors that no op makes, in place of the recorded ones. */
  readonly parameters: ReadonlyMap<string, TensorValue>;
  /** Values for single operands: the op that makes `reader` reads them at `position`, counted from 0. */
  readonly operands?: readonly {
    readonly reader: string;
    readonly position: number;
    readonly value: TensorValue;
  }[];
  /** What only makes replaced tensors need not run. */
  readonly isTrial?: boolean;
  /** In float64 throughout, narrowing casts left out. */
  readonly double: boolean;
}

export interface TorchEvaluated {
  /** In the type that they have, float64 under `double`. Tensors of another type come as the trace records them. */
  readonly values: Map<string, TensorValue>;
  /** Outputs that cannot be computed on these values, and why. */
  readonly unavailable: Map<string, string>;
}

/** Evaluates the ops of recorded torch traces in the user's Python, with their torch. */
export interface TorchExecutor {
  /** "torch 2.13.0" once the child has said so, "torch" before. */
  readonly name: string;
  /** Process id of the living child; undefined before the first evaluation and after its end. */
  readonly pid: number | undefined;
  /**
   * @throws RunnerFailure when there is no torch, the trace or a value does not fit, the child dies or does not answer in time.
   * @throws the signal's reason when cancelled; the child and all that it started are killed then.
   */
  evaluate(request: TorchEvaluation, signal: AbortSignal): Promise<TorchEvaluated>;
  dispose(): void;
}

export interface CreateTorchExecutorOptions {
  /** The interpreter. */
  readonly python: string;
  /** Folder that holds the Python package `hstu_capture`. */
  readonly agentFolder: string;
  /** Limit for one evaluation, the start of the child included; waiting for its turn is not. */
  readonly timeoutMs: number;
  /** Default: as the trace says, so that sums are cut into the same parts. */
  readonly threads?: number;
  /** Folder for temporary files. Default: the system's. */
  readonly tempRoot?: string;
  /** Added to the child's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * The child starts with the first evaluation and is kept warm, with the last traces in memory; after a cancel, a crash
 * or a timeout the next evaluation starts another. Evaluations wait for one another.
 */
export function createTorchExecutor(options: CreateTorchExecutorOptions): TorchExecutor {
  let current: TorchReplayProcess | undefined;
  let version: string | undefined;
  let disposed = false;
  let jobs = 0;
  const turns = createTurns();

  const living = (): TorchReplayProcess => {
    if (current?.alive !== true) {
      current?.dispose();
      current = startTorchReplay({
        python: options.python,
        agentFolder: options.agentFolder,
        threads: options.threads,
        tempRoot: options.tempRoot ?? os.tmpdir(),
        env: options.env ?? {},
      });
    }
    return current;
  };

  const runJob = async (request: TorchEvaluation, signal: AbortSignal): Promise<TorchEvaluated> => {
    if (disposed) throw new Error("the torch executor has been disposed of");
    const child = living();
    const job = ++jobs;
    const written: string[] = [];
    const file = (name: string): string => {
      const full = path.join(child.folder, `${job}.${name}.safetensors`);
      written.push(full);
      return full;
    };
    const given = async (
      name: string,
      values: ReadonlyMap<string, TensorValue>,
    ): Promise<GivenTensors | undefined> => {
      if (values.size === 0) return undefined;
      const to = file(name);
      await writeSafetensors(to, values);
      return { tensors: [...values.keys()].map(Number), file: to };
    };
    const operands = async (
      fed: NonNullable<TorchEvaluation["operands"]>,
    ): Promise<FedOperands | undefined> => {
      const values = await given(
        "operands",
        new Map(fed.map((one, at) => [String(at), one.value])),
      );
      const slots = fed.map(({ reader, position }): [number, number] => [Number(reader), position]);
      return values && { ...values, slots };
    };
    try {
      const reply = await child.ask(
        {
          id: job,
          trace: path.resolve(request.trace),
          outputs: request.outputs.map(Number),
          replace: await given("replace", request.replace),
          correct: await given("correct", request.correct),
          parameters: await given("parameters", request.parameters),
          operands: await operands(request.operands ?? []),
          double: request.double,
          trial: request.isTrial ?? false,
          to: file("to"),
        },
        options.timeoutMs,
        signal,
      );
      version = child.torchVersion ?? version;
      if ("error" in reply) throw refused(reply.code, reply.error);
      const values = await readSafetensors(reply.file);
      signal.throwIfAborted();
      return { values, unavailable: new Map(Object.entries(reply.unavailable)) };
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof RunnerFailure || error instanceof RangeError) throw error;
      // The child's folder goes with the child, which may die at any moment.
      throw new RunnerFailure(
        "runner-crashed",
        child.alive
          ? `the temporary files of the replay in torch cannot be used: ${String(error)}`
          : "the replay in torch ended before the evaluation",
        child.alive ? "Check the space in the folder for temporary files." : "Run it again.",
      );
    } finally {
      await Promise.all(written.map((name) => rm(name, { force: true }))).catch(() => undefined);
    }
  };

  return {
    get name() {
      return version === undefined ? "torch" : `torch ${version}`;
    },
    get pid() {
      return current?.alive === true ? current.pid : undefined;
    },
    async evaluate(request, signal) {
      return turns.take(() => runJob(request, signal), signal);
    },
    dispose() {
      disposed = true;
      current?.dispose();
      current = undefined;
    },
  };
}

interface GivenTensors {
  readonly tensors: readonly number[];
  readonly file: string;
}

interface FedOperands extends GivenTensors {
  /** By tensor of the file: an output of the op, and the operand's position. */
  readonly slots: readonly (readonly [number, number])[];
}

function refused(code: string, said: string): RunnerFailure {
  switch (code) {
    case "model-refused":
      return new RunnerFailure(code, `the trace cannot be replayed: ${said}`, "Record it again.");
    case "out-of-memory":
      return new RunnerFailure(code, said, "Close other programs, or compare a smaller batch.");
    default:
      return new RunnerFailure(
        "bad-feeds",
        `the values do not fit the trace: ${said}`,
        "Record the trace again; if it happens again, report it with the log.",
      );
  }
}
