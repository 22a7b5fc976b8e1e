import * as vscode from "vscode";
import type { Report } from "../engine/protocol/report.js";
import type { RunResult } from "../engine/protocol/requests.js";

/**
 * The policy for notifications, all in one place. A run that a person asked for gets one answer, and that answer says
 * what is so and offers the next step. Nothing is said for what shows anyway (progress, stale lines), nothing takes the
 * focus, and nothing waits for an answer.
 */
export function tellOutcome(result: RunResult, runFile: vscode.Uri): void {
  switch (result.outcome) {
    case "report":
      return tellReport(result.report);
    case "invalid":
      return tellInvalid(result.problems, runFile);
    case "failed":
      return offer("error", sentence(result.message, result.nextStep), [showLog()]);
    case "cancelled":
      vscode.window.setStatusBarMessage(vscode.l10n.t("HSTU Parity: cancelled"), 4000);
  }
}

export function tellNothingToRun(): void {
  offer(
    "information",
    vscode.l10n.t(
      "There is no run file in this workspace. A run file ends in .parity.json and says what to compare.",
    ),
    [],
  );
}

export function tellUntrusted(): void {
  offer(
    "warning",
    vscode.l10n.t(
      "In Restricted Mode nothing is run: a run file decides which models are executed.",
    ),
    [
      {
        title: vscode.l10n.t("Manage Workspace Trust"),
        command: "workbench.trust.manage",
      },
    ],
  );
}

export function tellEngineRestarted(): void {
  offer("warning", vscode.l10n.t("The engine stopped and was started again."), [showLog()]);
}

export function tellEngineGone(reason: string): void {
  offer(
    "error",
    sentence(
      vscode.l10n.t("The engine does not run: {0}", reason),
      vscode.l10n.t("The log has its last words; Run Parity… starts it again."),
    ),
    [showLog()],
  );
}

export function tellFileMissing(file: string): void {
  offer("warning", vscode.l10n.t("{0} cannot be opened: it is not there.", file), []);
}

function tellReport(report: Report): void {
  const summary = sentence(report.summary);
  const panel = {
    title: vscode.l10n.t("Show Layer Diff"),
    command: "hstuParity.showLayerDiff",
  };
  if (report.verdict === "pass") return offer("information", `✓ ${summary}`, [panel]);
  if (report.verdict === "warn") return offer("information", `! ${summary}`, [panel]);
  if (report.verdict === "unknown") return offer("warning", `? ${summary}`, [panel]);
  offer("warning", `✗ ${summary}`, [panel]);
}

function tellInvalid(
  problems: Extract<RunResult, { outcome: "invalid" }>["problems"],
  runFile: vscode.Uri,
): void {
  const [first] = problems;
  if (!first) return;
  const more =
    problems.length > 1 ? ` ${vscode.l10n.t("({0} problems in all)", problems.length)}` : "";
  offer("error", sentence(first.message, first.nextStep) + more, [
    {
      title: vscode.l10n.t("Open Run File"),
      command: "vscode.open",
      arguments: [runFile],
    },
  ]);
}

interface Offer {
  readonly title: string;
  readonly command: string;
  readonly arguments?: readonly unknown[];
}

function showLog(): Offer {
  return { title: vscode.l10n.t("Show Log"), command: "hstuParity.showLog" };
}

function offer(
  kind: "information" | "warning" | "error",
  message: string,
  offers: readonly Offer[],
): void {
  const show = {
    information: vscode.window.showInformationMessage,
    warning: vscode.window.showWarningMessage,
    error: vscode.window.showErrorMessage,
  }[kind];
  void show<Offer>(`HSTU Parity: ${message}`, ...offers).then((chosen) => {
    if (chosen) {
      void vscode.commands.executeCommand(chosen.command, ...(chosen.arguments ?? []));
    }
  });
}

function sentence(...parts: readonly string[]): string {
  return parts.map((part) => (/[.?!]$/.test(part) ? part : `${part}.`)).join(" ");
}
