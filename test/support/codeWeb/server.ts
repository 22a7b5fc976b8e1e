import { spawn } from "node:child_process";
import type { CodeWeb } from "./installation.js";
import type { Profile } from "./profile.js";

export interface CodeWebServer {
  readonly port: number;
  stop(): Promise<void>;
  log(): string;
}

export interface ServerOptions {
  /** Lets the URL name development and test extensions. It hides notification toasts. */
  readonly smokeDriver?: boolean;
  /** A folder opens in Restricted Mode, as it does for a user. */
  readonly workspaceTrust?: boolean;
}

const startLimitMs = 60_000;
const stopLimitMs = 3_000;

/** Starts VS Code's server on a free port of the loopback interface. */
export async function startServer(
  { node, serverMain }: CodeWeb,
  profile: Profile,
  { smokeDriver = false, workspaceTrust = false }: ServerOptions = {},
): Promise<CodeWebServer> {
  const child = spawn(
    node,
    [
      serverMain,
      ...["--host", "127.0.0.1", "--port", "0", "--without-connection-token"],
      ...["--telemetry-level", "off"],
      ...(workspaceTrust ? [] : ["--disable-workspace-trust"]),
      ...profile.serverArguments,
      ...(smokeDriver ? ["--enable-smoke-test-driver"] : []),
    ],
    {
      env: profile.environment,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    },
  );
  let log = "";
  // The server leads a process group of its own, so that its extension hosts end with it.
  const signalGroup = (signal: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch {
      // It has ended already.
    }
  };
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
        return resolve();
      }
      child.once("exit", () => resolve());
      signalGroup("SIGTERM");
      setTimeout(() => signalGroup("SIGKILL"), stopLimitMs).unref();
    });
  try {
    const port = await new Promise<number>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`the server did not start in ${startLimitMs} ms\n${log}`)),
        startLimitMs,
      );
      const read = (data: Buffer): void => {
        log += data.toString();
        const listening = /Extension host agent listening on (\d+)/.exec(log);
        if (!listening) return;
        clearTimeout(timer);
        resolve(Number(listening[1]));
      };
      child.stdout.on("data", read);
      child.stderr.on("data", read);
      child.once("error", reject);
      child.once("exit", (code, signal) => {
        clearTimeout(timer);
        reject(new Error(`the server ended early (${code ?? signal})\n${log}`));
      });
    });
    return { port, stop, log: () => log };
  } catch (error) {
    await stop();
    throw error;
  }
}
