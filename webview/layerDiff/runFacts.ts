import { html, nothing, type TemplateResult } from "lit";
import type { Implementation } from "../../engine/protocol/report.js";
import { formatDifference, plural } from "../ui/format.js";
import type { ShownReport } from "./panelState.js";

/** What ran, where and with what: enough to run it again elsewhere. */
export function runFacts({ model, pairModel }: ShownReport): TemplateResult {
  const { report } = model;
  const { run } = report;
  const { environment } = run;
  const packages = Object.entries(environment?.packages ?? {});
  const facts: [string, string | undefined][] = [
    ["run file", run.runFile],
    ["command", run.command?.join(" ")],
    [
      "script",
      run.script &&
        `${[run.script.file, ...run.script.args].join(" ")} (exit code ${run.script.exitCode})`,
    ],
    ["folder", run.base],
    ["started", run.startedAt],
    ["cache", run.cache],
    ["emulated", run.emulated?.join(", ")],
    ["system", environment?.os],
    ["processor", environment?.cpu],
    ["GPUs", environment?.gpus?.join(", ")],
    ["Python", environment?.python],
    ["packages", packages.map(([name, version]) => `${name} ${version}`).join(", ")],
    ["made by", report.tool && `${report.tool.name} ${report.tool.version}`],
  ];
  const declared = pairModel.pair.declared;
  return html`<div class="page">
    <h3>Implementations</h3>
    <table class="parameters">
      <thead>
        <tr>
          <th></th>
          <th>framework</th>
          <th>executor</th>
          <th>device</th>
          <th>precision</th>
          <th>remarks</th>
        </tr>
      </thead>
      <tbody>
        ${report.implementations.map(
          (item) =>
            html`<tr>
              <td>
                <b>${item.label}</b>
                <span class="muted">${item.id === report.reference ? "reference" : ""}</span>
              </td>
              <td>${item.framework}</td>
              <td>${item.executor}</td>
              <td>${[...new Set([item.provider, item.device])].filter(Boolean).join(", ")}</td>
              <td>${item.precision}</td>
              <td>${remarks(item)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
    ${
      declared.length > 0
        ? html`<h3>Declared differences</h3>
            <dl class="facts-list">
              ${declared.map(
                ({ pattern, reason, rows }) =>
                  html`<dt class="mono">${pattern}</dt>
                    <dd>
                      ${reason}
                      <span class="muted">${plural(rows.length, "row")}</span>
                    </dd>`,
              )}
            </dl>`
        : nothing
    }
    <h3>Run</h3>
    <dl class="facts-list">
      ${facts.map(([name, value]) =>
        value
          ? html`<dt>${name}</dt>
              <dd class="selectable">${value}</dd>`
          : nothing,
      )}
    </dl>
  </div>`;
}

function remarks(item: Implementation): string {
  const { placement, nonDeterminism, observerEffect } = item;
  const parts = [
    placement &&
      `${placement.onProvider} of ${plural(placement.nodes, "node")} on ${item.provider}`,
    item.standIns?.length > 0 && `stands in for ${item.standIns.join(", ")}`,
    nonDeterminism &&
      `${plural(nonDeterminism.runs, "run")} differ by ${formatDifference(nonDeterminism.maxRelL2)}`,
    observerEffect && `observing changes it by ${formatDifference(observerEffect.relL2)}`,
  ];
  return parts.filter(Boolean).join(" · ");
}
