import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { Readable } from "node:stream";
import { captureScript, type CaptureResult } from "../capture/agent.js";
import type { Interpreter } from "../capture/interpreter.js";
import { explainImportError } from "../capture/pythonPackages.js";
import type { CaptureIndex } from "../protocol/capture.js";
import { userError } from "../protocol/userError.js";
import type { Executor } from "../runner/executor.js";
import { readCapturedCalls, type CapturedCall } from "./capturedCalls.js";
import { namesError } from "./describeCapture.js";

/** A script, absolute; or a module, as after `python -m`. */
export type ScriptTarget = { readonly script: string } | { readonly module: string };

export interface ScriptRun {
  readonly target: ScriptTarget;
  readonly args: readonly string[];
  /** Absolute; where the script starts. */
  readonly cwd: string;
  /** Variables that are set besides those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly interpreter: Interpreter;
}

export interface CaptureSettings {
  /** Folder that holds the Python package `hstu_capture`. */
  readonly agentFolder: string;
  /** Runs Tripy programs where NVIDIA's backend is not installed. */
  readonly executor: Executor;
  /** Limit for the script as a whole. Default: 600,000. */
  readonly timeoutMs?: number;
  /** Bytes of tensors after which floats are kept as statistics and samples. Default: the agent's own. */
  readonly byteBudget?: number;
  readonly stdin?: Readable;
  readonly onOutput?: (stream: "stdout" | "stderr", text: string) => void;
  readonly signal: AbortSignal;
}

/** What a script left behind: its recorded calls, in a folder that lives until it is disposed of. */
export interface CapturedScript {
  readonly index: CaptureIndex;
  readonly result: CaptureResult;
  readonly calls: readonly CapturedCall[];
  /** Folder of the capture. */
  readonly folder: string;
  dispose(): Promise<void>;
}

const defaultTimeoutMs = 600_000;

/**
 * Runs a user's script under the capture agent and reads the calls that it made.
 * @throws UserError when nothing could be captured for a reason that the user can mend.
 */
export async function captureCalls(
  run: ScriptRun,
  settings: CaptureSettings,
): Promise<CapturedScript> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-capture-"));
  const dispose = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const { target, args, env } = run;
    const { byteBudget, timeoutMs = defaultTimeoutMs, stdin, onOutput } = settings;
    const result = await captureScript({
      python: run.interpreter.path,
      agentFolder: settings.agentFolder,
      script: "script" in target ? [target.script, ...args] : ["-m", target.module, ...args],
      cwd: run.cwd,
      out: folder,
      executor: settings.executor,
      ...(env && { env }),
      ...(stdin && { stdin }),
      ...(onOutput && { onOutput }),
      ...(byteBudget !== undefined && { agentOptions: ["--byte-budget", String(byteBudget)] }),
      timeoutMs,
      signal: settings.signal,
    });
    const { index } = result;
    if (!index) throw notStarted(run, result);
    const calls = await readCapturedCalls(index, folder);
    if (calls.length === 0) refuseEmpty(run, timeoutMs, result);
    return { index, result, calls, folder, dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** @param shown how the user knows it. @throws UserError when there is no such file. */
export function requireScript(script: string, shown = script): void {
  if (existsSync(script)) return;
  throw userError("script-missing", `there is no script ${shown}`, "Check the path.");
}

export function nameOfTarget(target: ScriptTarget): string {
  return "script" in target ? path.basename(target.script) : target.module;
}

/** Python itself did not get as far as the agent. */
function notStarted(
  { interpreter }: ScriptRun,
  { stderr, exitCode, endedBy }: CaptureResult,
): Error {
  const said = stderr.trim().split("\n").at(-1) ?? "";
  // The agent itself has looked at the script and refuses it, in its own words.
  const refused = /^hstu_capture: (.*)/.exec(said)?.[1];
  if (refused !== undefined) {
    return userError("script-not-started", refused, "Name a Python script, or -m and a module.");
  }
  return userError(
    "script-not-started",
    `${interpreter.path} ended with ${endedBy ?? exitCode} before the script began${said === "" ? "" : `: ${said}`}`,
    "Check that this Python starts, or choose another one with --python.",
  );
}

/** A script that failed before it computed anything is the user's to mend; one that computes nothing is said to be such. */
function refuseEmpty(
  { target, interpreter }: ScriptRun,
  timeoutMs: number,
  { timedOut, endedBy, index }: CaptureResult,
): void {
  const error = index?.error;
  const name = nameOfTarget(target);
  if (timedOut) {
    throw userError(
      "script-timeout",
      `${name} did not end within ${timeoutMs / 1000} s, and no model was called until then`,
      "Allow more time with --timeout, or give the script less to do.",
    );
  }
  if (!error && endedBy) {
    throw userError(
      "script-killed",
      `${name} was ended by ${endedBy}, and no model was called until then`,
      "See what it printed; a script that runs out of memory is ended by SIGKILL.",
    );
  }
  if (!error) return;
  const problem = explainImportError(error, interpreter);
  const [frame] = error.frames;
  throw userError(
    problem?.code ?? "script-raised",
    problem?.message ?? `${name} raised ${namesError(error)}, and no model was called until then`,
    problem?.nextStep ?? "Mend the script: its own traceback is above.",
    frame,
  );
}
