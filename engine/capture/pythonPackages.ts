import type { CapturedError } from "../protocol/capture.js";
import type { Problem, Site } from "../protocol/report.js";
import { supportedPython, type Interpreter } from "./interpreter.js";

/** The newest version that the stand-ins for NVIDIA's backend were tried with, and the series that they are written against. */
const nvtripy = { version: "0.1.7", series: /^0\.1(\.|$)/, oldestPython: 10 } as const;

/**
 * What an interpreter lacks for a script that is known to need torch or nvtripy; empty when nothing does. Errors say
 * that the script cannot run there, warnings that it may run and was not tried.
 */
export function missingPackages(
  interpreter: Interpreter,
  needs: readonly ("torch" | "nvtripy")[],
): Problem[] {
  const { packages, version, path } = interpreter;
  const problems: Problem[] = needs
    .filter((name) => packages[name] === undefined)
    .map((name) => missing(name, interpreter));
  // Torch and nvtripy start without numpy; nothing that hands values from one to the other does.
  const lacksNumpy = packages["numpy"] === undefined && needs.length > problems.length;
  if (lacksNumpy) problems.push({ ...missing("numpy", interpreter), severity: "warning" });
  const ofNvtripy = packages["nvtripy"];
  if (
    needs.includes("nvtripy") &&
    ofNvtripy !== undefined &&
    ofNvtripy !== "unknown" &&
    !nvtripy.series.test(ofNvtripy)
  ) {
    problems.push({
      severity: "warning",
      code: "nvtripy-untested",
      message: `nvtripy ${ofNvtripy} is installed in ${path}, and Tripy programs are watched as nvtripy 0.1 makes them: a program may be misread or not run`,
      nextStep: `If that happens, install the version that was tried: ${installCommand(interpreter, "nvtripy")}`,
    });
  }
  const [, newest] = supportedPython.newest;
  if (Number(version.split(".")[1]) > newest) {
    problems.push({
      severity: "warning",
      code: "python-untested",
      message: `${path} is Python ${version}; the newest that was tried is ${supportedPython.newest.join(".")}`,
      nextStep: `If the capture fails, choose an interpreter with Python ${supportedPython.newest.join(".")}.`,
    });
  }
  return problems;
}

/** Turns an import that failed into what to install and where; undefined for any other error. */
export function explainImportError(
  error: CapturedError,
  interpreter: Interpreter,
): Problem | undefined {
  if (!/^(ModuleNotFoundError|ImportError)$/.test(error.type)) return undefined;
  const site = siteOf(error);
  const shadowing = /'([\w.]+)' is not a package/.exec(error.message)?.[1];
  if (shadowing !== undefined) {
    return {
      severity: "error",
      code: "package-shadowed",
      message: `${shadowing} is imported as a package, but a file ${topLevel(shadowing)}.py is found first`,
      nextStep: `Rename that file: it hides the package ${topLevel(shadowing)} from the script.`,
      ...(site && { site }),
    };
  }
  const absent = /No module named ['"]?([\w.]+)['"]?/.exec(error.message)?.[1];
  if (absent !== undefined) return missing(absent, interpreter, site);
  const [, name, from] = /cannot import name '([^']+)' from '([\w.]+)'/.exec(error.message) ?? [];
  const there = from === undefined ? undefined : interpreter.packages[topLevel(from)];
  if (name === undefined || from === undefined || there === undefined) return undefined;
  return {
    severity: "error",
    code: "package-lacks-name",
    message: `the script imports ${name} from ${from}, which ${topLevel(from)} ${there} in ${interpreter.path} does not have`,
    nextStep: `Install the version of ${topLevel(from)} that the script was written for, or choose an interpreter that has it.`,
    ...(site && { site }),
  };
}

/** The command that installs a package for this interpreter, fit for the platform's usual shell. */
export function installCommand(
  interpreter: Interpreter,
  name: string,
  platform: NodeJS.Platform = process.platform,
): string {
  const python = quoted(interpreter.path, platform);
  const wanted = requirementsOf(name, interpreter);
  switch (interpreter.installer) {
    case "pip":
      return `${python} -m pip install ${wanted}`;
    case "uv":
      return `uv pip install --python ${quoted(interpreter.path, platform, "argument")} ${wanted}`;
    case "ensurepip":
      return `${python} -m ensurepip, then ${python} -m pip install ${wanted}`;
    case "venv": {
      // The system's own Python refuses packages; the environment made here is found as .venv the next time.
      const own = platform === "win32" ? ".venv\\Scripts\\python" : ".venv/bin/python";
      return `${python} -m venv .venv, then ${own} -m pip install ${wanted}`;
    }
  }
}

