import path from "node:path";
import { runCommandLine } from "../../engine/cli/commandLine.js";
import type { Report } from "../../engine/protocol/report.js";
import { root } from "./bundleRunner.js";

/** The environment that the tests run scripts with; it has torch. */
export const python = path.join(root, ".venv/bin/python");

export interface CliRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** What stdout holds where the run made a report. */
  readonly report: Report;
}

/** The command line within this process: `hstu-parity run --format json` with more arguments. */
export async function runCli(
  args: readonly string[],
  {
    cwd,
    runnerEntry,
    env = {},
  }: {
    readonly cwd: string;
    readonly runnerEntry: string;
    readonly env?: Readonly<Record<string, string>>;
  },
): Promise<CliRun> {
  let stdout = "";
  let stderr = "";
  const code = await runCommandLine(["run", "--format", "json", ...args], {
    cwd,
    env: { ...process.env, ...env },
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
    runnerEntry,
    agentFolder: path.join(root, "engine/capture"),
  });
  return { code, stdout, stderr, report: JSON.parse(stdout || "{}") as Report };
}
