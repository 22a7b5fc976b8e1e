/**
 * Makes the committed artefacts of the sample from its sources: runs each story's script under the capture agent and
 * lowers the Tripy program that it compiled. Everything in the artefacts comes from the user's own script.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { captureScript } from "../engine/capture/agent.js";
import { serialise } from "../engine/onnx/edit.js";
import type { TraceFile } from "../engine/protocol/trace.js";
import { createRunner } from "../engine/runner/supervisor.js";
import { openTrace } from "../engine/trace/traceReader.js";
import { writeTrace } from "../engine/trace/traceWriter.js";
import { lowerTripyTrace } from "../engine/tripy/lower.js";
import type { TensorValue } from "../engine/core/tensorValue.js";

export interface ArtefactOptions {
  readonly root: string;
  readonly python: string;
  readonly runnerEntry: string;
  /** Folder that the artefacts are written to. */
  readonly out: string;
  /** Folder that the names of the source files are relative to. Default: `out`. */
  readonly sourcesRelativeTo?: string;
  readonly config: "tiny" | "ml-1m-large";
  readonly log: (line: string) => void;
}

export interface StoryRun {
  readonly name: string;
  readonly exitCode: number | null;
  readonly stdout: string;
}

/** Name of the candidate's model and the folder of the port that differs from the right one. */
const stories = [
  { name: "right-port", port: undefined },
  { name: "silent-bug", port: "silent_bug" },
  { name: "wrong-line", port: "wrong_line" },
] as const;

export async function makeArtefacts(options: ArtefactOptions): Promise<StoryRun[]> {
  const { root, out, sourcesRelativeTo = out } = options;
  const sample = path.join(root, "samples", "hstu");
  const work = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-artefacts-"));
  const executor = createRunner({
    provider: "cpu",
    entry: options.runnerEntry,
    timeoutMs: 600_000,
  });
  const runs: StoryRun[] = [];
  try {
    await mkdir(out, { recursive: true });
    for (const { name, port } of stories) {
      options.log(`${name}: running the script`);
      const result = await captureScript({
        python: options.python,
        agentFolder: path.join(root, "engine", "capture"),
        script: [
          path.join(sample, "tripy_hstu_example.py"),
          "--config",
          options.config,
          ...(port ? ["--port", port] : []),
        ],
        cwd: sample,
        out: path.join(work, name),
        agentOptions: ["--stand-ins", "--emulate-cuda", "--repeat-reference"],
        executor,
        signal: new AbortController().signal,
      });
      runs.push({ name, exitCode: result.exitCode, stdout: result.stdout });
      if (result.exitCode !== 0) {
        throw new Error(`${name}: the script ended with ${result.exitCode}\n${result.stderr}`);
      }
      const traces = result.index?.traces.map((trace) => ({
        ...trace,
        file: path.join(work, name, trace.file),
      }));
      const torch = traces?.find((trace) => trace.label === "Hstu");
      const tripy = traces?.find((trace) => trace.framework === "tripy");
      if (!torch || !tripy) throw new Error(`${name}: a trace is missing`);
      if (name === "right-port") {
        const { trace, values } = await readWhole(torch.file);
        await writeTrace(
          path.join(out, "torch.trace.json"),
          rebased(trace, torch.file, sourcesRelativeTo),
          values,
        );
      }
      const { trace, values } = await readWhole(tripy.file);
      const lowered = lowerTripyTrace(rebased(trace, tripy.file, sourcesRelativeTo), (id) =>
        values.get(id),
      );
      for (const { op, reason } of lowered.unsupported) {
        throw new Error(`${name}: ${op.kind} cannot be lowered: ${reason}`);
      }
      await writeFile(path.join(out, `${name}.onnx`), serialise(lowered.model));
    }
    return runs;
  } finally {
    executor.dispose();
    await rm(work, { recursive: true, force: true });
  }
}

async function readWhole(
  file: string,
): Promise<{ trace: TraceFile; values: Map<number, TensorValue> }> {
  const opened = await openTrace(file);
  try {
    const values = new Map<number, TensorValue>();
    for (const tensor of opened.trace.tensors) {
      if (tensor.key !== undefined) values.set(tensor.id, await opened.read(tensor.id));
    }
    return { trace: opened.trace, values };
  } finally {
    await opened.close();
  }
}

/** The same trace as if it had been written into `folder`. */
function rebased(trace: TraceFile, file: string, folder: string): TraceFile {
  return {
    ...trace,
    sources: trace.sources.map((source) => ({
      ...source,
      file: path
        .relative(folder, path.resolve(path.dirname(file), source.file))
        .split(path.sep)
        .join("/"),
    })),
  };
}

if (process.argv[2] === "--out") {
  const root = process.cwd();
  const [python = "python3"] = [process.env["HSTU_PARITY_PYTHON"]];
  const runs = await makeArtefacts({
    root,
    python,
    runnerEntry: path.join(root, "dist", "runner.mjs"),
    out: path.resolve(process.argv[3] ?? ""),
    config: "tiny",
    log: (line) => console.error(line),
  });
  for (const run of runs) console.log(`${run.name}: ${run.stdout.trim().split("\n").at(-1) ?? ""}`);
}
