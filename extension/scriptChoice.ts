import path from "node:path";
import * as vscode from "vscode";
import type { Problem } from "../engine/protocol/report.js";

/**
 * The script that a command is about: the given one, else the one in the editor. It is saved first.
 * @returns its URI, or why there is none
 */
export async function chooseScript(
  given: vscode.Uri | undefined,
): Promise<vscode.Uri | { readonly problem: Problem }> {
  const active = activeDocument();
  if (given === undefined && !active) {
    return no("script-not-open", "no Python script is open", openOne);
  }
  const uri = given ?? (active as vscode.TextDocument).uri;
  const name = path.posix.basename(uri.path);
  if (uri.scheme === "vscode-notebook-cell" || name.endsWith(".ipynb")) {
    return no(
      "script-is-notebook",
      `${name} is a notebook, which Python cannot run as a script`,
      "Export it as a Python script and run that.",
    );
  }
  const document = vscode.workspace.textDocuments.find(
    (item) => item.uri.toString() === uri.toString(),
  );
  const isPython = /\.pyw?$/.test(name) || document?.languageId === "python";
  if (!isPython) return no("script-not-python", `${name} is not a Python script`, openOne);
  if (uri.scheme === "untitled") {
    return no("script-not-on-disk", `${name} is not a file yet`, "Save it, then run it.");
  }
  if (uri.scheme !== "file") {
    return no(
      "script-not-on-disk",
      `${name} does not lie on the disk of the machine that would run it (${uri.scheme})`,
      "Open the folder where Python is: locally, or over Remote-SSH, WSL or a container.",
    );
  }
  if (document?.isDirty === true && !(await document.save())) {
    return no("script-not-saved", `${name} could not be saved`, "Save it, then run it.");
  }
  const exists = await vscode.workspace.fs.stat(uri).then(
    () => true,
    () => false,
  );
  if (!exists) return no("script-missing", `there is no script ${uri.fsPath}`, "Check the path.");
  return uri;
}

/** The panel or the output may have the focus: then a Python file that alone is in sight is meant. */
function activeDocument(): vscode.TextDocument | undefined {
  const { activeTextEditor, visibleTextEditors } = vscode.window;
  const active = activeTextEditor?.document;
  if (active?.languageId === "python") return active;
  const inSight = new Set(
    visibleTextEditors.map(({ document }) => document).filter((one) => one.languageId === "python"),
  );
  const [only] = inSight;
  return inSight.size === 1 ? only : active;
}

/** Where a script starts: in its workspace folder, as VS Code's terminals do; one from elsewhere in its own folder. */
export function startFolder(script: vscode.Uri): string {
  return vscode.workspace.getWorkspaceFolder(script)?.uri.fsPath ?? path.dirname(script.fsPath);
}

const openOne = "Open the Python script to run, or choose Run This Script on it in the explorer.";

function no(code: string, message: string, nextStep: string): { readonly problem: Problem } {
  return { problem: { severity: "error", code, message, nextStep } };
}
