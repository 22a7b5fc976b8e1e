import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { findInterpreter, type Interpreter } from "../capture/interpreter.js";
import type { Problem, Report } from "../protocol/report.js";
import type { Provider } from "../protocol/runFile.js";
import { UserError } from "../protocol/userError.js";
import { runParity } from "../run/runParity.js";
import { writeOutputs } from "../run/finalOutputs.js";
import { writeRepros } from "../run/repro.js";
import type { ScriptOptions } from "../run/runScript.js";
import { requireScript } from "../run/captureCalls.js";
import { runScriptCached } from "../run/runScriptCached.js";
import { saveRunFile } from "../run/saveRunFile.js";
import { RunnerFailure } from "../runner/executor.js";
import type { Terminal } from "./commandLine.js";
import { exitCodeOfVerdict, exitCodes } from "./exitCodes.js";
import { formatReport } from "./formatText.js";
import { openReportTarget } from "./reportTarget.js";

export type LogLevel = "error" | "warn" | "info" | "debug";

export interface RunCommandOptions {
  /** Absolute. */
  readonly runFile?: string;
  /** Instead of a run file. */
  readonly script?: ScriptTarget;
  readonly reference?: string;
  readonly candidates?: readonly string[];
  readonly provider?: Provider;
  readonly timeoutMs?: number;
  /** The Python that runs scripts. */
  readonly python?: string;
  readonly useCache: boolean;
  /** Absolute; a folder for a script that shows each origin alone. */
  readonly repro?: string;
  /** Absolute; a folder for what was compared of the final outputs. */
  readonly outputs?: string;
  /** Absolute. */
  readonly report?: string;
  readonly format: "text" | "json";
  readonly logLevel: LogLevel;
  /** The command line, for the report. */
  readonly command: readonly string[];
}

export interface ScriptTarget {
  /** Absolute. */
  readonly script?: string;
  /** As after `python -m`. */
  readonly module?: string;
  readonly args: readonly string[];
  readonly byteBudget?: number;
  /** Absolute; where to write the run file that does the same again. */
  readonly saveAs?: string;
}

/** Runs a run file or a script: the result on stdout, progress and errors on stderr. Returns the exit code. */
export async function runCommand(options: RunCommandOptions, terminal: Terminal): Promise<number> {
  const cancel = cancelOnSignals(terminal);
  const progress = createProgress(terminal, options.logLevel);
  try {
    const target =
      options.report === undefined ? undefined : await openReportTarget(options.report);
    const { format } = options;
    const report = options.script
      ? await runTarget(options, options.script, terminal, progress, cancel.signal)
      : await runParity({
          ...common(options, terminal),
          ...keepsValues(options, terminal, terminal.cwd),
          runFile: options.runFile ?? "",
          ...(isInside(terminal.cwd, options.runFile ?? "") && { base: terminal.cwd }),
          scripts: {
            agentFolder: terminal.agentFolder,
            interpreterFor: (folder, given) =>
              interpreterFor(options, given, [folder, terminal.cwd], terminal, cancel.signal),
            onOutput: (_, text) => {
              progress.clear();
              if (options.logLevel !== "error") terminal.stderr.write(text);
            },
          },
          signal: cancel.signal,
          onProgress: progress.show,
        });
    cancel.signal.throwIfAborted();
    progress.clear();
    await target?.write(report);
    terminal.stdout.write(
      format === "json"
        ? `${JSON.stringify(report, undefined, 1)}\n`
        : formatReport(report, {
            width: Math.max(40, Math.min(terminal.stdout.columns ?? 80, 120)),
            colour: wantsColour(terminal),
            cwd: terminal.cwd,
          }),
    );
    return exitCodeOfVerdict[report.verdict];
  } catch (error) {
    progress.clear();
    // Ctrl+C reaches the runner child as well; its death may be seen before the signal is.
    if (error instanceof RunnerFailure && !cancel.signal.aborted) await delay(50);
    const { text, exitCode } = cancel.signal.aborted
      ? { text: "cancelled\n", exitCode: exitCodes.cancelled }
      : explain(error, terminal.cwd, options.logLevel === "debug");
    terminal.stderr.write(text);
    return exitCode;
  } finally {
    cancel.release();
  }
}