function missing(module: string, interpreter: Interpreter, site?: Site): Problem {
  const name = topLevel(module);
  const { path, version, packages } = interpreter;
  const there = packages[name];
  const place = site && { site };
  if (there !== undefined && module !== name) {
    return {
      severity: "error",
      code: "package-lacks-module",
      message: `the script imports ${module}, which ${name} ${there} in ${path} does not have`,
      nextStep: `Install the version of ${name} that the script was written for, or choose an interpreter that has it.`,
      ...place,
    };
  }
  const problem = {
    severity: "error" as const,
    code: `package-missing-${name.replaceAll("_", "-").toLowerCase()}`,
    message: `${name} is not installed in ${path} (Python ${version})`,
    ...place,
  };
  const install = `Install it: ${installCommand(interpreter, name)}`;
  if (name === "nvtripy") {
    if (Number(version.split(".")[1]) < nvtripy.oldestPython) {
      return {
        ...problem,
        message: `${problem.message}, and needs Python 3.${nvtripy.oldestPython} or newer`,
        nextStep: `Choose an interpreter with Python 3.${nvtripy.oldestPython} to ${supportedPython.newest.join(".")} that has nvtripy.`,
      };
    }
    return {
      ...problem,
      nextStep: `${install} (the frontend alone, without NVIDIA's backend: programs run on the CPU), or choose an interpreter that has it.`,
    };
  }
  if (name === "mlir_tensorrt") {
    return {
      ...problem,
      nextStep:
        "It is NVIDIA's backend of Tripy: install nvtripy as its documentation says, on a machine with an NVIDIA GPU, or leave the import out, which Tripy itself does not need here.",
    };
  }
  if (name.startsWith("_")) {
    return {
      ...problem,
      message: `${name}, a part of Python itself, is missing in ${path} (Python ${version})`,
      nextStep: "This Python was built without it: choose or install another one.",
    };
  }
  const known = Object.hasOwn(distributions, name);
  return {
    ...problem,
    nextStep: known
      ? `${install}, or choose an interpreter that has it.`
      : `If ${name} is a package: ${installCommand(interpreter, name)} (some packages have another name there). If it is your own: run the script as you do otherwise, with the same working directory, -m and PYTHONPATH.`,
  };
}

/** Where an import's package has another name, or more than its name is needed. */
function requirementsOf(name: string, { cudaBuild, packages }: Interpreter): string {
  if (name === "nvtripy") return `--no-deps nvtripy==${nvtripy.version} colored`;
  if (name === "fbgemm_gpu" && cudaBuild === undefined) return "fbgemm_gpu-cpu";
  if (name === "cupy") return `cupy-cuda${cudaBuild?.split(".")[0] ?? "12"}x`;
  // A newer numpy than the one that torch was built with may not load; leaving torch as it is costs nothing.
  if (name === "numpy" && /^(1|2\.[0-2])\./.test(packages["torch"] ?? "")) return '"numpy<2"';
  return distributions[name] ?? name;
}

const distributions: Readonly<Record<string, string>> = {
  torch: "torch",
  numpy: "numpy",
  fbgemm_gpu: "fbgemm_gpu",
  torchrec: "torchrec",
  tensorrt: "tensorrt",
  cupy: "cupy",
  colored: "colored",
  pandas: "pandas",
  scipy: "scipy",
  pytest: "pytest",
  onnx: "onnx",
  tqdm: "tqdm",
  einops: "einops",
  safetensors: "safetensors",
  transformers: "transformers",
  absl: "absl-py",
  cv2: "opencv-python",
  gin: "gin-config",
  PIL: "pillow",
  sklearn: "scikit-learn",
  yaml: "PyYAML",
};

function siteOf({ frames }: CapturedError): Site | undefined {
  const [innermost] = frames;
  return innermost && { file: innermost.file, line: innermost.line, function: innermost.function };
}

function topLevel(module: string): string {
  return module.split(".")[0] as string;
}

/** A program's path as a shell takes it; PowerShell starts a quoted one only after "&". */
function quoted(file: string, platform: NodeJS.Platform, as: "program" | "argument" = "program") {
  if (platform !== "win32") return `"${file.replace(/["$`\\]/g, "\\$&")}"`;
  if (/^[\w:.\\/-]+$/.test(file)) return file;
  return as === "program" ? `& "${file}"` : `"${file}"`;
}
