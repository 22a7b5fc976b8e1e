import path from "node:path";
import type { Report } from "../protocol/report.js";
import type { RunParams, RunResult } from "../protocol/requests.js";
import { UserError, userError } from "../protocol/userError.js";
import { findInterpreter } from "../capture/interpreter.js";
import type { RunOptions } from "../run/runParity.js";
import { saveRunFile, type SavedScript } from "../run/saveRunFile.js";
import { RunnerFailure } from "../runner/executor.js";
import { reportFileFor, writeReport } from "./reportFile.js";
import { reportOfScript, type RunScript, type ScriptRunRequest } from "./scriptRun.js";

export interface RunRequest extends Omit<RunParams, "runFile" | "workDoneToken"> {
  /** Absolute. */
  readonly runFile: string;
  /** The editor's text, saved or not; undefined when the file is not open. */
  readonly text: string | undefined;
  readonly storage: string;
  readonly env: NodeJS.ProcessEnv;
  readonly onProgress: (stage: string, fraction?: number) => void;
  /** What scripts print that the run file names. */
  readonly onOutput: (text: string) => void;
}

export interface Runs {
  /** Runs a run file. A newer run of the same file cancels the older one. Never throws. */
  run(request: RunRequest, cancelled: AbortSignal): Promise<RunResult>;
  /** Runs a Python script, in the same way. */
  runScript(request: ScriptRunRequest, cancelled: AbortSignal): Promise<RunResult>;
  /** Writes down what the last run of a script compared. @throws UserError */
  saveRunFile(file: string): Promise<void>;
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
  let last: { readonly report: Report; readonly script: SavedScript } | undefined;
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
        parts.runParity(runOptions(request, parts, signal)),
      ),
    runScript: (request, cancelled) =>
      start(request.script, request.storage, cancelled, async (signal) => {
        const report = await reportOfScript(request, parts, signal);
        const { script, args, cwd } = request;
        last = { report, script: { target: { script }, args, cwd } };
        return report;
      }),
    saveRunFile: async (file) => {
      if (!last) {
        throw userError(
          "nothing-to-save",
          "no script was run yet",
          "Run one: a run file writes down what its run compared.",
        );
      }
      await saveRunFile(last.report, last.script, file);
    },
    cancelAll: () => {
      for (const controller of underWay.values()) controller.abort(new Error("the engine stops"));
    },
  };
}

function runOptions(
  {
    runFile,
    text,
    provider,
    timeoutSeconds,
    python,
    byteBudget,
    env,
    onProgress,
    onOutput,
  }: RunRequest,
  { runnerEntry, agentFolder }: Pick<RunsParts, "runnerEntry" | "agentFolder">,
  signal: AbortSignal,
): RunOptions {
  const { given = [], folders = [] } = python ?? {};
  return {
    runFile,
    scripts: {
      agentFolder,
      interpreterFor: (folder, named) =>
        findInterpreter({
          given: [
            ...(named === undefined ? [] : [{ path: named, source: "run file" as const }]),
            ...given,
          ],
          folders: [folder, ...folders],
          env,
          signal,
        }),
      ...(byteBudget !== undefined && { byteBudget: Math.round(byteBudget * 2 ** 20) }),
      onOutput: (_, text) => onOutput(text),
    },
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
