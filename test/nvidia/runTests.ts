/**
 * Runs NVIDIA's own integration tests of nvtripy, unmodified, file by file under the capture agent: CUDA is emulated on
 * the CPU, the backend is stood in for, programs run in ONNX Runtime. Prints a table by file and the reason for every
 * test that fails or cannot apply.
 *
 * `node test/nvidia/run.mjs FOLDER [FILE…]`, where FOLDER is the `tripy` folder of a checkout of the public repository
 * NVIDIA/TensorRT-Incubator. pytest and black must be importable: PYTHONPATH may name a folder that has them.
 */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { captureScript } from "../../engine/capture/agent.js";
import { createRunner } from "../../engine/runner/supervisor.js";
import { readOutcomes, type Outcome } from "./outcomes.js";
import { formatTable, type FileResult } from "./table.js";

const [folder, ...wanted] = process.argv.slice(2);
if (folder === undefined) {
  console.error("node test/nvidia/run.mjs FOLDER [FILE…]");
  process.exit(2);
}
const root = environment("HSTU_PARITY_ROOT");
const python = environment("HSTU_PARITY_PYTHON");
process.env["PYTHONPATH"] = [
  path.join(root, "test/nvidia/standins"),
  process.env["PYTHONPATH"] ?? "",
]
  .filter(Boolean)
  .join(path.delimiter);

const tests = path.resolve(folder, "tests/integration");
const files = (await readdir(tests))
  .filter((name) => /^test_.*\.py$/.test(name))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .sort();
const executor = createRunner({
  provider: "cpu",
  entry: environment("HSTU_PARITY_RUNNER"),
  timeoutMs: 120_000,
});
const results: FileResult[] = [];
try {
  for (const file of files) {
    const started = performance.now();
    const outcomes = await runFile(file).catch((error: unknown): Outcome[] => [
      { test: "(the file)", kind: "failed", reason: String(error).slice(0, 400) },
    ]);
    const seconds = (performance.now() - started) / 1000;
    results.push({ file, outcomes, seconds });
    const count = (kind: Outcome["kind"]): number =>
      outcomes.filter((outcome) => outcome.kind === kind).length;
    console.error(
      `${file}: ${count("passed")} passed, ${count("failed")} failed, ` +
        `${count("cannot apply")} cannot apply, ${count("skipped")} skipped (${seconds.toFixed(1)} s)`,
    );
    for (const outcome of outcomes) {
      if (outcome.kind === "failed") console.error(`  ${outcome.test}: ${outcome.reason}`);
    }
  }
} finally {
  executor.dispose();
}
console.log(formatTable(results));
process.exitCode = results.some(({ outcomes }) => outcomes.some(({ kind }) => kind === "failed"))
  ? 1
  : 0;

/** The outcome of each test of one file. @throws Error when pytest could not run the file at all. */
async function runFile(file: string): Promise<Outcome[]> {
  const work = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-nvidia-"));
  try {
    const report = path.join(work, "report.xml");
    const { exitCode, stdout, stderr } = await captureScript({
      python,
      agentFolder: path.join(root, "engine/capture"),
      script: [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        `--junitxml=${report}`,
        path.join("tests/integration", file),
      ],
      cwd: path.resolve(folder as string),
      out: path.join(work, "capture"),
      agentOptions: ["--stand-ins", "--emulate-cuda"],
      executor,
      signal: new AbortController().signal,
    });
    const log = process.env["HSTU_PARITY_NVIDIA_LOG"];
    if (log !== undefined) await writeFile(path.join(log, `${file}.log`), stdout + stderr);
    const text = await readFile(report, "utf8").catch(() => undefined);
    if (text === undefined || (exitCode !== 0 && exitCode !== 1)) {
      throw new Error(`pytest ended with ${exitCode} for ${file}\n${stdout}\n${stderr}`);
    }
    return readOutcomes(file, text);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function environment(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`start it with run.mjs: ${name} is not set`);
  return value;
}
