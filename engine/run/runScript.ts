import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { Readable } from "node:stream";
import { captureScript, type CaptureResult } from "../capture/agent.js";
import type { Interpreter } from "../capture/interpreter.js";
import { explainImportError } from "../capture/pythonPackages.js";
import { createTorchExecutor } from "../capture/torchExecutor.js";
import type { CaptureIndex } from "../protocol/capture.js";
import type { Problem, Report } from "../protocol/report.js";
import type { ComparisonRules, Provider } from "../protocol/runFile.js";
import { userError } from "../protocol/userError.js";
import { createRunner } from "../runner/supervisor.js";
import { assembleReport } from "./assembleReport.js";
import { readCapturedCalls } from "./capturedCalls.js";
import { compareCalls } from "./compareCalls.js";
import { describeCapture, namesError } from "./describeCapture.js";
import { relativeToBase } from "./sources.js";

export interface ScriptOptions {
  /** A script, absolute; or a module, as after `python -m`. */
  readonly target: { readonly script: string } | { readonly module: string };
  readonly args: readonly string[];
  /** Absolute; where the script starts. */
  readonly cwd: string;
  /** Variables that are set besides those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly interpreter: Interpreter;
  /** Folder that holds the Python package `hstu_capture`. */
  readonly agentFolder: string;
  /** The bundled runner child. */
  readonly runnerEntry: string;
  /** Folder that the report's file names are relative to. */
  readonly base: string;
  readonly provider?: Provider;
  readonly reference?: string;
  /** Candidates to compare. Default: all that were found. */
  readonly candidates?: readonly string[];
  readonly rules?: ComparisonRules;
  /** Limit for the script as a whole, and for one evaluation. Default: 600,000 and 120,000. */
  readonly timeoutMs?: number;
  /** Bytes of tensors after which floats are kept as statistics and samples. Default: the agent's own. */
  readonly byteBudget?: number;
  readonly stdin?: Readable;
  readonly onOutput?: (stream: "stdout" | "stderr", text: string) => void;
  readonly signal: AbortSignal;
  readonly onProgress: (stage: string, fraction?: number) => void;
  /** The command line, for the report. */
  readonly command: readonly string[];
}

export interface ScriptReport {
  readonly report: Report;
  readonly capture: CaptureIndex;
  /** Hashes of the parameters and inputs of what was compared, by call and name. */
  readonly hashes: Readonly<Record<string, string>>;
}

/**
 * Runs a user's script under the capture agent, finds the implementations among what it called, compares them and
 * reports as a run file's run does.
 * @throws UserError when nothing could be captured for a reason that the user can mend.
 * @throws RunnerFailure when a child of the engine died or did not answer.
 */
export async function runScript(options: ScriptOptions): Promise<ScriptReport> {
  const startedAt = new Date();
  const { signal, onProgress, agentFolder, interpreter, base } = options;
  const evaluationTimeoutMs = options.timeoutMs ?? 120_000;
  const folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-capture-"));
  const executor = createRunner({
    provider: options.provider ?? "cpu",
    entry: options.runnerEntry,
    timeoutMs: evaluationTimeoutMs,
  });
  const torch = createTorchExecutor({
    python: interpreter.path,
    agentFolder,
    timeoutMs: evaluationTimeoutMs,
  });
  try {
    onProgress(`Running ${nameOf(options)}`, 0.05);
    const { target, args } = options;
    const captured = await captureScript({
      python: interpreter.path,
      agentFolder,
      script: "script" in target ? [target.script, ...args] : ["-m", target.module, ...args],
      cwd: options.cwd,
      out: folder,
      executor,
      ...(options.env && { env: options.env }),
      ...(options.stdin && { stdin: options.stdin }),
      ...(options.onOutput && { onOutput: options.onOutput }),
      ...(options.byteBudget !== undefined && {
        agentOptions: ["--byte-budget", String(options.byteBudget)],
      }),
      timeoutMs: options.timeoutMs ?? 600_000,
      signal,
    });
    const { index } = captured;
    if (!index) throw notStarted(options, captured);
    onProgress("Finding what to compare", 0.5);
    const calls = await readCapturedCalls(index, folder);
    if (calls.length === 0) refuseEmpty(options, captured, index);
    const { references, compared, problems, atBest, hashes } = await compareCalls(calls, {
      ...options,
      index,
      executor,
      torch,
      folder,
    });
    const ended = describeCapture(index, captured, base);
    const report = await assembleReport({
      startedAt,
      command: options.command,
      base,
      run: {
        script: {
          file: "script" in target ? relativeToBase(base, target.script) : `-m ${target.module}`,
          args: [...args],
          exitCode: captured.exitCode ?? -1,
        },
        cache: "off",
      },
      python: interpreter.version,
      references,
      compared,
      problems: [...ended.problems, ...problems],
      atBest: worse(atBest, ended.atBest),
    });
    return { report, capture: index, hashes };
  } finally {
    executor.dispose();
    torch.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

function worse(a: "pass" | "unknown", b: "pass" | "warn"): "pass" | "warn" | "unknown" {
  return a === "unknown" ? a : b;
}

function nameOf({ target }: ScriptOptions): string {
  return "script" in target ? path.basename(target.script) : target.module;
}

/** Python itself did not get as far as the agent. */
function notStarted(
  { interpreter }: ScriptOptions,
  { stderr, exitCode, endedBy }: CaptureResult,
): Error {
  const said = stderr.trim().split("\n").at(-1) ?? "";
  return userError(
    "script-not-started",
    `${interpreter.path} ended with ${endedBy ?? exitCode} before the script began${said === "" ? "" : `: ${said}`}`,
    "Check that this Python starts, or choose another one with --python.",
  );
}

/** A script that failed before it computed anything is the user's to mend; one that computes nothing is said to be such. */
function refuseEmpty(
  options: ScriptOptions,
  { timedOut }: CaptureResult,
  { error }: CaptureIndex,
): void {
  const name = nameOf(options);
  if (timedOut) {
    throw userError(
      "script-timeout",
      `${name} did not end within ${(options.timeoutMs ?? 600_000) / 1000} s, and no model was called until then`,
      "Allow more time with --timeout, or give the script less to do.",
    );
  }
  if (!error) return;
  const problem: Problem | undefined = explainImportError(error, options.interpreter);
  const [frame] = error.frames;
  throw userError(
    problem?.code ?? "script-raised",
    problem?.message ?? `${name} raised ${namesError(error)}, and no model was called until then`,
    problem?.nextStep ?? "Mend the script: its own traceback is above.",
    frame,
  );
}
