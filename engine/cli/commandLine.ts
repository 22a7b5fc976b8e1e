import path from "node:path";
import type { Readable } from "node:stream";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import type { Provider } from "../protocol/runFile.js";
import { toolVersion } from "../run/assembleReport.js";
import { addCacheCommand } from "./cacheCommand.js";
import { exitCodes } from "./exitCodes.js";
import { runCommand, type LogLevel, type RunCommandOptions } from "./runCommand.js";

/** What the command line needs of the process that it runs in. */
export interface Terminal {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: TerminalStream;
  readonly stderr: TerminalStream;
  readonly stdin?: Readable;
  /** The bundled runner child. */
  readonly runnerEntry: string;
  /** Folder that holds the Python package of the capture agent. */
  readonly agentFolder: string;
}

export interface TerminalStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Understands the arguments, runs the command and returns the process's exit code. Never throws for a wrong request. */
export async function runCommandLine(args: readonly string[], terminal: Terminal): Promise<number> {
  let exitCode: number = exitCodes.success;
  const moduleAt = moduleOption(args);
  const program = new Command("hstu-parity")
    .description("Finds the line that makes a port of a model differ from its reference.")
    .version(toolVersion, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand(false)
    .enablePositionalOptions()
    .addHelpText("after", afterHelp)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
      getOutHelpWidth: () => Math.min(terminal.stdout.columns ?? 80, 100),
      getErrHelpWidth: () => Math.min(terminal.stderr.columns ?? 80, 100),
    });
  program
    .command("run")
    .description("compare the implementations that a script calls or a run file names")
    .usage("[options] <run file | script.py | -m module> [args…]")
    .helpOption("-h, --help", "print this help")
    .argument("[file]", "a run file, or a Python script; what follows a script is its own")
    .argument("[rest...]")
    .configureHelp({ visibleArguments: (command) => command.registeredArguments.slice(0, 1) })
    .option("--reference <id>", "take this implementation as the reference")
    .option("--candidate <id>", "compare only this one (repeatable)", collect)
    .addOption(
      new Option("--provider <name>", "run ONNX models on this instead of the run file's").choices(
        providers,
      ),
    )
    .option("--python <path>", "run the script with this Python")
    .option(
      "--timeout <seconds>",
      "limit for a script and for one evaluation (default: 600 and 120)",
      positiveNumber,
    )
    .option(
      "--byte-budget <mebibytes>",
      "keep floats beyond this as statistics and samples (default: 4096)",
      positiveNumber,
    )
    .option(
      "--repro <folder>",
      "write a script there for each origin that shows it alone: inputs and both results as files",
    )
    .option("--no-cache", "run the script although nothing has changed")
    .option("--report <path>", "also write the whole report there, as JSON")
    .option("--outputs <folder>", "also write what was compared of the final outputs, as .npy")
    .option(
      "--save-run-file <path>",
      "write down what was compared of a script, to run it so again",
    )
    .addOption(
      new Option("--format <format>", "what to print on stdout")
        .choices(["text", "json"])
        .default("text"),
    )
    .addOption(
      new Option("--log-level <level>", "how much to say on stderr")
        .choices(["error", "warn", "info", "debug"])
        .default("warn"),
    )
    .addOption(new Option("-m <module>", "run a module, as python -m does"))
    // Everything after a script is the script's own.
    .passThroughOptions(args.some(isScript))
    .addHelpText("after", afterRunHelp)
    .exitOverride()
    .action(async (file: string | undefined, rest: string[], given: GivenOptions) => {
      const options = wantedRun(
        file,
        moduleAt < 0 ? rest : args.slice(moduleAt + 2),
        given,
        terminal,
        ["hstu-parity", ...args],
      );
      if (typeof options === "string") {
        terminal.stderr.write(options);
        exitCode = exitCodes.wrongRequest;
      } else exitCode = await runCommand(options, terminal);
    });
  addCacheCommand(program, terminal, (code) => (exitCode = code));
  // Everything after a module is the module's own.
  const own = moduleAt < 0 ? args : args.slice(0, moduleAt + 2);
  try {
    await program.parseAsync([...own], { from: "user" });
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? exitCodes.success : exitCodes.wrongRequest;
  }
}

interface GivenOptions {
  readonly reference?: string;
  readonly candidate?: string[];
  readonly provider?: Provider;
  readonly timeout?: number;
  readonly python?: string;
  readonly byteBudget?: number;
  readonly cache: boolean;
  readonly report?: string;
  readonly saveRunFile?: string;
  readonly repro?: string;
  readonly outputs?: string;
  readonly format: "text" | "json";
  readonly logLevel: LogLevel;
  readonly m?: string;
}

