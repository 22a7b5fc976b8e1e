import path from "node:path";
import type { Report } from "../protocol/report.js";
import type { RunParams, RunResult } from "../protocol/requests.js";
import { UserError } from "../protocol/userError.js";
import type { RunOptions } from "../run/runParity.js";
import { RunnerFailure } from "../runner/executor.js";
import { reportFileFor, writeReport } from "./reportFile.js";

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
  cancelAll(): void;
}

export type RunParity = (options: RunOptions) => Promise<Report>;

export function createRuns(runParity: RunParity, runnerEntry: string): Runs {
  const underWay = new Map<string, AbortController>();
  return {
    run: async (request, cancelled) => {
      const { runFile } = request;
      underWay.get(runFile)?.abort(new Error("a newer run of the same file began"));
      const controller = new AbortController();
      underWay.set(runFile, controller);
      const signal = AbortSignal.any([controller.signal, cancelled]);
      try {
        return await outcomeOf(runParity, runnerEntry, request, signal);
      } finally {
        if (underWay.get(runFile) === controller) underWay.delete(runFile);
      }
    },
    cancelAll: () => {
      for (const controller of underWay.values()) controller.abort(new Error("the engine stops"));
    },
  };
}

async function outcomeOf(
  runParity: RunParity,
  runnerEntry: string,
  { runFile, text, storage, provider, timeoutSeconds, onProgress }: RunRequest,
  signal: AbortSignal,
): Promise<RunResult> {
  try {
    const report = await runParity({
      runFile,
      runnerEntry,
      signal,
      onProgress,
      command: ["hstu-parity", "run", ...(provider ? ["--provider", provider] : []), runFile],
      ...(text !== undefined && { text }),
      ...(provider && { provider }),
      ...(timeoutSeconds !== undefined && { timeoutMs: timeoutSeconds * 1000 }),
    });
    signal.throwIfAborted();
    const reportFile = reportFileFor(storage, runFile);
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
      message: `the engine failed on ${path.basename(runFile)}: ${reason.message}`,
      nextStep: "Open the log, it has the details; this is a mistake in HSTU Parity.",
      details: reason.stack ?? reason.message,
    };
  }
}
