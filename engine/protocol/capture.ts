import type { WireNumber } from "./wire.js";

/**
 * `capture.json`: what one run of a script under the capture agent left behind. It lies beside the traces and is
 * written again after every change, so that a script that is killed leaves what was captured until then.
 */
export interface CaptureIndex {
  formatVersion: 1;
  /** As it was named on the command line: a file, or a module after `-m`. */
  script: string;
  args: string[];
  /** Absolute; where the script started. */
  cwd: string;
  /** Null while the script runs, and for ever when it was killed. */
  exitCode: number | null;
  /** The exception that ended the script. Its traceback went to stderr as always. */
  error?: CapturedError;
  traces: CapturedTrace[];
  /** Calls that were not recorded because there were too many traces, by framework. */
  skipped?: Record<string, number>;
  versions: Record<string, string>;
  /** For example "cuda on cpu". */
  emulated: string[];
  /** Operations that brought results of two recorded calls together: the script's own checks, most of all. */
  comparisons: CapturedComparison[];
  /** Absolute names of all source files outside the libraries that were run or imported, the script first. */
  sources: string[];
  /** Absolute names of all other files outside the libraries that the script opened for reading. */
  opened: string[];
  /** Absolute names of the folders outside the libraries that the script listed; a new file there may change the run. */
  listed?: string[];
  /** Absolute names of files that the script tried to read and that were not there when it ended. */
  absent?: string[];
  /** Names of the environment variables that Python code read. */
  environment: string[];
  randomness: {
    /** Whether random numbers were drawn from a generator that was not seeded before: "random", "numpy", "torch". */
    unseeded: string[];
    /** Where the script seeded, for the report. */
    seeded: string[];
  };
  /** Processes that the script started; what they compute is not seen. */
  childProcesses: number;
  /** Why something was not observed or not written, in words for the user: a version that is not known, a full disk. */
  problems?: string[];
}

export interface CapturedError {
  type: string;
  message: string;
  /** User frames, innermost first. */
  frames: CapturedFrame[];
}

export interface CapturedFrame {
  /** Absolute. */
  file: string;
  line: number;
  function: string;
}

export interface CapturedTrace {
  /** The trace's file, relative to this one. */
  file: string;
  framework: "torch" | "tripy";
  /** The class of the module, or the name of the function. */
  label: string;
  /**
   * - `module`: the outermost call of a torch module. `function`: one of a user's function that called no module, or layers of torch's own only.
   * - `compile`: a program made by `tp.compile`. `eval`: one that was evaluated eagerly. `loaded`: an executable that
   *   the script loaded from a file.
   */
  kind: "module" | "function" | "compile" | "eval" | "loaded";
  /** Position among all traces by the time of the first call, from 0. */
  order: number;
  /** The same number for calls of the same module object or function, among those of one framework. */
  object?: number;
  /** The call raised: the trace ends there. */
  incomplete?: boolean;
  /** Calls of this object with inputs of these shapes and types that this trace stands for, the recorded one among them. */
  calls: number;
  /** How many of `calls` had other values, in inputs or parameters: those there was no room to record. */
  otherValues?: number;
  /** The largest relL2 between results of two calls on equal inputs and parameters; absent when they were equal. */
  differing?: WireNumber;
  /** The first runs of a Tripy program on different inputs, in order (`calls` counts all); safetensors files relative to this one, keyed by the trace's ports. */
  executions?: { inputs: string; outputs?: string; error?: string }[];
  /** The file that the executable was loaded from, and where the script did that. */
  loadedFrom?: { file: string; frame?: CapturedFrame };
  /** Tensors kept as statistics and row samples only, because the byte budget was spent, and the bytes that this saved. */
  reduced?: { tensors: number; bytes: number };
}

export interface CapturedComparison {
  /** The files of the two traces, in the order of the operation's arguments. */
  traces: [string, string];
  /** The operation, in the framework's words: "torch.allclose". */
  op: string;
  frame?: CapturedFrame;
}
