import * as vscode from "vscode";
import type { Verdict } from "../../engine/protocol/report.js";
import type { ParityState, ParityStore } from "../parityState.js";

const glyphs: Readonly<Record<Verdict, string>> = {
  pass: "✓",
  warn: "!",
  unknown: "?",
  fail: "✗",
};

/** The verdict of the last run, always in sight; a click opens the layer diff. */
export function createStatusBar(store: ParityStore): vscode.Disposable {
  const item = vscode.window.createStatusBarItem(
    "hstuParity.verdict",
    vscode.StatusBarAlignment.Left,
    10,
  );
  item.name = "HSTU Parity";
  item.command = "hstuParity.showLayerDiff";
  const draw = (state: ParityState): void => {
    const { text, spoken, tooltip } = wordsOf(state);
    item.text = text;
    item.tooltip = withPython(tooltip, state);
    item.accessibilityInformation = {
      label: `HSTU Parity: ${spoken}`,
      role: "button",
    };
  };
  draw(store.value);
  item.show();
  return vscode.Disposable.from(item, store.onDidChange(draw));
}

/** The Python of the last script stands below what there is to say, with a link that chooses another one. */
function withPython(tooltip: string, { interpreter }: ParityState): string | vscode.MarkdownString {
  if (!interpreter) return tooltip;
  const { path, version, found } = interpreter;
  const text = new vscode.MarkdownString();
  text.isTrusted = { enabledCommands: ["hstuParity.selectPython"] };
  // A line may break at a hyphen, and not at a minus sign.
  const words = tooltip.replace(/(?<=\de)-(?=\d)/g, "−");
  text.appendText(`${words}\n\nPython ${version}, ${found}: ${path}`);
  text.appendMarkdown(`\n\n[${vscode.l10n.t("Select Python")}](command:hstuParity.selectPython)`);
  return text;
}

function wordsOf(state: ParityState): {
  text: string;
  spoken: string;
  tooltip: string;
} {
  if (state.running) {
    const { text, percent } = state.running;
    const amount = percent === undefined ? "" : ` ${Math.round(percent)} %`;
    return {
      text: `$(sync~spin) Parity${amount}`,
      spoken: vscode.l10n.t("running: {0}", text),
      tooltip: text,
    };
  }
  if (state.stopped) {
    return {
      text: `$(warning) ${vscode.l10n.t("Parity: no result")}`,
      spoken: vscode.l10n.t("no result: {0}", state.stopped.message),
      tooltip: `${state.stopped.message}\n${state.stopped.nextStep}`,
    };
  }
  const { report } = state;
  if (!report) {
    return {
      text: "$(beaker) Parity",
      spoken: vscode.l10n.t("no run yet"),
      tooltip: vscode.l10n.t("No run yet"),
    };
  }
  const stale = state.staleFiles.length > 0 ? ` ${vscode.l10n.t("(files changed since)")}` : "";
  return {
    text: `${glyphs[report.verdict] ?? "?"} Parity: ${report.verdict}${stale}`,
    spoken: `${report.verdict}${stale}, ${report.summary}`,
    tooltip: report.summary + stale,
  };
}