function common(
  { reference, candidates, provider, timeoutMs, command }: RunCommandOptions,
  { runnerEntry }: Terminal,
) {
  return {
    ...(reference !== undefined && { reference }),
    ...(candidates && { candidates }),
    ...(provider && { provider }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    command,
    runnerEntry,
  };
}

/** Sources are named relative to the terminal's folder, or to the script's where that is outside it. */
function keepsValues(
  { repro, outputs }: RunCommandOptions,
  { cwd, stderr }: Terminal,
  folder: string,
): Pick<ScriptOptions, "onCompared"> {
  if (repro === undefined && outputs === undefined) return {};
  return {
    onCompared: async ({ compared }) => {
      for (const { candidate, result } of outputs === undefined ? [] : compared) {
        await writeOutputs(outputs as string, candidate.id, result.outputs);
      }
      if (repro === undefined) return;
      const repros = compared.flatMap(({ result }) => result.repros());
      const written = await writeRepros(repro, isInside(cwd, folder) ? cwd : folder, repros);
      const where = path.relative(cwd, repro) || ".";
      stderr.write(
        written.length > 0
          ? written.map((name) => `wrote ${path.join(where, name, "repro.py")}\n`).join("")
          : "no origin could be written as a script: none has values of its own\n",
      );
    },
  };
}

async function runTarget(
  options: RunCommandOptions,
  { script, module = "", args, byteBudget, saveAs }: ScriptTarget,
  terminal: Terminal,
  progress: Progress,
  signal: AbortSignal,
): Promise<Report> {
  const { cwd, env, agentFolder, stdin, stderr } = terminal;
  if (script !== undefined) requireScript(script, shownFile(script, cwd));
  const folder = script === undefined ? cwd : path.dirname(script);
  const interpreter = await interpreterFor(options, undefined, [folder, cwd], terminal, signal);
  const target = script === undefined ? { module } : { script };
  try {
    const report = await runScriptCached(
      {
        ...common(options, terminal),
        ...keepsValues(options, terminal, folder),
        target,
        args,
        cwd,
        base: isInside(cwd, folder) || folder === cwd ? cwd : folder,
        interpreter,
        agentFolder,
        ...(byteBudget !== undefined && { byteBudget }),
        ...(stdin && { stdin }),
        onOutput: (_, text) => {
          progress.clear();
          if (options.logLevel !== "error") stderr.write(text);
        },
        signal,
        onProgress: progress.show,
      },
      { env, useCache: options.useCache },
    );
    if (saveAs !== undefined) {
      const chosen = options.python !== undefined && { interpreter: interpreter.path };
      await saveRunFile(report, { target, args, cwd, ...chosen }, saveAs);
    }
    return report;
  } finally {
    // A terminal that nobody reads any more must not keep the process alive.
    stdin?.destroy();
  }
}

/** The command line's choice goes before the run file's. */
function interpreterFor(
  { python }: Pick<RunCommandOptions, "python">,
  given: string | undefined,
  folders: readonly string[],
  { env }: Terminal,
  signal: AbortSignal,
): Promise<Interpreter> {
  return findInterpreter({
    given: [
      ...(python === undefined ? [] : [{ path: python, source: "option" as const }]),
      ...(given === undefined ? [] : [{ path: given, source: "run file" as const }]),
    ],
    folders,
    env,
    signal,
  });
}

/** What to say about an error, without a stack trace unless the engine itself is at fault and details are asked for. */
function explain(
  error: unknown,
  cwd: string,
  details: boolean,
): { text: string; exitCode: number } {
  if (error instanceof UserError) {
    return {
      text: error.problems.map((problem) => problemText(problem, cwd)).join(""),
      exitCode: exitCodes.wrongRequest,
    };
  }
  if (error instanceof RunnerFailure) {
    const words = error.lastWords === "" ? [] : error.lastWords.split("\n");
    const shown = details ? words : words.slice(-8);
    const said =
      shown.length > 0 ? `  its last words:\n${shown.map((line) => `    ${line}\n`).join("")}` : "";
    return {
      text: `hstu-parity: ${error.message}\n${said}  ${error.nextStep}\n`,
      exitCode: exitCodes.engineFailure,
    };
  }
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  return {
    text: `hstu-parity: the engine failed: ${message}\n${
      details && stack !== undefined
        ? `${stack}\n`
        : "  This is a fault of the tool: report it with the output of --log-level debug.\n"
    }`,
    exitCode: exitCodes.engineFailure,
  };
}

/** "file:line:column: message", which terminals and editors make a link of, and the next step below it. */
function problemText({ message, nextStep, site, severity }: Problem, cwd: string): string {
  const place = site
    ? `${shownFile(site.file, cwd)}:${site.line}:${site.column ?? 1}`
    : "hstu-parity";
  const level = severity === "error" ? "" : `${severity}: `;
  return `${place}: ${level}${message}\n${nextStep === "" ? "" : `  ${nextStep}\n`}`;
}

function shownFile(file: string, cwd: string): string {
  return path.isAbsolute(file) && isInside(cwd, file) ? path.relative(cwd, file) : file;
}

function isInside(folder: string, file: string): boolean {
  const relative = path.relative(folder, file);
  return relative !== "" && !relative.startsWith("..") && !path.isAbsolute(relative);
}

/** The first signal ends the run in good order, the second ends the process. */
function cancelOnSignals({ stdout, stderr }: Terminal): { signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  const onSignal = (): void => {
    // Leaving by `exit` still ends the runner and removes its folder.
    if (controller.signal.aborted) process.exit(exitCodes.cancelled);
    controller.abort(new Error("cancelled"));
  };
  // A terminal that is closed says so; whoever runs without one, under nohup, wants to go on then.
  const hasTerminal = stdout.isTTY === true || stderr.isTTY === true;
  const names = ["SIGINT", "SIGTERM", ...(hasTerminal ? (["SIGHUP"] as const) : [])] as const;
  for (const name of names) process.on(name, onSignal);
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.off(name, onSignal);
    },
  };
}

interface Progress {
  readonly show: (stage: string, fraction?: number) => void;
  readonly clear: () => void;
}

/** One line that is written over on a terminal; one line for each stage in a log that asks for them. */
function createProgress({ stderr }: Terminal, level: LogLevel): Progress {
  const onTerminal = stderr.isTTY === true && level !== "error";
  const inLog = !onTerminal && (level === "info" || level === "debug");
  let shown = false;
  return {
    show: (stage, fraction) => {
      const percent = fraction === undefined ? "" : ` (${Math.round(100 * fraction)} %)`;
      if (onTerminal) stderr.write(`\r\x1b[2K${stage}${percent}`);
      else if (inLog) stderr.write(`${stage}${percent}\n`);
      shown = onTerminal;
    },
    clear: () => {
      if (shown) stderr.write("\r\x1b[2K");
      shown = false;
    },
  };
}

/** Colours only on a terminal, unless the environment says otherwise (no-color.org, force-color.org). */
function wantsColour({ env, stdout }: Terminal): boolean {
  if ((env["NO_COLOR"] ?? "") !== "") return false;
  if ((env["FORCE_COLOR"] ?? "") !== "") return env["FORCE_COLOR"] !== "0";
  return stdout.isTTY === true && env["TERM"] !== "dumb";
}
