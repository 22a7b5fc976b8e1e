import path from "node:path";
import { findInterpreter } from "../capture/interpreter.js";
import type { Report } from "../protocol/report.js";
import type { InterpreterFacts, RunScriptParams } from "../protocol/scriptRequests.js";
import { UserError } from "../protocol/userError.js";
import type { ScriptOptions } from "../run/runScript.js";
import type { CacheChoice } from "../run/runScriptCached.js";
import { inEditorWords } from "./editorWords.js";
import { interpreterFacts } from "./interpreters.js";

export interface ScriptRunRequest extends Omit<RunScriptParams, "script" | "workDoneToken"> {
  /** Absolute. */
  readonly script: string;
  readonly storage: string;
  readonly env: NodeJS.ProcessEnv;
  readonly onProgress: (stage: string, fraction?: number) => void;
  readonly onInterpreter: (interpreter: InterpreterFacts) => void;
  readonly onOutput: (text: string) => void;
}

export type RunScript = (options: ScriptOptions, choice: CacheChoice) => Promise<Report>;

/**
 * Finds the interpreter, runs the script under the capture agent and gives the report, with next steps that name the
 * editor's settings and commands instead of the command line's options.
 * @throws UserError, RunnerFailure; the signal's reason when cancelled.
 */
export async function reportOfScript(
  request: ScriptRunRequest,
  parts: {
    readonly runScript: RunScript;
    readonly runnerEntry: string;
    readonly agentFolder: string;
  },
  signal: AbortSignal,
): Promise<Report> {
  const { script, args, cwd, given, folders, env, onProgress, onOutput } = request;
  try {
    onProgress("Finding Python", 0);
    const interpreter = await findInterpreter({ given, folders, env, signal });
    request.onInterpreter(interpreterFacts(interpreter));
    const { provider, timeoutSeconds, byteBudget, noCache = false } = request;
    const report = await parts.runScript(
      {
        target: { script },
        args,
        cwd,
        base: isBelow(cwd, script) ? cwd : path.dirname(script),
        interpreter,
        agentFolder: parts.agentFolder,
        runnerEntry: parts.runnerEntry,
        ...(provider && { provider }),
        ...(timeoutSeconds !== undefined && { timeoutMs: timeoutSeconds * 1000 }),
        ...(byteBudget !== undefined && { byteBudget: Math.round(byteBudget * 2 ** 20) }),
        onOutput: (_, text) => onOutput(text),
        onProgress,
        signal,
        command: commandOf(request),
      },
      { env, useCache: !noCache },
    );
    return { ...report, problems: report.problems.map(inEditorWords) };
  } catch (error) {
    if (error instanceof UserError) throw new UserError(error.problems.map(inEditorWords));
    throw error;
  }
}

/** The command that does the same in a terminal. */
function commandOf({
  script,
  args,
  given,
  provider,
  timeoutSeconds,
  byteBudget,
  noCache = false,
}: ScriptRunRequest): string[] {
  const python = given.find((one) => one.path.trim() !== "")?.path;
  return [
    ...["hstu-parity", "run"],
    ...(python === undefined ? [] : ["--python", python]),
    ...(provider ? ["--provider", provider] : []),
    ...(timeoutSeconds === undefined ? [] : ["--timeout", String(timeoutSeconds)]),
    ...(byteBudget === undefined ? [] : ["--byte-budget", String(byteBudget)]),
    ...(noCache ? ["--no-cache"] : []),
    script,
    ...args,
  ];
}

function isBelow(folder: string, file: string): boolean {
  const relative = path.relative(folder, file);
  return relative !== "" && !relative.startsWith("..") && !path.isAbsolute(relative);
}
