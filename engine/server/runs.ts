import path from "node:path";
import type { Report } from "../protocol/report.js";
import type { RunParams, RunResult } from "../protocol/requests.js";
import { UserError } from "../protocol/userError.js";
import type { RunOptions } from "../run/runParity.js";
import { RunnerFailure } from "../runner/executor.js";
import { reportFileFor, writeReport } from "./reportFile.js";
import { reportOfScript, type RunScript, type ScriptRunRequest } from "./scriptRun.js";

export interface RunRequest extends Omit<RunParams, "runFile" | "workDoneToken"> {
  /** Absolute. */
  readonly runFile: string;
  /** The editor's text, saved or not; undefined when the file is not open. */
  readonly text: string | undefined;
  readonly storage: string;
  readonly onProgress: (stage: string, fraction?: number) => void;
}

export interface Runs {
  /** Runs a run file. A newer run of the same file cancels the older one. Never throws. */
  run(request: RunRequest, cancelled: AbortSignal): Promise<RunResult>;
  /** Runs a Python script, in the same way. */
  runScript(request: ScriptRunRequest, cancelled: AbortSignal): Promise<RunResult>;
  cancelAll(): void;
}

export type RunParity = (options: RunOptions) => Promise<Report>;

export interface RunsParts {
  readonly runParity: RunParity;
  readonly runScript: RunScript;
  /** The bundled runner child. */
  readonly runnerEntry: string;
  /** Folder that holds the Python package of the capture agent. */
  readonly agentFolder: string;
}

export function createRuns(parts: RunsParts): Runs {
  const underWay = new Map<string, AbortController>();
  const start = async (
    file: string,
    storage: string,
    cancelled: AbortSignal,
    report: (signal: AbortSignal) => Promise<Report>,
  ): Promise<RunResult> => {
    underWay.get(file)?.abort(new Error("a newer run of the same file began"));
    const controller = new AbortController();
    underWay.set(file, controller);
    const signal = AbortSignal.any([controller.signal, cancelled]);
    try {
      return await outcomeOf(file, storage, report, signal);
    } finally {
      if (underWay.get(file) === controller) underWay.delete(file);
    }
  };
  return {
    run: (request, cancelled) =>
      start(request.runFile, request.storage, cancelled, (signal) =>
        parts.runParity(runOptions(request, parts.runnerEntry, signal)),
      ),
    runScript: (request, cancelled) =>
      start(request.script, request.storage, cancelled, (signal) =>
        reportOfScript(request, parts, signal),
      ),
    cancelAll: () => {
      for (const controller of underWay.values()) controller.abort(new Error("the engine stops"));
    },
  };
}

function runOptions(
  { runFile, text, provider, timeoutSeconds, onProgress }: RunRequest,
  runnerEntry: string,
  signal: AbortSignal,
): RunOptions {
  return {
    runFile,
    runnerEntry,
    signal,
    onProgress,
    command: ["hstu-parity", "run", ...(provider ? ["--provider", provider] : []), runFile],
    ...(text !== undefined && { text }),
    ...(provider && { provider }),
    ...(timeoutSeconds !== undefined && { timeoutMs: timeoutSeconds * 1000 }),
  };
}

async function outcomeOf(
  file: string,
  storage: string,
  makeReport: (signal: AbortSignal) => Promise<Report>,
  signal: AbortSignal,
): Promise<RunResult> {
  try {
    const report = await makeReport(signal);
    signal.throwIfAborted();
    const reportFile = reportFileFor(storage, file);
    await writeReport(reportFile, report);
    return { outcome: "report", report, reportFile };
  } catch (error) {
    // Whatever a cancelled run ends with (a killed child, a closed pipe) is only the cancel's echo.
    if (signal.aborted) return { outcome: "cancelled" };
    if (error instanceof UserError) return { outcome: "invalid", problems: error.problems };
    if (error instanceof RunnerFailure) {
      const { message, nextStep, lastWords } = error;
      return { outcome: "failed", message, nextStep, details: lastWords };
    }
    const reason = error instanceof Error ? error : new Error(String(error));
    return {
      outcome: "failed",
      message: `the engine failed on ${path.basename(file)}: ${reason.message}`,
      nextStep: "Open the log, it has the details; this is a mistake in HSTU Parity.",
      details: reason.stack ?? reason.message,
    };
  }
}
