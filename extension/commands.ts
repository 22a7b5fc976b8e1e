import * as vscode from "vscode";
import { goToSiteCommand, openPanelCommand } from "../engine/protocol/requests.js";
import { decodeAddress } from "../webview/protocol/messages.js";
import { decodeGoToSite, openSite } from "./language/openSite.js";
import type { LayerDiffPanel } from "./panels/layerDiffPanel.js";
import type { RunService, ScriptWishes } from "./runService.js";
import type { PythonChoice } from "./selectPython.js";
import type { ScriptOutput } from "./views/scriptOutput.js";

export interface CommandParts {
  readonly runs: RunService;
  readonly python: PythonChoice;
  readonly panel: LayerDiffPanel;
  readonly output: ScriptOutput;
  readonly log: vscode.LogOutputChannel;
}

/** Every command works from the first moment: the engine is started by the run that needs it. */
export function registerCommands({
  runs,
  python,
  panel,
  output,
  log,
}: CommandParts): vscode.Disposable {
  const table: Record<string, (...args: readonly unknown[]) => unknown> = {
    "hstuParity.run": (file) => runs.run(decodeFile(file)),
    "hstuParity.runScript": (file, wishes) =>
      runs.runScript(decodeFile(file), decodeWishes(wishes)),
    "hstuParity.runScriptWithArguments": (file) => runs.runScriptWithArguments(decodeFile(file)),
    "hstuParity.runScriptWithoutCache": (file, wishes) =>
      runs.runScript(decodeFile(file), { ...decodeWishes(wishes), noCache: true }),
    "hstuParity.saveRunFile": (file) => runs.saveRunFile(decodeFile(file)),
    "hstuParity.selectPython": (file) =>
      python.choose(typeof file === "string" && file !== "" ? file : undefined),
    "hstuParity.showScriptOutput": () => output.show(),
    "hstuParity.runAgain": () => runs.runAgain(),
    "hstuParity.cancelRun": () => runs.cancel(),
    "hstuParity.showLayerDiff": () => panel.show(),
    "hstuParity.showLog": () => log.show(true),
    [openPanelCommand]: (address) => panel.show(decodeAddress(address)),
    [goToSiteCommand]: (site) => {
      const decoded = decodeGoToSite(site);
      return decoded && openSite(decoded);
    },
  };
  return vscode.Disposable.from(
    ...Object.entries(table).map(([id, handler]) => vscode.commands.registerCommand(id, handler)),
  );
}

/** The explorer and the editor's title pass a URI, key bindings and other extensions may pass a path. */
function decodeFile(value: unknown): vscode.Uri | undefined {
  if (value instanceof vscode.Uri) return value;
  return typeof value === "string" && value !== "" ? vscode.Uri.file(value) : undefined;
}

/** Key bindings may say what the input box asks for: `"args": [FILE, { "args": ["--config", "tiny"] }]`. */
function decodeWishes(value: unknown): ScriptWishes {
  // The explorer's second argument is its selection, the editor's title's is where the editor stands.
  if (typeof value !== "object" || value === null || !("args" in value)) return {};
  const { args } = value;
  if (!Array.isArray(args) || !args.every((arg) => typeof arg === "string")) return {};
  return { args };
}
