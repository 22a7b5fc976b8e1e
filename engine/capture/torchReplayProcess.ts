import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { keepAlive, onceEnded, rememberLast } from "../runner/childLife.js";
import { RunnerFailure } from "../runner/executor.js";

export interface TorchReplayOptions {
  readonly python: string;
  readonly agentFolder: string;
  readonly threads: number | undefined;
  readonly tempRoot: string;
  readonly env: Readonly<Record<string, string>>;
}

/** As hstu_capture/torch_replay.py describes it. */
export interface TorchReplayRequest {
  readonly id: number;
  readonly [field: string]: unknown;
}

export type TorchReplayReply =
  | { readonly id: number; readonly file: string; readonly unavailable: Record<string, string> }
  | { readonly id: number; readonly code: string; readonly error: string };

/** One living child with a folder of its own, which goes when the child does. */
export interface TorchReplayProcess {
  readonly pid: number | undefined;
  readonly folder: string;
  readonly alive: boolean;
  /** Known after the first answer. */
  readonly torchVersion: string | undefined;
  /**
   * @throws RunnerFailure "provider-unavailable" without Python or torch, "runner-crashed" or "runner-timeout"; the
   * signal's reason after an abort. The child is dead then.
   */
  ask(
    request: TorchReplayRequest,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<TorchReplayReply>;
  /** Kills the child with all that it started and removes its folder, both before it returns. */
  dispose(): void;
}

type Greeting =
  | { readonly ready: true; readonly torch: string }
  | { readonly ready: false; readonly error: string };

export function startTorchReplay(options: TorchReplayOptions): TorchReplayProcess {
  const folder = mkdtempSync(path.join(options.tempRoot, "hstu-parity-torch-"));
  const child = start(options, folder);
  let alive = true;
  let disposed = false;
  let torchVersion: string | undefined;
  let failure: RunnerFailure | undefined;
  const waiting = new Map<number, (reply: TorchReplayReply) => void>();
  const lastWords = rememberLast(child.stderr, 4096);

  const kill = (): void => {
    alive = false;
    killGroup(child);
  };
  const closed = new Promise<RunnerFailure>((resolve) => {
    const ended = (how: string): void => {
      alive = false;
      process.off("exit", dispose);
      void rm(folder, { recursive: true, force: true, maxRetries: 3 }).catch(() => undefined);
      resolve(failure ?? crashed(disposed ? "it was shut down while it ran" : how, lastWords()));
    };
    child.once("error", (error: NodeJS.ErrnoException) => {
      failure ??= notStarted(options.python, error);
      if (child.pid === undefined) ended("");
    });
    onceEnded(child, { exited: () => (alive = false), ended });
  });

  const requests = child.stdio[3] as Writable;
  const replies = child.stdio[4] as Readable;
  // A failure to send means that the child has ended; `closed` says how.
  requests.on("error", () => undefined);
  replies.on("error", () => undefined);
  createInterface({ input: replies }).on("line", (line) => {
    const message = JSON.parse(line) as Greeting | TorchReplayReply;
    if ("ready" in message) {
      if (message.ready) torchVersion = message.torch;
      else failure ??= withoutTorch(options.python, message.error);
    } else waiting.get(message.id)?.(message);
  });

  const keepHostAlive = (keep: boolean): void =>
    keepAlive([child, child.stderr, requests, replies], keep);
  keepHostAlive(false);

  function dispose(): void {
    disposed = true;
    kill();
    process.off("exit", dispose);
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  }
  process.once("exit", dispose);

  return {
    pid: child.pid,
    folder,
    get alive() {
      return alive;
    },
    get torchVersion() {
      return torchVersion;
    },
    dispose,
    async ask(request, timeoutMs, signal) {
      signal.throwIfAborted();
      keepHostAlive(true);
      let timer: NodeJS.Timeout | undefined;
      let onAbort = (): void => undefined;
      try {
        return await new Promise<TorchReplayReply>((resolve, reject) => {
          onAbort = () => {
            kill();
            reject(signal.reason as Error);
          };
          waiting.set(request.id, resolve);
          signal.addEventListener("abort", onAbort);
          timer = setTimeout(() => {
            kill();
            reject(timedOut(timeoutMs, lastWords()));
          }, timeoutMs);
          void closed.then(reject);
          requests.write(`${JSON.stringify(request)}\n`);
        });
      } finally {
        clearTimeout(timer);
        waiting.delete(request.id);
        signal.removeEventListener("abort", onAbort);
        keepHostAlive(false);
      }
    },
  };
}

function start(options: TorchReplayOptions, folder: string): ChildProcess {
  const threads = options.threads === undefined ? [] : ["--threads", String(options.threads)];
  try {
    return spawn(
      options.python,
      ["-m", "hstu_capture.torch_replay", "--engine-fd", "3,4", "--folder", folder, ...threads],
      {
        // A folder without Python files: none of the user's can stand in for a module.
        cwd: folder,
        detached: true,
        env: {
          ...process.env,
          ...options.env,
          PYTHONPATH: [options.agentFolder, process.env["PYTHONPATH"]]
            .filter((part) => part !== undefined && part !== "")
            .join(path.delimiter),
          PYTHONDONTWRITEBYTECODE: "1",
        },
        // The host's stdout carries results or a protocol.
        stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
      },
    );
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw crashed(`it cannot be started: ${String(error)}`, "");
  }
}

/** What the child started shares its group. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    child.kill("SIGKILL");
  }
}

function notStarted(python: string, error: NodeJS.ErrnoException): RunnerFailure {
  const why = error.code === "ENOENT" ? "there is no such program" : error.message;
  return new RunnerFailure(
    "provider-unavailable",
    `Python cannot be started as "${python}": ${why}`,
    "Choose another interpreter (--python).",
  );
}

function withoutTorch(python: string, said: string): RunnerFailure {
  const missing = /^ModuleNotFoundError: No module named 'torch'/.test(said);
  return new RunnerFailure(
    "provider-unavailable",
    missing ? `${python} has no torch` : `${python} cannot import torch: ${said}`,
    missing
      ? `Install it with "${python} -m pip install torch", or choose another interpreter (--python).`
      : "Repair that installation, or choose another interpreter (--python).",
    said,
  );
}

function crashed(how: string, lastWords: string): RunnerFailure {
  const said = lastWords.split("\n").findLast((line) => line.trim() !== "");
  return new RunnerFailure(
    "runner-crashed",
    `the replay in torch did not survive the evaluation: ${how}${said ? `; its last words: ${said.trim()}` : ""}`,
    "Run it again; if it happens again, report it with the log.",
    lastWords,
  );
}

function timedOut(timeoutMs: number, lastWords: string): RunnerFailure {
  return new RunnerFailure(
    "runner-timeout",
    `the replay in torch did not answer within ${timeoutMs / 1000} s and was ended`,
    "Allow more time (--timeout), or compare a smaller model.",
    lastWords,
  );
}
