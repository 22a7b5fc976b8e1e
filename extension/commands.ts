import * as vscode from "vscode";
import { goToSiteCommand, openPanelCommand } from "../engine/protocol/requests.js";
import { decodeAddress } from "../webview/protocol/messages.js";
import { decodeGoToSite, openSite } from "./language/openSite.js";
import type { LayerDiffPanel } from "./panels/layerDiffPanel.js";
import type { RunService } from "./runService.js";

export interface CommandParts {
  readonly runs: RunService;
  readonly panel: LayerDiffPanel;
  readonly log: vscode.LogOutputChannel;
}

/** Every command works from the first moment: the engine is started by the run that needs it. */
export function registerCommands({ runs, panel, log }: CommandParts): vscode.Disposable {
  const table: Record<string, (...args: readonly unknown[]) => unknown> = {
    "hstuParity.run": (file) => runs.run(decodeFile(file)),
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
