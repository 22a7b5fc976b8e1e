import { fork, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { childEnvironment } from "./childEnvironment.js";
import { keepAlive, onceEnded, rememberLast } from "./childLife.js";
import { RunnerFailure } from "./executor.js";
import type { EvaluateReply, EvaluateRequest, RunnerOptions } from "./messages.js";

export interface RunnerProcessOptions extends Omit<RunnerOptions, "folder"> {
  readonly entry: string;
  readonly env: Readonly<Record<string, string>>;
  readonly tempRoot: string;
}

/** One living child with a folder of its own, which goes when the child does. */
export interface RunnerProcess {
  readonly pid: number | undefined;
  readonly folder: string;
  /** Hashes of the models whose sessions the child holds. */
  readonly held: ReadonlySet<string>;
  readonly alive: boolean;
  /**
   * @throws RunnerFailure "runner-crashed" or "runner-timeout"; the signal's reason after an abort. The child is dead then.
   */
  ask(request: EvaluateRequest, timeoutMs: number, signal: AbortSignal): Promise<EvaluateReply>;
  /** Kills the child and removes its folder, both before it returns. */
  dispose(): void;
}

export function startRunner(options: RunnerProcessOptions): RunnerProcess {
  const { entry, env, tempRoot, ...rest } = options;
  const folder = mkdtempSync(path.join(tempRoot, "hstu-parity-runner-"));
  const runnerOptions: RunnerOptions = { ...rest, folder };
  let child: ChildProcess;
  try {
    child = fork(entry, [JSON.stringify(runnerOptions)], {
      env: childEnvironment(process.env, env, process.versions),
      // Not those of the host: a debugger's port would be taken.
      execArgv: [],
      serialization: "advanced",
      // The host's stdout carries results or a protocol.
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw crashed(`it cannot be started: ${String(error)}`, "");
  }

  let alive = true;
  let held: ReadonlySet<string> = new Set();
  let startError: Error | undefined;
  let disposed = false;
  const lastWords = rememberLast(child.stderr, 4096);
  const closed = new Promise<string>((resolve) => {
    const ended = (how: string): void => {
      alive = false;
      process.off("exit", dispose);
      void rm(folder, { recursive: true, force: true, maxRetries: 3 }).catch(() => undefined);
      resolve(how);
    };
    child.once("error", (error) => {
      startError ??= error;
      if (child.pid === undefined) ended(`it cannot be started: ${error.message}`);
    });
    onceEnded(child, { exited: () => (alive = false), ended });
  });

  const keepHostAlive = (keep: boolean): void =>
    keepAlive([child, child.channel, child.stderr], keep);
  keepHostAlive(false);

  const kill = (): void => {
    alive = false;
    child.kill("SIGKILL");
  };
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
    get held() {
      return held;
    },
    get alive() {
      return alive && child.connected;
    },
    dispose,
    async ask(request, timeoutMs, signal) {
      signal.throwIfAborted();
      keepHostAlive(true);
      let timer: NodeJS.Timeout | undefined;
      const release: (() => void)[] = [];
      try {
        return await new Promise<EvaluateReply>((resolve, reject) => {
          const onMessage = (reply: EvaluateReply): void => {
            if (reply.job !== request.job) return;
            held = new Set(reply.held);
            resolve(reply);
          };
          const onAbort = (): void => {
            kill();
            reject(signal.reason as Error);
          };
          child.on("message", onMessage);
          signal.addEventListener("abort", onAbort);
          release.push(
            () => child.off("message", onMessage),
            () => signal.removeEventListener("abort", onAbort),
          );
          timer = setTimeout(() => {
            kill();
            reject(timedOut(timeoutMs, lastWords()));
          }, timeoutMs);
          void closed.then((how) =>
            reject(crashed(disposed ? "it was shut down while it ran" : how, lastWords())),
          );
          // A failure to send means that the child has ended; `closed` says how.
          child.send(request, () => undefined);
        });
      } finally {
        clearTimeout(timer);
        for (const undo of release) undo();
        keepHostAlive(false);
      }
    },
  };
}

function crashed(how: string, lastWords: string): RunnerFailure {
  const said = lastWords.split("\n").findLast((line) => line.trim() !== "" && !isStackLine(line));
  return new RunnerFailure(
    "runner-crashed",
    `the runner did not survive the evaluation: ${how}${said ? `; its last words: ${said.trim()}` : ""}`,
    "Run it again; if it happens again, report it with the log.",
    lastWords,
  );
}

/** Node and glibc print a stack after what they have to say: "----- Native stack trace -----", " 4: f [node]". */
function isStackLine(line: string): boolean {
  return /^\s*(-{3,}|\d+: |at )/.test(line);
}

function timedOut(timeoutMs: number, lastWords: string): RunnerFailure {
  return new RunnerFailure(
    "runner-timeout",
    `the runner did not answer within ${timeoutMs / 1000} s and was ended`,
    "Allow more time (--timeout), or compare a smaller model.",
    lastWords,
  );
}
