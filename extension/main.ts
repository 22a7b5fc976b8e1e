import * as vscode from "vscode";
import { registerCommands } from "./commands.js";
import { EngineClient } from "./engineClient.js";
import { tellEngineGone } from "./notify.js";
import { LayerDiffPanel } from "./panels/layerDiffPanel.js";
import { ParityStore } from "./parityState.js";
import { RunService } from "./runService.js";
import { RunMemory } from "./runTarget.js";
import { PythonChoice } from "./selectPython.js";
import { ScriptOutput } from "./views/scriptOutput.js";
import { createStatusBar } from "./views/statusBar.js";

/** Wires the parts together; each of them lives in a file of its own. */
export function activate(context: vscode.ExtensionContext): void {
  const log = vscode.window.createOutputChannel("HSTU Parity", { log: true });
  const store = new ParityStore();
  const engine = new EngineClient(context, log, store);
  const output = new ScriptOutput();
  const memory = new RunMemory(context.workspaceState);
  const runs = new RunService(engine, store, memory, output, log);
  const python = new PythonChoice(engine, store, log);
  const panel = new LayerDiffPanel(context.extensionUri, store, log);
  // Disposed of in reverse order: the run first, the log last.
  context.subscriptions.push(
    log,
    output,
    store,
    engine,
    panel,
    createStatusBar(store),
    registerCommands({ runs, python, panel, output, log }),
    runs,
  );
  const start = async (): Promise<void> => {
    // A Python file alone is no reason for another process: the first run starts it.
    if (!engine.hasLastReport && !(await hasRunFile())) return;
    engine.start().catch((error: unknown) => {
      log.error(String(error));
      tellEngineGone(error instanceof Error ? error.message : String(error));
    });
  };
  // Without trust nothing starts: the commands say why.
  if (vscode.workspace.isTrusted) void start();
  else context.subscriptions.push(vscode.workspace.onDidGrantWorkspaceTrust(() => void start()));
}

/** Run files are checked while they are written. */
async function hasRunFile(): Promise<boolean> {
  const open = vscode.workspace.textDocuments.some(({ uri }) => uri.path.endsWith(".parity.json"));
  if (open) return true;
  const found = await vscode.workspace.findFiles("**/*.parity.json", "**/node_modules/**", 1);
  return found.length > 0;
}
