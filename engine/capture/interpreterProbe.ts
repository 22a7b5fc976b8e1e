import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import path from "node:path";

/** What one interpreter says about itself, without importing any of the packages. */
export interface ProbedInterpreter {
  /** "3.11.7" */
  readonly version: string;
  /** `sys.executable`: what a shim or a link leads to. */
  readonly executable: string;
  readonly prefix: string;
  /** `sys.path` as a script finds it, without the script's own folder. */
  readonly searchPath: readonly string[];
  /** Installed versions by import name; "unknown" where a package can be imported but tells no version. */
  readonly packages: Readonly<Record<string, string>>;
  /** "12.4" where the installed torch was built for CUDA. */
  readonly cudaBuild?: string;
  /** Which command installs packages there. `venv`: the system forbids it, so an environment must be made first. */
  readonly installer: "pip" | "uv" | "ensurepip" | "venv";
}

export interface ProbeOptions {
  /** Version managers choose by the folder that they are called in. */
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** Default: 20,000. */
  readonly timeoutMs?: number;
}

/** An interpreter that could not be asked. The message completes "the interpreter …": "does not start: …". */
export class ProbeFailure extends Error {}

/**
 * Asks an interpreter for its version and packages: one start of Python, remembered for as long as its file and the
 * folders that it finds packages in stay as they are.
 * @throws ProbeFailure
 */
export async function probeInterpreter(
  file: string,
  options: ProbeOptions,
): Promise<ProbedInterpreter> {
  options.signal.throwIfAborted();
  const key = await identity(file, options);
  const known = remembered.get(key);
  if (known && (await stamps(known.probed.searchPath)) === known.stamps) return known.probed;
  const probed = await ask(file, options);
  remembered.set(key, { probed, stamps: await stamps(probed.searchPath) });
  return probed;
}

const remembered = new Map<string, { probed: ProbedInterpreter; stamps: string }>();

async function identity(file: string, { cwd, env }: ProbeOptions): Promise<string> {
  const there = await stat(file).catch(() => undefined);
  const variables = Object.entries(env)
    .filter(([name]) => /^(PYTHON|PYENV|CONDA|VIRTUAL_ENV|HOME$)/.test(name))
    .sort();
  return JSON.stringify([file, there?.mtimeMs, there?.size, there?.ino, cwd, variables]);
}

/** Installing or removing a package changes the time of its folder. */
async function stamps(folders: readonly string[]): Promise<string> {
  const all = folders.map((folder) => stat(folder).catch(() => undefined));
  return (await Promise.all(all)).map((there) => there?.mtimeMs ?? "-").join();
}

function ask(file: string, options: ProbeOptions): Promise<ProbedInterpreter> {
  const { cwd, env, signal, timeoutMs = 20_000 } = options;
  return new Promise((resolve, reject) => {
    const child = execFile(
      file,
      ["-c", probe],
      {
        cwd,
        env,
        signal,
        timeout: timeoutMs,
        killSignal: "SIGKILL",
        windowsHide: true,
        maxBuffer: 1 << 24,
      },
      (error, stdout, stderr) => {
        if (signal.aborted) return reject(signal.reason as Error);
        // What a start-up file of the user's prints stands before the answer.
        const answer = stdout.slice(stdout.lastIndexOf(marker) + marker.length);
        if (!error && stdout.includes(marker)) {
          try {
            return resolve(JSON.parse(answer) as ProbedInterpreter);
          } catch {
            return reject(new ProbeFailure("answers with something else than Python does"));
          }
        }
        reject(new ProbeFailure(reasonOf(error, stderr, timeoutMs)));
      },
    );
    child.stdin?.end();
  });
}

