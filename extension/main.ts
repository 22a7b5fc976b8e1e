import * as vscode from "vscode";
import { registerCommands } from "./commands.js";
import { EngineClient } from "./engineClient.js";
import { tellEngineGone } from "./notify.js";
import { LayerDiffPanel } from "./panels/layerDiffPanel.js";
import { ParityStore } from "./parityState.js";
import { RunService } from "./runService.js";
import { createStatusBar } from "./views/statusBar.js";

/** Wires the parts together; each of them lives in a file of its own. */
export function activate(context: vscode.ExtensionContext): void {
  const log = vscode.window.createOutputChannel("HSTU Parity", { log: true });
  const store = new ParityStore();
  const engine = new EngineClient(context, log, store);
  const runs = new RunService(engine, store, context.workspaceState, log);
  const panel = new LayerDiffPanel(context.extensionUri, store, log);
  // Disposed of in reverse order: the run first, the log last.
  context.subscriptions.push(
    log,
    store,
    engine,
    panel,
    createStatusBar(store),
    registerCommands({ runs, panel, log }),
    runs,
  );
  const start = (): void => {
    engine.start().catch((error: unknown) => {
      log.error(String(error));
      tellEngineGone(error instanceof Error ? error.message : String(error));
    });
  };
  // Without trust nothing starts: the commands say why.
  if (vscode.workspace.isTrusted) start();
  else context.subscriptions.push(vscode.workspace.onDidGrantWorkspaceTrust(start));
}
