import { randomBytes } from "node:crypto";
import * as vscode from "vscode";
import type { PanelAddress } from "../../engine/protocol/requests.js";
import { layerDiffHtml } from "../../webview/layerDiff/html.js";
import { decodePanelMessage, type HostMessage } from "../../webview/protocol/messages.js";
import { openSite } from "../language/openSite.js";
import type { ParityState, ParityStore } from "../parityState.js";

const viewType = "hstuParity.layerDiff";

/** The one layer diff panel: a view of the state, made on demand and again after a reload of the window. */
export class LayerDiffPanel implements vscode.Disposable {
  private panel: vscode.WebviewPanel | undefined;
  private ready = false;
  private shownReport: ParityState["report"];
  private pending: PanelAddress | undefined;
  private readonly disposables: vscode.Disposable[];

  constructor(
    private readonly extension: vscode.Uri,
    private readonly store: ParityStore,
    private readonly log: vscode.LogOutputChannel,
  ) {
    this.disposables = [
      store.onDidChange((state) => this.sync(state)),
      vscode.window.onDidChangeActiveColorTheme(() => this.post({ type: "theme" })),
      vscode.window.registerWebviewPanelSerializer(viewType, {
        deserializeWebviewPanel: async (panel) => this.adopt(panel),
      }),
    ];
  }

  /** Opens the panel, at a row or an origin when one is given. */
  show(address?: PanelAddress): void {
    if (!this.panel) {
      this.pending = address;
      this.adopt(
        vscode.window.createWebviewPanel(
          viewType,
          vscode.l10n.t("Layer Diff"),
          { viewColumn: vscode.ViewColumn.Beside, preserveFocus: false },
          {},
        ),
      );
      return;
    }
    this.panel.reveal(undefined, false);
    if (!address) return;
    if (this.ready) this.post({ type: "select", address });
    else this.pending = address;
  }

  dispose(): void {
    this.panel?.dispose();
    for (const disposable of this.disposables) disposable.dispose();
  }

  private adopt(panel: vscode.WebviewPanel): void {
    this.panel?.dispose();
    const folder = vscode.Uri.joinPath(this.extension, "dist", "webview");
    this.panel = panel;
    this.ready = false;
    this.shownReport = undefined;
    const { webview } = panel;
    webview.options = {
      enableScripts: true,
      localResourceRoots: [folder],
      enableCommandUris: false,
    };
    const listening = [
      webview.onDidReceiveMessage((message: unknown) => this.receive(message)),
      panel.onDidChangeViewState(() => {
        // A hidden panel is unloaded; when it comes back it says `ready` and gets everything again.
        if (!panel.visible) this.ready = false;
      }),
    ];
    panel.onDidDispose(() => {
      for (const disposable of listening) disposable.dispose();
      if (this.panel === panel) this.panel = undefined;
    });
    webview.html = layerDiffHtml({
      cspSource: webview.cspSource,
      nonce: randomBytes(18).toString("base64url"),
      scriptUri: webview.asWebviewUri(vscode.Uri.joinPath(folder, "layerDiff.js")).toString(),
      styleUri: webview.asWebviewUri(vscode.Uri.joinPath(folder, "layerDiff.css")).toString(),
    });
  }

  private receive(value: unknown): void {
    const decoded = decodePanelMessage(value);
    if ("error" in decoded) {
      this.log.warn(`layer diff panel: ${decoded.error}`);
      return;
    }
    const { message } = decoded;
    switch (message.type) {
      case "ready":
        this.ready = true;
        this.shownReport = undefined;
        this.sync(this.store.value);
        return;
      case "openSite":
        void openSite(message, {
          base: this.store.value.report?.run.base,
          beside: message.beside,
        });
        return;
      case "copy":
        void vscode.env.clipboard.writeText(message.text);
        return;
      case "selectionChanged":
        return;
      default:
        void vscode.commands.executeCommand(panelCommands[message.type]);
    }
  }

  private sync(state: ParityState): void {
    if (!this.ready) return;
    this.post(stateMessage(state));
    // A report without a pair is a reason and nothing to draw: the state has said it.
    if (state.report && state.report.pairs.length > 0 && state.report !== this.shownReport) {
      this.shownReport = state.report;
      this.post({
        type: "showReport",
        report: state.report,
        stale: [...state.staleFiles],
        ...(this.pending && { address: this.pending }),
      });
      this.pending = undefined;
    } else {
      this.post({ type: "stale", files: [...state.staleFiles] });
    }
  }

  private post(message: HostMessage): void {
    if (this.ready) void this.panel?.webview.postMessage(message);
  }
}

const panelCommands = {
  runAgain: "hstuParity.runAgain",
  runParity: "hstuParity.run",
  cancel: "hstuParity.cancelRun",
  showLog: "hstuParity.showLog",
} as const;

function stateMessage({ running, stopped, report }: ParityState): HostMessage {
  if (running) {
    const { text, percent } = running;
    return {
      type: "showState",
      state: "running",
      progress: { text, ...(percent !== undefined && { percent }) },
    };
  }
  if (stopped) return { type: "showState", state: "stopped", ...stopped };
  return { type: "showState", state: report ? "ready" : "empty" };
}