function reasonOf(
  error: (Error & { code?: unknown; killed?: boolean }) | null,
  stderr: string,
  timeoutMs: number,
): string {
  if (error?.killed === true) return `does not answer within ${timeoutMs / 1000} s`;
  const last = stderr.trim().split("\n").at(-1) ?? "";
  const why = last !== "" ? last : typeof error?.code === "string" ? error.code : undefined;
  if (typeof error?.code === "string") {
    const known = { EACCES: "it may not be executed", ENOENT: "its own loader is missing" }[
      error.code
    ];
    return `does not start: ${known ?? why ?? error.message}`;
  }
  if (error) return `does not start: ${why ?? `it ends with exit code ${String(error.code)}`}`;
  return "does not answer as Python does";
}

/** Folder names of a virtual environment, by platform. */
export function pythonIn(folder: string, platform: NodeJS.Platform): string {
  return platform === "win32"
    ? path.join(folder, "Scripts", "python.exe")
    : path.join(folder, "bin", "python");
}

const marker = "hstu-parity-interpreter:";

/**
 * Every Python from 2.7 on can read this, so that an old one can say how old it is. Distributions are read off the
 * names of their `.dist-info` folders: importlib.metadata alone would take longer than all the rest.
 */
const probe = `
import sys
if sys.path and sys.path[0] == "":
    del sys.path[0]
import json, os, re
found = {"version": "%d.%d.%d" % sys.version_info[:3], "executable": sys.executable or "", "prefix": sys.prefix}
found["searchPath"] = [os.path.abspath(p) for p in sys.path]
found["packages"] = {}
found["installer"] = "pip"
if sys.version_info >= (3, 6):
    from importlib.util import find_spec
    installed = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            m = re.match(r"(.+?)-(\\d[^-]*)(?:-py[\\d.]+)?\\.(?:dist|egg)-info$", name)
            if m:
                installed.setdefault(re.sub(r"[-_.]+", "-", m.group(1)).lower(), m.group(2))
    wanted = {
        "torch": r"torch", "fbgemm_gpu": r"fbgemm-gpu(-.+)?", "nvtripy": r"nvtripy", "numpy": r"numpy",
        "tensorrt": r"tensorrt(-cu\\d+)?", "mlir_tensorrt": r"mlir-tensorrt-(compiler|runtime)",
        "cupy": r"cupy(-.+)?", "colored": r"colored", "triton": r"(pytorch-)?triton(-.+)?", "torchrec": r"torchrec(-.+)?",
        "onnx": r"onnx", "pytest": r"pytest", "pip": r"pip",
    }
    for name, pattern in wanted.items():
        try:
            spec = find_spec(name)
        except Exception:
            spec = None
        if spec is None:
            continue
        version = next((v for d, v in sorted(installed.items()) if re.match(pattern + "$", d)), None)
        # A folder that only bears the name is no package.
        if spec.origin is None and version is None:
            continue
        text = ""
        if name == "torch" and spec.origin:
            try:
                with open(os.path.join(os.path.dirname(spec.origin), "version.py")) as f:
                    text = f.read()
            except (OSError, UnicodeDecodeError):
                pass
            m = re.search(r"^__version__ *= *['\\"]([^'\\"]+)", text, re.M)
            version = m.group(1) if m else version
            m = re.search(r"^cuda\\b[^=\\n]*= *['\\"]([^'\\"]+)", text, re.M)
            if m:
                found["cudaBuild"] = m.group(1)
        found["packages"][name] = version or "unknown"
    try:
        with open(os.path.join(sys.prefix, "pyvenv.cfg")) as f:
            by_uv = re.search(r"^uv *=", f.read(), re.M) is not None
    except (OSError, UnicodeDecodeError):
        by_uv = False
    managed = os.path.exists(os.path.join(os.path.dirname(os.__file__), "EXTERNALLY-MANAGED"))
    if sys.prefix == sys.base_prefix and managed:
        found["installer"] = "venv"
    elif "pip" not in found["packages"]:
        found["installer"] = "uv" if by_uv else "ensurepip"
sys.stdout.write("\\n${marker}" + json.dumps(found))
`;
