import { spawn, type ChildProcess } from "node:child_process";
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { Readable } from "node:stream";
import { afterAll, afterEach, beforeAll, expect, onTestFinished, vi } from "vitest";
import { runCommandLine } from "../../engine/cli/commandLine.js";
import type { Report } from "../../engine/protocol/report.js";
import { bundleCli } from "../support/bundleCli.js";
import { root } from "../support/bundleRunner.js";
import { eventually } from "./runner/runnerHarness.js";

/** The environment that the tests run scripts with; it has torch. */
export const python = path.join(root, ".venv/bin/python");

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunWith {
  readonly python?: string;
  readonly stdin?: Readable;
  readonly format?: "json" | "text";
  readonly useCache?: boolean;
}

export interface Started {
  readonly child: ChildProcess;
  readonly code: Promise<number | null>;
  stdout(): string;
  stderr(): string;
  says(text: string): Promise<void>;
}

/**
 * Runs users' scripts in a folder of the test file's own. Each test fails that leaves a file in the temporary folder, or
 * a process that the command line started, or one that those started.
 */
export interface ScriptHarness {
  /** Holds the workspace and the temporary folder; tests may put other things there. */
  readonly folder: string;
  /** Scripts lie in it and start in it. */
  readonly workspace: string;
  /** Writes a script into the workspace. */
  script(name: string, text: string): Promise<void>;
  /** The first line of a script that holds the text, from 1. */
  lineOf(name: string, text: string): Promise<number>;
  /** `run` with these arguments, within this process. */
  run(args: readonly string[], options?: RunWith): Promise<Ended>;
  /** `run` with these arguments in a process of its own, started by `before` and with options for Node. */
  start(args: readonly string[], before?: readonly string[], node?: readonly string[]): Started;
  /** Files in the temporary folder, and command lines of processes. */
  leftOver(): Promise<string[]>;
}

export function scriptHarness(): ScriptHarness {
  const formerTemp = process.env["TMPDIR"];
  const state = { folder: "", workspace: "", temp: "", cli: "" };

  beforeAll(async () => {
    state.folder = await realpath(await mkdtemp(path.join(os.tmpdir(), "hstu-parity-script-")));
    state.workspace = path.join(state.folder, "work");
    state.temp = path.join(state.folder, "temp");
    await mkdir(state.workspace);
    await mkdir(state.temp);
    const bundle = path.join(state.folder, "bundle");
    state.cli = await bundleCli(bundle);
    await symlink(path.join(root, "engine/capture"), path.join(bundle, "capture"));
    process.env["TMPDIR"] = state.temp;
  });
  afterEach(async () => {
    await eventually(async () => (await leftOver()).length === 0).catch(() => {});
    const left = await leftOver();
    // The next test starts without them.
    for (const { id } of await processes()) process.kill(id, "SIGKILL");
    for (const name of await readdir(state.temp)) {
      await rm(path.join(state.temp, name), { recursive: true });
    }
    expect(left).toEqual([]);
  });
  afterAll(async () => {
    if (formerTemp === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = formerTemp;
    await rm(state.folder, { recursive: true, force: true });
  });

  async function leftOver(): Promise<string[]> {
    const commands = (await processes()).map(({ command }) => command);
    return [...(await readdir(state.temp)), ...commands];
  }

  /** All that were started with the temporary folder. Only Linux shows the environment of a process. */
  async function processes(): Promise<{ id: number; command: string }[]> {
    const ids = (await readdir("/proc").catch(() => [])).filter((name) => /^\d+$/.test(name));
    const found = await Promise.all(
      ids.map(Number).map(async (id) => {
        const environment = await readFile(`/proc/${id}/environ`, "utf8").catch(() => "");
        if (id === process.pid || !environment.includes(`TMPDIR=${state.temp}\0`)) return [];
        const words = await readFile(`/proc/${id}/cmdline`, "utf8").catch(() => "");
        // One that has ended and that nobody has asked for yet has no command any more.
        return words === "" ? [] : [{ id, command: words.replaceAll("\0", " ").trim() }];
      }),
    );
    return found.flat();
  }

  return {
    get folder() {
      return state.folder;
    },
    get workspace() {
      return state.workspace;
    },
    leftOver,
    async script(name, text) {
      const file = path.join(state.workspace, name);
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(file, text);
    },
    async lineOf(name, text) {
      const lines = (await readFile(path.join(state.workspace, name), "utf8")).split("\n");
      return lines.findIndex((line) => line.includes(text)) + 1;
    },
    async run(args, options = {}) {
      let stdout = "";
      let stderr = "";
      const code = await runCommandLine(["run", ...ownOptions(options), ...args], {
        cwd: state.workspace,
        env: { ...process.env, HSTU_PARITY_CACHE: path.join(state.folder, "cache") },
        stdout: { write: (text) => (stdout += text), columns: 120 },
        stderr: { write: (text) => (stderr += text) },
        ...(options.stdin && { stdin: options.stdin }),
        runnerEntry: path.join(state.folder, "bundle/runner.mjs"),
        agentFolder: path.join(root, "engine/capture"),
      });
      return { code, stdout, stderr };
    },
    start(args, before = [], node = []) {
      const [program = "", ...words] = [...before, process.execPath, ...node, state.cli, "run"];
      const child = spawn(program, [...words, ...ownOptions({}), ...args], {
        cwd: state.workspace,
      });
      let stdout = "";
      let stderr = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
      child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
      onTestFinished(() => void child.kill("SIGKILL"));
      return {
        child,
        code: new Promise((resolve) => child.once("close", resolve)),
        stdout: () => stdout,
        stderr: () => stderr,
        says: (text) => vi.waitFor(() => expect(stdout + stderr).toContain(text), 30_000),
      };
    },
  };
}

export function reportOf({ stdout, stderr }: Ended): Report {
  expect(stdout, stderr).toMatch(/^\{/);
  return JSON.parse(stdout) as Report;
}

/** A script with a model, a port with the same parameters whose scale is as given, an input x, and more lines. */
export function models(more: string, scale = "x * 0.5", before = ""): string {
  const [, indent = ""] = /^\n?( *)/.exec(more) ?? [];
  return `${before}import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x):
        hidden = torch.relu(self.linear(x))
        x = torch.tanh(hidden)
        scaled = x * 0.5
        return scaled + hidden

class Port(Model):
    def forward(self, x):
        hidden = torch.relu(self.linear(x))
        x = torch.tanh(hidden)
        scaled = ${scale}
        return scaled + hidden

torch.manual_seed(0)
torch.set_grad_enabled(False)
model, port = Model(), Port()
port.load_state_dict(model.state_dict())
x = torch.randn(4, 8)
${more.replaceAll(`\n${indent}`, "\n").trim()}
`;
}

function ownOptions({ format = "json", python: given = python, useCache = false }: RunWith) {
  return ["--format", format, "--python", given, ...(useCache ? [] : ["--no-cache"])];
}