/** The run that is wanted, or what to say when the request makes no sense. */
function wantedRun(
  file: string | undefined,
  rest: readonly string[],
  given: GivenOptions,
  { cwd }: Terminal,
  command: readonly string[],
): RunCommandOptions | string {
  const common = {
    ...(given.reference !== undefined && { reference: given.reference }),
    ...(given.candidate && { candidates: given.candidate }),
    ...(given.provider && { provider: given.provider }),
    ...(given.timeout !== undefined && { timeoutMs: given.timeout * 1000 }),
    ...(given.report !== undefined && { report: path.resolve(cwd, given.report) }),
    ...(given.python !== undefined && { python: interpreterAt(given.python, cwd) }),
    ...(given.repro !== undefined && { repro: path.resolve(cwd, given.repro) }),
    ...(given.outputs !== undefined && { outputs: path.resolve(cwd, given.outputs) }),
    useCache: given.cache,
    format: given.format,
    logLevel: given.logLevel,
    command,
  };
  const script = {
    args: rest,
    ...(given.saveRunFile !== undefined && { saveAs: path.resolve(cwd, given.saveRunFile) }),
    ...(given.byteBudget !== undefined && { byteBudget: given.byteBudget * 2 ** 20 }),
  };
  if (given.m !== undefined) return { ...common, script: { ...script, module: given.m } };
  if (file === undefined) {
    return refusal(
      "a run file or a script is missing",
      "Name one: hstu-parity run FILE.parity.json, or hstu-parity run script.py",
    );
  }
  const absolute = path.resolve(cwd, file);
  if (isScript(file)) return { ...common, script: { ...script, script: absolute } };
  if (rest.length > 0) {
    return refusal(
      `one run file at a time, but there are ${rest.length + 1}: ${[file, ...rest].join(" ")}`,
      "Run each by a command of its own.",
    );
  }
  if (given.saveRunFile !== undefined) {
    return refusal(
      "--save-run-file writes down how a script is compared, and this is a run file already",
      "Name a script, or copy the run file.",
    );
  }
  return { ...common, runFile: absolute };
}

/** Where `-m` stands as our own option: before any script, which has the rest to itself. */
function moduleOption(args: readonly string[]): number {
  const at = args.indexOf("-m");
  const script = args.findIndex(isScript);
  return script >= 0 && script < at ? -1 : at;
}

/** A name is looked up on the PATH; a path is relative to the terminal's folder. */
function interpreterAt(given: string, cwd: string): string {
  return /[/\\]/.test(given) && !given.startsWith("~") ? path.resolve(cwd, given) : given;
}

function refusal(message: string, nextStep: string): string {
  return `hstu-parity: ${message}\n  ${nextStep}\n`;
}

function isScript(arg: string): boolean {
  return /\.pyw?$/.test(arg);
}

function collect(id: string, before: string[] | undefined): string[] {
  return [...(before ?? []), id];
}

function positiveNumber(text: string): number {
  const value = Number(text);
  // Timers count milliseconds in 31 bits: about 24 days.
  if (text.trim() === "" || !(value > 0) || value > 2_000_000) {
    throw new InvalidArgumentError("It must be a number of seconds above 0, at most 2000000.");
  }
  return value;
}

const providers: readonly Provider[] = ["auto", "tensorrt", "cuda", "webgpu", "cpu"];

const afterHelp = `
Example:
  $ hstu-parity run samples/hstu/silent-bug.parity.json
  $ hstu-parity run samples/hstu/tripy_hstu_example.py --config tiny

"hstu-parity run --help" has all options and more examples.`;

const afterRunHelp = `
Examples:
  $ hstu-parity run port.parity.json
      compares all candidates with the reference and prints what differs
  $ hstu-parity run --candidate tripy --report out.json port.parity.json
      compares one candidate and keeps the whole report
  $ hstu-parity run --format json port.parity.json > out.json
      for other programs: stdout has the report and nothing else
  $ hstu-parity run --timeout 60 compare.py --batch 4
      runs your script and compares what it called on the same inputs

Exit codes:
  0  pass, or pass with warnings      3  unknown: too little could be compared
  1  fail: the candidate differs      4  the engine failed, or ran out of time
  2  the request is wrong           130  cancelled`;
