import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { userError } from "../protocol/userError.js";
import {
  ProbeFailure,
  probeInterpreter,
  pythonIn,
  type ProbedInterpreter,
  type ProbeOptions,
} from "./interpreterProbe.js";

export type InterpreterSource =
  "option" | "run file" | "setting" | "python extension" | "virtual environment" | ".venv" | "PATH";

/** The Python that runs the user's script, and what is installed there. */
export interface Interpreter extends ProbedInterpreter {
  /** What is started; `executable` is what it leads to. */
  readonly path: string;
  readonly source: InterpreterSource;
}

export interface FindInterpreterOptions {
  /** Those that somebody chose, the most important first; empty paths count as not chosen. The first one decides. */
  readonly given?: readonly { readonly path: string; readonly source: InterpreterSource }[];
  /** The script's folder, then the workspace's: `.venv` is looked for there and above, up to a repository's root. */
  readonly folders: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** Default: this machine's. */
  readonly platform?: NodeJS.Platform;
  /** Limit for one interpreter's answer. Default: 20,000. */
  readonly timeoutMs?: number;
}

export const supportedPython = { oldest: [3, 9], newest: [3, 13] } as const;

/**
 * Finds the interpreter: one that was chosen (option or run file, setting, Python extension), else the active virtual
 * environment, else a `.venv`, else conda's base environment, else `python3` or `python` on the PATH. A chosen one that
 * does not work is an error; one that was merely found and does not start is passed over.
 * @throws UserError "python-not-found", "python-does-not-start", "python-unsupported", "python-missing"
 */
export async function findInterpreter(options: FindInterpreterOptions): Promise<Interpreter> {
  const { folders, env, signal, platform = process.platform, timeoutMs } = options;
  const chosen = options.given?.find((one) => one.path.trim() !== "");
  const cwd = await firstFolder([...folders, os.tmpdir()]);
  const probing = { cwd, env, signal, ...(timeoutMs !== undefined && { timeoutMs }) };
  if (chosen) return supported(await givenInterpreter(chosen, probing, platform));

  const passedOver: string[] = [];
  let unsupported: Interpreter | undefined;
  for (const { file, source } of await interpreterCandidates(folders, env, platform)) {
    signal.throwIfAborted();
    if (!(await isProgram(file))) continue;
    try {
      const found: Interpreter = {
        path: file,
        source,
        ...(await probeInterpreter(file, probing)),
      };
      // An environment is a choice; what else lies on the PATH may still be new enough.
      if (source !== "PATH" || isSupported(found)) return supported(found);
      unsupported ??= found;
    } catch (error) {
      if (!(error instanceof ProbeFailure)) throw error;
      passedOver.push(`${file} ${error.message}`);
    }
  }
  if (unsupported) return supported(unsupported);
  throw userError(
    "python-missing",
    passedOver.length > 0
      ? `no Python works: ${passedOver.join("; ")}`
      : "no Python was found: no virtual environment is active, there is no .venv, and the PATH has neither python3 nor python",
    "Install Python 3.9 or newer, activate your environment, or name the interpreter that has torch.",
  );
}

async function givenInterpreter(
  { path: given, source }: { path: string; source: InterpreterSource },
  probing: ProbeOptions,
  platform: NodeJS.Platform,
): Promise<Interpreter> {
  const { env } = probing;
  const home = env["HOME"] ?? env["USERPROFILE"] ?? os.homedir();
  const named = given.trim().replace(/^~(?=$|[/\\])/, home);
  const isName = !/[/\\]/.test(named);
  const onPath = isName ? await firstProgram(programsNamed([named], env, platform)) : undefined;
  const absolute = onPath ?? path.resolve(probing.cwd, named);
  const there = await stat(absolute).catch(() => undefined);
  // An environment's folder stands for its interpreter.
  const file = there?.isDirectory() ? pythonIn(absolute, platform) : absolute;
  const where = `the interpreter ${file} (${wordsOfSource[source]})`;
  const next = `Correct it, or remove it: then the active environment, a .venv or python3 is taken.`;
  if (!(await stat(file).catch(() => undefined))?.isFile()) {
    throw userError("python-not-found", `${where} does not exist`, next);
  }
  try {
    return { path: file, source, ...(await probeInterpreter(file, probing)) };
  } catch (error) {
    if (!(error instanceof ProbeFailure)) throw error;
    throw userError("python-does-not-start", `${where} ${error.message}`, next);
  }
}

