import { spawn, type ChildProcess } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type { CaptureIndex } from "../protocol/capture.js";
import type { Executor } from "../runner/executor.js";
import { executeTripyTrace } from "../tripy/execute.js";

export interface CaptureOptions {
  readonly python: string;
  /** Folder that holds the Python package `hstu_capture`. */
  readonly agentFolder: string;
  /** The script and its arguments, or "-m", a module and its arguments, as after `python`. */
  readonly script: readonly string[];
  readonly cwd: string;
  /** Variables that are set besides those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Folder for the traces. */
  readonly out: string;
  /** Runs Tripy programs where NVIDIA's backend is not installed. */
  readonly executor: Executor;
  readonly agentOptions?: readonly string[];
  /** What the script reads from its standard input. Default: nothing. */
  readonly stdin?: Readable;
  /** Gets what the script prints, as it comes. */
  readonly onOutput?: (stream: "stdout" | "stderr", text: string) => void;
  /** Limit for the whole script. Default: none. */
  readonly timeoutMs?: number;
  readonly signal: AbortSignal;
}

export interface CaptureResult {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  /** The signal that ended it, "SIGKILL" also where the time limit did. */
  readonly endedBy?: NodeJS.Signals;
  readonly timedOut: boolean;
  /** What it printed last, at most 256 KiB each. */
  readonly stdout: string;
  readonly stderr: string;
  /** Absent when the script ended before the agent had begun. */
  readonly index?: CaptureIndex;
}

/**
 * Runs a user's Python script under the capture agent. The agent speaks newline-delimited JSON over two pipes of its
 * own (file descriptors 3 and 4), never through the script's standard streams; each request asks the engine to execute
 * one Tripy program.
 * @throws the signal's reason when cancelled; the script and what it started are killed then.
 */
export async function captureScript(options: CaptureOptions): Promise<CaptureResult> {
  const { signal, timeoutMs, onOutput = () => {} } = options;
  signal.throwIfAborted();
  const child = spawnAgent(options);
  let timedOut = false;
  const kill = (): void => killGroup(child);
  const timer = timeoutMs === undefined ? undefined : setTimeout(onTimeout, timeoutMs);
  signal.addEventListener("abort", kill, { once: true });
  // It has a group of its own: nobody else ends it when this process fails or is told to leave at once.
  process.once("exit", kill);
  try {
    const stdout = tail(child.stdout as Readable, (text) => onOutput("stdout", text));
    const stderr = tail(child.stderr as Readable, (text) => onOutput("stderr", text));
    const served = serve(child.stdio[3] as Writable, child.stdio[4] as Readable, options);
    feed(child.stdin, options.stdin);
    const { code, by } = await ended(child);
    await served;
    signal.throwIfAborted();
    const index = await readIndex(options.out);
    return {
      exitCode: code,
      ...(by && { endedBy: by }),
      timedOut,
      stdout: stdout(),
      stderr: stderr(),
      ...(index && { index }),
    };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", kill);
    process.off("exit", kill);
    if (child.exitCode === null && child.signalCode === null) kill();
  }

  function onTimeout(): void {
    timedOut = true;
    kill();
  }
}

function spawnAgent({
  python,
  script,
  cwd,
  out,
  agentFolder,
  agentOptions,
  env,
  stdin,
}: CaptureOptions): ChildProcess {
  return spawn(
    python,
    [
      "-m",
      "hstu_capture",
      "--out",
      out,
      "--engine-fd",
      "3,4",
      ...(agentOptions ?? []),
      "--",
      ...script,
    ],
    {
      cwd,
      detached: true,
      env: {
        ...process.env,
        ...env,
        PYTHONPATH: [agentFolder, env?.["PYTHONPATH"] ?? process.env["PYTHONPATH"]]
          .filter((part) => part !== undefined && part !== "")
          .join(path.delimiter),
        PYTHONDONTWRITEBYTECODE: "1",
      },
      stdio: [stdin ? "pipe" : "ignore", "pipe", "pipe", "pipe", "pipe"],
    },
  );
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
    const request = requestIn(line);
    if (!request) continue;
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

interface Request {
  readonly id: number;
  readonly trace: string;
  readonly inputs: string;
}

/** The script shares its process with the agent and may write into descriptors that are not its own. */
function requestIn(line: string): Request | undefined {
  try {
    const { id, trace, inputs } = JSON.parse(line) as Partial<Request>;
    if (id === undefined || trace === undefined || inputs === undefined) return undefined;
    return { id, trace, inputs };
  } catch {
    return undefined;
  }
}

function feed(target: Writable | null, source: Readable | undefined): void {
  if (!target || !source) return;
  // The script may end, or close its standard input, before all is read.
  target.on("error", () => source.unpipe(target));
  // What cannot be read, a terminal that is gone or a folder, ends there for the script.
  source.on("error", () => target.end());
  source.pipe(target);
}

async function ended(
  child: ChildProcess,
): Promise<{ code: number | null; by: NodeJS.Signals | null }> {
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const exit = await new Promise<{ code: number | null; by: NodeJS.Signals | null }>(
    (resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, by) => resolve({ code, by }));
    },
  );
  const patience = new AbortController();
  await Promise.race([closed, delay(2000, undefined, { signal: patience.signal })]);
  patience.abort();
  // A process that the script left behind may hold the pipes open.
  for (const pipe of child.stdio) pipe?.destroy();
  return exit;
}

async function readIndex(folder: string): Promise<CaptureIndex | undefined> {
  const text = await readFile(path.join(folder, "capture.json"), "utf8").catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as CaptureIndex);
}

const keptCharacters = 256 * 1024;

function tail(stream: Readable, onText: (text: string) => void): () => string {
  let text = "";
  stream.setEncoding("utf8").on("data", (chunk: string) => {
    text = (text + chunk).slice(-keptCharacters);
    onText(chunk);
  });
  return () => text;
}

/** The script may have started processes of its own: they share its group. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // The group has ended.
  }
}
