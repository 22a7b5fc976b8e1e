import type { Problem } from "./report.js";
import type { Provider } from "./runFile.js";

/** What travels between the extension and the engine about Python scripts. The result of a run is a `RunResult`. */

/** Request: run a Python script under the capture agent. Progress and cancelling as for a run file. */
export const runScriptRequest = "hstuParity/runScript";
export interface RunScriptParams extends InterpreterWish {
  /** URI of the script, saved. */
  script: string;
  args: string[];
  /** Absolute; where the script starts, and what the report's file names are relative to if the script lies below it. */
  cwd: string;
  noCache?: boolean;
  /** Runs ONNX models; absent: the CPU. */
  provider?: Provider;
  /** Limit for the script as a whole and for one evaluation; absent: 600 and 120. */
  timeoutSeconds?: number;
  /** MiB of tensors after which floats are kept as statistics and samples. */
  byteBudget?: number;
  workDoneToken?: string | number;
}

/** How an interpreter is to be found. */
export interface InterpreterWish {
  /** Those that somebody chose, the most important first. */
  given: GivenInterpreter[];
  /** Absolute; `.venv` is looked for there and above. */
  folders: string[];
}

export interface GivenInterpreter {
  path: string;
  source: "setting" | "python extension";
}

/** Notification, engine → extension: the interpreter that the script under way is run with. */
export const interpreterFound = "hstuParity/interpreterFound";
export interface InterpreterFoundParams {
  /** URI of the script. */
  script: string;
  interpreter: InterpreterFacts;
}

export interface InterpreterFacts {
  /** Absolute; what is started. */
  path: string;
  /** "3.11.7" */
  version: string;
  /** How it was found, in words: "from the settings". */
  found: string;
  packages: InterpreterPackage[];
}

export interface InterpreterPackage {
  /** As it is imported. */
  name: string;
  /** Absent when it is not installed. */
  version?: string;
  /** The command that installs it; only where it is not installed. */
  install?: string;
}

/** Notification, engine → extension: what the script under way printed. */
export const scriptPrinted = "hstuParity/scriptPrinted";
export interface ScriptPrintedParams {
  /** URI of the script. */
  script: string;
  text: string;
}

/** Request: write down what the last run of a script compared, as a run file that does the same again. */
export const saveRunFileRequest = "hstuParity/saveRunFile";
export interface SaveRunFileParams {
  /** URI of the run file to make. */
  file: string;
}
/** What is wrong, when it was not written. */
export interface SaveRunFileResult {
  problems: Problem[];
}

/** Request: the interpreters that can be chosen, the one that is taken without a choice first. */
export const interpretersRequest = "hstuParity/interpreters";
export type InterpretersParams = InterpreterWish;
export interface InterpretersResult {
  interpreters: InterpreterFacts[];
  /** What is wrong with those that were chosen and do not work. */
  problems: Problem[];
}
