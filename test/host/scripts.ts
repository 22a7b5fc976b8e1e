import { execFileSync } from "node:child_process";
import { mkdtemp, realpath, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import type { RunResult } from "../../engine/protocol/requests.js";
import { eventually } from "./workbench.js";

/** What the host tests of scripts ask of the workbench and of Python. */

/** The Python that has torch, fbgemm and nvtripy. */
export const fullPython = ((): string => {
  const python = process.env["HSTU_PARITY_PYTHON"];
  if (python === undefined) throw new Error("HSTU_PARITY_PYTHON names no Python");
  return python;
})();

/** A Python of its own that has no package at all. */
export async function barePython(folder: string, name = ".venv"): Promise<string> {
  execFileSync(fullPython, ["-m", "venv", "--without-pip", path.join(folder, name)]);
  return path.join(folder, name, "bin", "python");
}

export async function makeFolder(prefix = "hstu-parity-scripts-"): Promise<string> {
  return realpath(await mkdtemp(path.join(os.tmpdir(), prefix)));
}

export async function writeScript(
  folder: string,
  name: string,
  lines: readonly string[],
): Promise<vscode.Uri> {
  const file = path.join(folder, name);
  await writeFile(file, [...lines, ""].join("\n"));
  return vscode.Uri.file(file);
}

export async function runScript(
  script: vscode.Uri | undefined,
  args?: readonly string[],
): Promise<RunResult> {
  return ran("hstuParity.runScript", script, args && { args });
}

export async function ran(command: string, ...given: readonly unknown[]): Promise<RunResult> {
  const result = await vscode.commands.executeCommand<RunResult | undefined>(command, ...given);
  if (!result) throw new Error("the command ran nothing");
  return result;
}

/** The first problem of a run that could not be made. */
export function problemOf(
  result: RunResult,
): Extract<RunResult, { outcome: "invalid" }>["problems"][number] {
  const problem = result.outcome === "invalid" ? result.problems[0] : undefined;
  if (!problem) throw new Error(`no problem: ${JSON.stringify(result).slice(0, 500)}`);
  return problem;
}

/** What stands in the output channel of scripts, once `part` does. */
export async function scriptOutput(part: string | RegExp): Promise<string> {
  await vscode.commands.executeCommand("hstuParity.showScriptOutput");
  return eventually(`${part} in the script's output`, () =>
    vscode.workspace.textDocuments
      .filter((document) => document.uri.scheme === "output")
      .map((document) => document.getText())
      .find((text) => (typeof part === "string" ? text.includes(part) : part.test(text))),
  );
}

/** Sets or, with undefined, removes settings for the workspace, or without a folder for the user. */
export async function configure(settings: Readonly<Record<string, unknown>>): Promise<void> {
  const target = vscode.workspace.workspaceFolders
    ? vscode.ConfigurationTarget.Workspace
    : vscode.ConfigurationTarget.Global;
  for (const [name, value] of Object.entries(settings)) {
    await vscode.workspace.getConfiguration("hstuParity").update(name, value, target);
  }
}

interface PythonExtensionStandIn {
  choose(path: string | undefined): void;
  readonly resources: readonly string[];
}

/** The stand-in for the Python extension, which lies beside these tests. */
export async function pythonExtension(): Promise<PythonExtensionStandIn> {
  const extension = vscode.extensions.getExtension<PythonExtensionStandIn>("ms-python.python");
  if (!extension) throw new Error("the stand-in for the Python extension is not there");
  return extension.activate();
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
