import * as vscode from "vscode";
import type { Problem, Report } from "../engine/protocol/report.js";
import { goToSiteCommand, type RunResult } from "../engine/protocol/requests.js";
import type { InterpreterFacts } from "../engine/protocol/scriptRequests.js";
import { settingOf } from "./config.js";
import type { RunTarget } from "./runTarget.js";

/**
 * The policy for notifications, all in one place. A run that a person asked for gets one answer, and that answer says
 * what is so and offers the next step. Nothing is said for what shows anyway (progress, stale lines), nothing takes the
 * focus, and nothing waits for an answer.
 */
export function tellOutcome(result: RunResult, target: RunTarget | undefined): void {
  switch (result.outcome) {
    case "report":
      return tellReport(result.report, target);
    case "invalid":
      return tellInvalid(result.problems, target);
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
      "There is no run file in this workspace. A run file ends in .parity.json and says what to compare; a Python script runs without one.",
    ),
    [{ title: vscode.l10n.t("Run This Script"), command: "hstuParity.runScript" }],
  );
}

/** Whether something may be run; says why not. */
export function isTrusted(): boolean {
  if (vscode.workspace.isTrusted) return true;
  offer(
    "warning",
    vscode.l10n.t(
      "In Restricted Mode nothing is run: scripts, run files and interpreters of this folder decide what is executed.",
    ),
    [
      {
        title: vscode.l10n.t("Manage Workspace Trust"),
        command: "workbench.trust.manage",
      },
    ],
  );
  return false;
}

/** The interpreter was chosen, and what it lacks. */
export function tellPython({ path, version, packages }: InterpreterFacts): void {
  const lacking = packages.filter(({ install }) => install !== undefined);
  const there = packages.filter((item) => item.version !== undefined);
  const has = there.map(({ name, version: of }) => `${name} ${of}`).join(", ");
  offer(
    lacking.length > 0 ? "warning" : "information",
    sentence(
      vscode.l10n.t("Scripts run with Python {0} ({1}){2}", version, path, has && `: ${has}`),
      ...lacking.map(({ name, install = "" }) =>
        vscode.l10n.t("{0} is not installed: {1}", name, install),
      ),
    ),
    lacking.length > 0
      ? [
          {
            title: vscode.l10n.t("Copy Install Command"),
            copies: lacking.map(({ install }) => install).join("\n"),
          },
        ]
      : [],
  );
}

export function tellPythonNotChosen(reason: string): void {
  offer("error", sentence(vscode.l10n.t("No Python was chosen: {0}", reason)), [showLog()]);
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

/** Why a report compares nothing; undefined when it compares something. */
export function whyEmpty({ pairs, problems }: Report): Problem | undefined {
  if (pairs.length > 0) return undefined;
  return problems.find(({ severity }) => severity !== "information") ?? problems[0];
}

function tellReport(report: Report, target: RunTarget | undefined): void {
  const hit = report.run.cache === "hit";
  const empty = whyEmpty(report);
  const summary = sentence(
    ...(empty ? [empty.message, empty.nextStep] : [report.summary]),
    ...(hit
      ? [vscode.l10n.t("Nothing has changed since an earlier run, whose report this is")]
      : []),
  );
  const offers: Offer[] = [
    { title: vscode.l10n.t("Show Layer Diff"), command: "hstuParity.showLayerDiff" },
  ];
  if (hit && target) {
    offers.push({
      title: vscode.l10n.t("Run Without Cache"),
      command: "hstuParity.runScriptWithoutCache",
      arguments: [target.uri],
    });
  } else if (target?.kind === "script") offers.push(showOutput());
  if (report.verdict === "pass") return offer("information", `✓ ${summary}`, offers);
  if (report.verdict === "warn") return offer("information", `! ${summary}`, offers);
  if (report.verdict === "unknown") return offer("warning", `? ${summary}`, offers);
  offer("warning", `✗ ${summary}`, offers);
}

function tellInvalid(problems: readonly Problem[], target: RunTarget | undefined): void {
  const [first] = problems;
  if (!first) return;
  const more =
    problems.length > 1 ? ` ${vscode.l10n.t("({0} problems in all)", problems.length)}` : "";
  offer("error", sentence(first.message, first.nextStep) + more, waysOut(first, target));
}

/** What helps with a problem that kept a run from its result. */
function waysOut(problem: Problem, target: RunTarget | undefined): Offer[] {
  const setting = settingOf(problem);
  if (setting !== undefined) {
    return [
      {
        title: vscode.l10n.t("Open Settings"),
        command: "workbench.action.openSettings",
        arguments: [setting],
      },
    ];
  }
  if (!target) return [];
  if (target.kind === "runFile") {
    return [
      {
        title: vscode.l10n.t("Open Run File"),
        command: "vscode.open",
        arguments: [target.uri],
      },
    ];
  }
  const { code, site } = problem;
  const offers: Offer[] = [];
  if (site) {
    const { file, line } = site;
    offers.push({
      title: vscode.l10n.t("Go to Line"),
      command: goToSiteCommand,
      arguments: [{ file, line }],
    });
  }
  if (/^(?:python|package)-/.test(code)) {
    offers.push({ title: vscode.l10n.t("Select Python"), command: "hstuParity.selectPython" });
  } else offers.push(showOutput());
  return offers;
}

type Offer =
  | { readonly title: string; readonly command: string; readonly arguments?: readonly unknown[] }
  | { readonly title: string; readonly copies: string };

function showLog(): Offer {
  return { title: vscode.l10n.t("Show Log"), command: "hstuParity.showLog" };
}

function showOutput(): Offer {
  return { title: vscode.l10n.t("Show Script Output"), command: "hstuParity.showScriptOutput" };
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
    if (!chosen) return;
    if ("copies" in chosen) void vscode.env.clipboard.writeText(chosen.copies);
    else {
      void vscode.commands.executeCommand(chosen.command, ...(chosen.arguments ?? []));
    }
  });
}

function sentence(...parts: readonly string[]): string {
  return parts.map((part) => (/[.?!]$/.test(part) ? part : `${part}.`)).join(" ");
}
