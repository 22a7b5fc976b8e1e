import path from "node:path";
import * as vscode from "vscode";
import type { GoToSiteArguments } from "../../engine/protocol/requests.js";
import { tellFileMissing } from "../notify.js";

/** Shows a source line. `file` is absolute, or relative to `base`; line and column are 1-based. */
export async function openSite(
  { file, line, column }: GoToSiteArguments,
  { base, beside = false }: { base?: string | undefined; beside?: boolean } = {},
): Promise<void> {
  const absolute = base === undefined ? path.resolve(file) : path.resolve(base, file);
  const position = new vscode.Position(line - 1, Math.max(0, (column ?? 1) - 1));
  try {
    const document = await vscode.workspace.openTextDocument(vscode.Uri.file(absolute));
    const editor = await vscode.window.showTextDocument(document, {
      selection: new vscode.Range(position, position),
      viewColumn: beside ? vscode.ViewColumn.Beside : vscode.ViewColumn.One,
    });
    editor.revealRange(
      new vscode.Range(position, position),
      vscode.TextEditorRevealType.InCenterIfOutsideViewport,
    );
  } catch {
    tellFileMissing(absolute);
  }
}

/** A hover's command link is text that anyone could have written: it is decoded like any other input. */
export function decodeGoToSite(value: unknown): GoToSiteArguments | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { file, line, column } = value as Record<string, unknown>;
  if (typeof file !== "string" || file === "" || !isPosition(line)) return undefined;
  return { file, line, ...(isPosition(column) && { column }) };
}

function isPosition(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1;
}