function supported(interpreter: Interpreter): Interpreter {
  if (isSupported(interpreter)) return interpreter;
  const { version, path: file, source } = interpreter;
  const [major, minor] = supportedPython.oldest;
  throw userError(
    "python-unsupported",
    `${file} (${wordsOfSource[source]}) is Python ${version}, and scripts can be watched from Python ${major}.${minor} on`,
    `Choose an interpreter with Python ${major}.${minor} to ${supportedPython.newest.join(".")}, or make an environment with one: python3.${supportedPython.newest[1]} -m venv .venv`,
  );
}

/** Newer ones than those that were tried are let through: `missingPackages` warns of them. */
function isSupported({ version }: ProbedInterpreter): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [oldestMajor, oldestMinor] = supportedPython.oldest;
  return major > oldestMajor || (major === oldestMajor && minor >= oldestMinor);
}

export interface InterpreterCandidate {
  readonly file: string;
  readonly source: InterpreterSource;
}

/** Where an interpreter may lie that nobody chose, the most important place first; many of these do not exist. */
export async function interpreterCandidates(
  folders: readonly string[],
  env: NodeJS.ProcessEnv,
  platform: NodeJS.Platform,
): Promise<InterpreterCandidate[]> {
  const active = env["VIRTUAL_ENV"];
  const conda = env["CONDA_PREFIX"];
  // Conda's base environment is active in every shell of many users, so it says less than a project's own .venv.
  const base = env["CONDA_DEFAULT_ENV"] === "base";
  const ofConda: InterpreterCandidate[] = conda
    ? [
        {
          file:
            platform === "win32" ? path.join(conda, "python.exe") : path.join(conda, "bin/python"),
          source: "virtual environment",
        },
      ]
    : [];
  const home = env["HOME"] ?? env["USERPROFILE"];
  const projects = await Promise.all(folders.map((folder) => upwards(folder, home)));
  return [
    ...(active
      ? [{ file: pythonIn(active, platform), source: "virtual environment" as const }]
      : []),
    ...(base ? [] : ofConda),
    ...[...new Set(projects.flat())].map((folder) => ({
      file: pythonIn(path.join(folder, ".venv"), platform),
      source: ".venv" as const,
    })),
    ...(base ? ofConda : []),
    ...programsNamed(["python3", "python"], env, platform).map((file) => ({
      file,
      source: "PATH" as const,
    })),
  ];
}

/** A folder and those above it, up to the first that is a repository's root, the user's home or the root. */
async function upwards(folder: string, home: string | undefined): Promise<string[]> {
  const all: string[] = [];
  for (let at = path.resolve(folder); ; at = path.dirname(at)) {
    all.push(at);
    if (at === path.dirname(at) || at === home) return all;
    if (await stat(path.join(at, ".git")).catch(() => undefined)) return all;
  }
}

/** All files that the names may stand for, the first name in all folders first. */
function programsNamed(
  names: readonly string[],
  env: NodeJS.ProcessEnv,
  platform: NodeJS.Platform,
): string[] {
  const windows = platform === "win32";
  const folders = (env["PATH"] ?? env["Path"] ?? "")
    .split(windows ? ";" : ":")
    .filter((folder) => path.isAbsolute(folder));
  return names.flatMap((name) =>
    folders.map((folder) =>
      path.join(folder, windows && !/\.exe$/i.test(name) ? `${name}.exe` : name),
    ),
  );
}

async function firstProgram(files: readonly string[]): Promise<string | undefined> {
  for (const file of files) if (await isProgram(file)) return file;
  return undefined;
}

async function isProgram(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return (await stat(file)).isFile();
  } catch {
    return false;
  }
}

async function firstFolder(folders: readonly string[]): Promise<string> {
  for (const folder of folders) {
    if ((await stat(folder).catch(() => undefined))?.isDirectory()) return path.resolve(folder);
  }
  return process.cwd();
}

/** How an interpreter was found, as it is said after its path. */
export const wordsOfSource: Readonly<Record<InterpreterSource, string>> = {
  option: "given on the command line",
  "run file": "given by the run file",
  setting: "from the settings",
  "python extension": "chosen in the Python extension",
  "virtual environment": "the active environment",
  ".venv": "found in the project",
  PATH: "found on the PATH",
};
