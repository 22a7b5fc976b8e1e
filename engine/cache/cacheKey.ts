import { realpath, stat } from "node:fs/promises";
import type { Interpreter } from "../capture/interpreter.js";
import {
  forAll,
  hashFile,
  hashPythonFiles,
  hashValue,
  packageFolderState,
} from "./fingerprints.js";

/** All that is known of a run before Python starts. Paths are absolute. */
export interface CacheRequest {
  /** Which program: a file, or a module after `-m`. */
  readonly program: { readonly script: string } | { readonly module: string };
  readonly args: readonly string[];
  readonly cwd: string;
  readonly interpreter: Interpreter;
  readonly tool: {
    readonly version: string;
    /** The bundles that do the work; their content counts. */
    readonly files: readonly string[];
  };
  /** Folder of the Python package that watches; the content of its files counts. */
  readonly agentFolder: string;
  /** Everything else that was asked for: provider, reference, candidates, emulation, byte budget, the run file's text. */
  readonly options: Readonly<Record<string, unknown>>;
  /** The devices of this machine, as the report names them. */
  readonly devices: readonly string[];
  /** The environment that the script starts with. */
  readonly env: NodeJS.ProcessEnv;
}

/** Changes whenever entries of an earlier version of this tool must not be understood any more. */
export const cacheFormatVersion = 1;

/**
 * The first of two keys: equal for runs that start the same program in the same way. What the program then read is
 * known only after a run, and stands in the entries below this key.
 * @throws when the interpreter, the tool or the agent cannot be read.
 */
export async function keyOf(request: CacheRequest, signal: AbortSignal): Promise<string> {
  const { program, args, cwd, interpreter, tool, agentFolder, options, devices, env } = request;
  const binary = await realpath(interpreter.executable || interpreter.path);
  const { size, mtimeMs, ino } = await stat(binary);
  signal.throwIfAborted();
  const [agent, toolFiles, folders, realCwd] = await Promise.all([
    hashPythonFiles(agentFolder, signal),
    forAll(tool.files, (file) => hashFile(file, signal)),
    forAll(interpreter.searchPath, packageFolderState),
    realpath(cwd),
  ]);
  return hashValue({
    formatVersion: cacheFormatVersion,
    program,
    args,
    cwd,
    realCwd,
    interpreter: [interpreter.path, binary, interpreter.version, size, mtimeMs, ino],
    prefix: interpreter.prefix,
    packages: interpreter.packages,
    searchPath: interpreter.searchPath,
    folders,
    tool: tool.version,
    toolFiles,
    agent,
    options,
    devices,
    environment: Object.entries(env)
      .filter(([name, value]) => value !== undefined && alwaysMatters(name))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  });
}

/**
 * Variables that change results without Python code reading them: Python's own, those of torch, CUDA and the libraries
 * that compute (threads, kernels, TF32), of the loader of shared libraries, and the locale and time zone, which decide
 * how text files and dates are read. All others count only for scripts that read them.
 */
export function alwaysMatters(name: string): boolean {
  return always.test(process.platform === "win32" ? name.toUpperCase() : name);
}

const always = new RegExp(
  `^(?:(?:${[
    ...["PYTHON", "HSTU", "TRIPY", "NVTRIPY", "MTRT", "TRT", "TENSORRT", "TRITON", "FBGEMM", "ORT"],
    ...["TORCH", "PYTORCH", "ATEN", "C10", "CUDA", "CUBLAS", "CUDNN", "CUSPARSE", "NVIDIA", "NCCL"],
    ...["OMP", "GOMP", "KMP", "MKL", "OPENBLAS", "GOTO", "BLIS", "VECLIB", "DNNL", "ONEDNN", "LC"],
  ].join("|")}).*|LANG|LANGUAGE|TZ|LD_LIBRARY_PATH|LD_PRELOAD|DYLD_.*)$`,
);
