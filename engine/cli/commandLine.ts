import path from "node:path";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import type { Provider } from "../protocol/runFile.js";
import { toolVersion } from "../run/runParity.js";
import { addCacheCommand } from "./cacheCommand.js";
import { exitCodes } from "./exitCodes.js";
import { runCommand, type LogLevel, type RunCommandOptions } from "./runCommand.js";

/** What the command line needs of the process that it runs in. */
export interface Terminal {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: TerminalStream;
  readonly stderr: TerminalStream;
  /** The bundled runner child. */
  readonly runnerEntry: string;
}

export interface TerminalStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Understands the arguments, runs the command and returns the process's exit code. Never throws for a wrong request. */
export async function runCommandLine(args: readonly string[], terminal: Terminal): Promise<number> {
  let exitCode: number = exitCodes.success;
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
    .description("compare the implementations that a run file names")
    .usage("[options] FILE.parity.json")
    .helpOption("-h, --help", "print this help")
    .argument("[file]", "the run file, FILE.parity.json")
    .argument("[rest...]")
    .configureHelp({ visibleArguments: (command) => command.registeredArguments.slice(0, 1) })
    .option("--reference <id>", "take this implementation as the reference")
    .option("--candidate <id>", "compare only this one (repeatable)", collect)
    .addOption(
      new Option("--provider <name>", "run ONNX models on this instead of the run file's").choices(
        providers,
      ),
    )
    .option("--timeout <seconds>", "limit for one evaluation", positiveNumber, 120)
    .option("--report <path>", "also write the whole report there, as JSON")
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
    .addOption(new Option("-m <module>").hideHelp())
    // Everything after a script is the script's own.
    .passThroughOptions(args.some(isScript))
    .addHelpText("after", afterRunHelp)
    .exitOverride()
    .action(async (file: string | undefined, rest: string[], given: GivenOptions) => {
      const options = wantedRun(file, rest, given, terminal, ["hstu-parity", ...args]);
      if (typeof options === "string") {
        terminal.stderr.write(options);
        exitCode = exitCodes.wrongRequest;
      } else exitCode = await runCommand(options, terminal);
    });
  addCacheCommand(program, terminal, (code) => (exitCode = code));
  // Everything after a module is the module's own.
  const moduleAt = args.indexOf("-m");
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
  readonly timeout: number;
  readonly report?: string;
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
  if (given.m !== undefined || (file !== undefined && isScript(file))) {
    const what = given.m === undefined ? file : `-m ${given.m}`;
    return refusal(
      `${what}: a Python script cannot be run yet`,
      "Record its traces or export its models, name them in a run file, and run that: hstu-parity run FILE.parity.json",
    );
  }
  if (file === undefined) {
    return refusal("a run file is missing", "Name one: hstu-parity run FILE.parity.json");
  }
  if (rest.length > 0) {
    return refusal(
      `one run file at a time, but there are ${rest.length + 1}: ${[file, ...rest].join(" ")}`,
      "Run each by a command of its own.",
    );
  }
  return {
    runFile: path.resolve(cwd, file),
    ...(given.reference !== undefined && { reference: given.reference }),
    ...(given.candidate && { candidates: given.candidate }),
    ...(given.provider && { provider: given.provider }),
    timeoutMs: given.timeout * 1000,
    ...(given.report !== undefined && { report: path.resolve(cwd, given.report) }),
    format: given.format,
    logLevel: given.logLevel,
    command,
  };
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

"hstu-parity run --help" has all options and more examples.`;

const afterRunHelp = `
Examples:
  $ hstu-parity run port.parity.json
      compares all candidates with the reference and prints what differs
  $ hstu-parity run --candidate tripy --report out.json port.parity.json
      compares one candidate and keeps the whole report
  $ hstu-parity run --format json port.parity.json > out.json
      for other programs: stdout has the report and nothing else

Exit codes:
  0  pass, or pass with warnings      3  unknown: too little could be compared
  1  fail: the candidate differs      4  the engine failed, or ran out of time
  2  the request is wrong           130  cancelled`;
