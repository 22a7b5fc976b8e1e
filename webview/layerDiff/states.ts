import { html, nothing, type TemplateResult } from "lit";
import { plural } from "../ui/format.js";
import type { PanelActions, PanelState } from "./panelState.js";

/** What stands in the panel while there is no report to show. */
export function withoutReport(state: PanelState, actions: PanelActions): TemplateResult {
  const { host, fault } = state;
  if (fault !== undefined) {
    return blank("This report cannot be shown", fault, [
      ["Run Parity…", () => actions.ask("runParity")],
      ["Show Log", () => actions.ask("showLog")],
    ]);
  }
  if (host.state === "running") {
    return html`<main class="blank">
      <vscode-progress-ring></vscode-progress-ring>
      <h1>Comparing</h1>
      <p>${host.progress?.text ?? "starting the engine"}${percentText(state)}</p>
      <div class="blank-actions">
        ${button("Cancel", () => actions.ask("cancel"), true)}
        ${button("Show Log", () => actions.ask("showLog"), true)}
      </div>
    </main>`;
  }
  if (host.state === "stopped") {
    return blank(
      host.message ?? "The run stopped before it had a result",
      host.nextStep ?? "The log has its last words.",
      [
        ["Run Again", () => actions.ask("runAgain")],
        ["Show Log", () => actions.ask("showLog")],
      ],
    );
  }
  return blank(
    "No report yet",
    "Run a comparison from a run file (*.parity.json), or open a *.parity-report.json.",
    [["Run Parity…", () => actions.ask("runParity")]],
  );
}

/** What is so beside the report: a run under way, a stopped engine, changed files, a newer schema. */
export function notices(state: PanelState, actions: PanelActions): unknown {
  const { host, fault, stale, shown } = state;
  const schema: number = shown?.model.report.schemaVersion ?? 1;
  return [
    host.state === "running"
      ? notice(
          "running",
          html`<vscode-progress-ring></vscode-progress-ring>
            <span
              >${host.progress?.text ?? "comparing"}${percentText(state)}. This is the last
              report.</span
            >`,
          button("Cancel", () => actions.ask("cancel"), true),
        )
      : nothing,
    host.state === "stopped"
      ? notice(
          "warning",
          html`<span
            >${host.message ?? "The run stopped before it had a result"}.
            ${host.nextStep ?? "This is the last report."}</span
          >`,
          button("Show Log", () => actions.ask("showLog"), true),
        )
      : nothing,
    fault === undefined
      ? nothing
      : notice("warning", html`<span>${fault}. This is the last report.</span>`, nothing),
    stale.length > 0
      ? notice(
          "warning",
          html`<span title=${stale.join("\n")}
            >${stale.length === 1 ? html`<b>${stale[0]}</b> has` : `${plural(stale.length, "file")} have`}
            changed since this run; lines and values may be off.</span
          >`,
          button("Run Again", () => actions.ask("runAgain"), true),
        )
      : nothing,
    schema > 1
      ? notice(
          "warning",
          html`<span
            >This report is of schema ${schema}; this version reads schema 1 and leaves out what it
            does not know.</span
          >`,
          nothing,
        )
      : nothing,
  ];
}

function percentText({ host }: PanelState): string {
  const percent = host.progress?.percent;
  return percent === undefined ? "" : ` · ${Math.round(percent)} %`;
}

function notice(kind: string, text: TemplateResult, action: unknown): TemplateResult {
  return html`<div class="notice notice-${kind}" role="status">${text} ${action}</div>`;
}

function blank(
  title: string,
  text: string,
  buttons: readonly [string, () => void][],
): TemplateResult {
  return html`<main class="blank">
    <h1>${title}</h1>
    <p>${text}</p>
    <div class="blank-actions">
      ${buttons.map(([label, action], index) => button(label, action, index > 0))}
    </div>
  </main>`;
}

function button(label: string, action: () => void, secondary: boolean): TemplateResult {
  return html`<vscode-button appearance=${secondary ? "secondary" : "primary"} @click=${action}
    >${label}</vscode-button
  >`;
}
