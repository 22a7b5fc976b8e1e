import { spawn, type ChildProcess } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import type { Executor } from "../runner/executor.js";
import { executeTripyTrace } from "../tripy/execute.js";

export interface CaptureOptions {
  readonly python: string;
  /** Folder that holds the Python package `hstu_capture`. */
  readonly agentFolder: string;
  /** The script and its arguments, as after `python`. */
  readonly script: readonly string[];
  readonly cwd: string;
  /** Folder for the traces. */
  readonly out: string;
  /** Runs Tripy programs where NVIDIA's backend is not installed. */
  readonly executor: Executor;
  readonly agentOptions?: readonly string[];
  readonly signal: AbortSignal;
}

export interface CaptureResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Absolute names of the trace files, in the order in which they were recorded. */
  readonly traces: readonly { file: string; framework: "torch" | "tripy"; label: string }[];
}

/**
 * Runs a user's Python script under the capture agent. The agent speaks newline-delimited JSON over two pipes of its
 * own (file descriptors 3 and 4), never through the script's standard streams; each request asks the engine to execute
 * one Tripy program.
 */
export async function captureScript(options: CaptureOptions): Promise<CaptureResult> {
  const { signal } = options;
  signal.throwIfAborted();
  const child = spawn(
    options.python,
    [
      "-m",
      "hstu_capture",
      "--out",
      options.out,
      "--engine-fd",
      "3,4",
      ...(options.agentOptions ?? []),
      "--",
      ...options.script,
    ],
    {
      cwd: options.cwd,
      detached: true,
      env: {
        ...process.env,
        PYTHONPATH: [options.agentFolder, process.env["PYTHONPATH"]]
          .filter((part) => part !== undefined && part !== "")
          .join(path.delimiter),
        PYTHONDONTWRITEBYTECODE: "1",
      },
      stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"],
    },
  );
  const kill = (): void => killGroup(child);
  signal.addEventListener("abort", kill, { once: true });
  try {
    const stdout = collect(child.stdout as Readable);
    const stderr = collect(child.stderr as Readable);
    const served = serve(child.stdio[3] as Writable, child.stdio[4] as Readable, options);
    const exitCode = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => resolve(code));
    });
    await served;
    signal.throwIfAborted();
    const index = JSON.parse(await readFile(path.join(options.out, "capture.json"), "utf8")) as {
      traces: { file: string; framework: "torch" | "tripy"; label: string }[];
    };
    return {
      exitCode,
      stdout: stdout(),
      stderr: stderr(),
      traces: index.traces.map((trace) => ({
        ...trace,
        file: path.resolve(options.out, trace.file),
      })),
    };
  } finally {
    signal.removeEventListener("abort", kill);
    killGroup(child);
  }
}

async function serve(
  replies: Writable,
  requests: Readable,
  { executor, signal, out }: CaptureOptions,
): Promise<void> {
  replies.on("error", () => {
    // The script has ended: nobody reads the reply any more.
  });
  for await (const line of createInterface({ input: requests })) {
    const request = JSON.parse(line) as { id: number; trace: string; inputs: string };
    const outputs = path.join(out, `reply-${request.id}.safetensors`);
    const reply = await executeTripyTrace(
      path.resolve(out, request.trace),
      path.resolve(out, request.inputs),
      outputs,
      executor,
      signal,
    ).then(
      () => ({ id: request.id, outputs }),
      (error: unknown) => ({
        id: request.id,
        error: error instanceof Error ? error.message : String(error),
      }),
    );
    replies.write(`${JSON.stringify(reply)}\n`);
  }
}

function collect(stream: Readable): () => string {
  let text = "";
  stream.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  return () => text;
}

/** The script may have started processes of its own: they share its group. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    child.kill("SIGKILL");
  }
}
