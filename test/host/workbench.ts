import { execFileSync } from "node:child_process";
import path from "node:path";
import * as vscode from "vscode";
import type { Report, Site } from "../../engine/protocol/report.js";
import type { RunResult } from "../../engine/protocol/requests.js";

/** What the host tests ask of the workbench. */

export function folder(): string {
  const first = vscode.workspace.workspaceFolders?.[0];
  if (!first) throw new Error("the tests need the sample folder open");
  return first.uri.fsPath;
}

export function fileIn(name: string): vscode.Uri {
  return vscode.Uri.file(path.join(folder(), name));
}

export async function runParity(name: string): Promise<RunResult> {
  const result = await vscode.commands.executeCommand<RunResult | undefined>(
    "hstuParity.run",
    fileIn(name),
  );
  if (!result) throw new Error("the command ran nothing");
  return result;
}

export async function reportOf(name: string): Promise<Report> {
  const result = await runParity(name);
  if (result.outcome !== "report") throw new Error(`no report: ${JSON.stringify(result)}`);
  return result.report;
}

export function placeOf(report: Report, site: Site): vscode.Uri {
  return vscode.Uri.file(path.resolve(report.run.base, site.file));
}

export function ownDiagnostics(uri: vscode.Uri): vscode.Diagnostic[] {
  return vscode.languages.getDiagnostics(uri).filter((item) => item.source === "HSTU Parity");
}

/** Waits until `probe` gives something; the error says what was waited for. */
export async function eventually<T>(
  what: string,
  probe: () => T | undefined | Promise<T | undefined>,
  limitMs = 15_000,
): Promise<T> {
  const end = Date.now() + limitMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`waited ${limitMs} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export async function hoverTexts(uri: vscode.Uri, line: number, character = 8): Promise<string[]> {
  const hovers = await vscode.commands.executeCommand<vscode.Hover[]>(
    "vscode.executeHoverProvider",
    uri,
    new vscode.Position(line - 1, character),
  );
  return hovers.flatMap(({ contents }) =>
    contents.map((content) => (typeof content === "string" ? content : content.value)),
  );
}

/** Ids of the processes below this extension host whose command line names `file`. */
export function processesBelow(file: string): number[] {
  const rows = execFileSync("ps", ["-eo", "pid=,ppid=,args="], {
    encoding: "utf8",
  })
    .split("\n")
    .map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, pid, parent, command]) => ({
      pid: Number(pid),
      parent: Number(parent),
      command: command ?? "",
    }));
  const below = new Set([process.pid]);
  for (let before = 0; before !== below.size;) {
    before = below.size;
    for (const row of rows) if (below.has(row.parent)) below.add(row.pid);
  }
  return rows
    .filter((row) => below.has(row.pid) && row.command.includes(file))
    .map((row) => row.pid);
}
