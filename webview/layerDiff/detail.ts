import { html, nothing, svg, type TemplateResult } from "lit";
import type { Cause, Row, RowId, Side } from "../../engine/protocol/report.js";
import { formatDifference, formatShape, fullPrecision } from "../ui/format.js";
import { axisErrors, histogram, statistics, worstElements } from "./detailData.js";
import { metricTable } from "./metricTable.js";
import type { PanelActions, ShownReport } from "./panelState.js";
import { labelOf, lineText } from "./reportModel.js";
import { codeLine, siteLink } from "./siteLink.js";
import { wordsOfGate, wordsOfPairing, wordsOfRowVerdict } from "./words.js";

/** Everything that the report says about the chosen row. */
export function detail(shown: ShownReport, actions: PanelActions): TemplateResult {
  const { row } = shown;
  if (!row) {
    return html`<section class="detail" aria-label="Detail">
      <p class="nothing">Choose a row in the list or a point on the curve.</p>
    </section>`;
  }
  return html`<section class="detail" aria-label="Detail" tabindex="0">
    ${head(row, actions)} ${sites(shown, row, actions)} ${why(shown, row)} ${judgement(row)}
    ${metricTable(row)} ${histogram(row)} ${worstElements(row)} ${axisErrors(row)}
    ${statistics(row)} ${chain(shown, row, actions)}
  </section>`;
}

function head(row: Row, actions: PanelActions): TemplateResult {
  const words = wordsOfRowVerdict(row.verdict);
  return html`<div class="detail-head">
    <h2 title=${row.id}>
      <span class="glyph row-${row.verdict}" aria-hidden="true">${words.glyph}</span>
      <span class="text">${row.stage} <span class="muted">·</span> ${row.name}</span>
    </h2>
    <vscode-button
      appearance="icon"
      aria-label="Copy this row as JSON"
      title="Copy this row as JSON, numbers in full"
      @click=${() => actions.copy(JSON.stringify(row, undefined, 2))}
      >${copyIcon}</vscode-button
    >
    <p class="detail-verdict">
      <b class="row-${row.verdict}" title=${words.meaning}>${words.label}</b>
      ${amount("relL2", row.metrics?.relL2, row.undefined?.relL2)}
      ${amount("introduced", row.introduced)} ${amount("inherited", row.inherited)}
      ${row.amplification === undefined ? nothing : amount("amplification ×", row.amplification)}
    </p>
  </div>`;
}

const copyIcon = html`<svg class="icon" aria-hidden="true" viewBox="0 0 16 16">
  ${svg`<path d="M5.5 4.5v-2h8v9h-2m-9-7h9v9h-9z"></path>`}
</svg>`;

function amount(label: string, value: Row["introduced"], why = "not measured"): TemplateResult {
  return value === undefined
    ? html`<span class="amount" title=${why}>${label} <b>—</b></span>`
    : html`<span class="amount" title=${fullPrecision(value)}
        >${label} <b>${formatDifference(value)}</b></span
      >`;
}

/** The two source lines, reference first, one under the other so that their texts can be compared. */
function sites(shown: ShownReport, row: Row, actions: PanelActions): TemplateResult {
  const { model, pairModel } = shown;
  const origins = pairModel.originsByRow.get(row.id) ?? [];
  const sideEntry = (label: string, side: Side | undefined, key: string): TemplateResult => html`
    <span class="side-label" title=${label}>${label}</span>
    <span class="side-site">
      ${siteLink(side?.site, actions, row.absentReason ?? "no counterpart")}
      ${
        side?.site
          ? html`<span class="muted"> in ${side.site.function}</span> <kbd>${key}</kbd>`
          : nothing
      }
    </span>
    <span class="side-code">
      ${side?.site ? codeLine(lineText(model, side.site)) : nothing}
      ${
        side
          ? html`<span class="muted"
              >${side.ops.map((op) => op.kind).join(" → ")}${side.ops.length > 0 ? " · " : ""}${side.dtype}
              ${formatShape(side.shape)}
              ${side.layout.kind === "dense" ? "" : side.layout.kind}</span
            >`
          : nothing
      }
    </span>
  `;
  const { pair } = pairModel;
  return html`<div class="sides">
    ${sideEntry(labelOf(model, pair.reference), row.reference, "Shift+Enter")}
    ${sideEntry(labelOf(model, pair.candidate), row.candidate, "Enter")}
    ${origins.map(
      ({ site, alternatives }) => html`
        ${
          site.file === row.candidate?.site?.file && site.line === row.candidate.site.line
            ? nothing
            : html`<span class="side-label">to fix</span>
                <span class="side-site"
                  >${siteLink(site, actions)}<span class="muted"> in ${site.function}</span></span
                >
                <span class="side-code">${codeLine(lineText(model, site))}</span>`
        }
        ${alternatives.map(
          ({ site: other, why: reason }) =>
            html`<span class="side-label">or</span>
              <span class="side-site"
                >${siteLink(other, actions)}<span class="muted"> ${reason}</span></span
              >
              <span class="side-code">${codeLine(lineText(model, other))}</span>`,
        )}
      `,
    )}
  </div>`;
}

function why({ pairModel }: ShownReport, row: Row): unknown {
  const ofOrigins = (pairModel.originsByRow.get(row.id) ?? []).flatMap(({ cause }) => cause ?? []);
  const causes = ofOrigins.length > 0 ? ofOrigins : row.cause ? [row.cause] : [];
  const declared = pairModel.pair.declared.find(({ rows }) => rows.includes(row.id));
  return [
    causes.map(causeText),
    declared ? html`<p class="cause"><b>Declared</b> ${declared.reason}</p>` : nothing,
    row.padding
      ? html`<p class="cause">
          <b>Padding</b> ${
            row.padding.verdict === "match"
              ? "matches."
              : html`differs by at most ${formatDifference(row.padding.maxAbs)}; it is never blamed.`
          }
        </p>`
      : nothing,
  ];
}

function causeText(cause: Cause): TemplateResult {
  const evidence = Object.entries(cause.evidence ?? {});
  return html`<div class="cause">
    <b>Cause</b> ${cause.text} <span class="muted">(${cause.confidence})</span>
    ${
      evidence.length === 0
        ? nothing
        : html`<details>
            <summary>Evidence</summary>
            <dl>
              ${evidence.map(
                ([name, value]) =>
                  html`<dt>${name}</dt>
                    <dd class="mono">
                      ${typeof value === "string" ? value : JSON.stringify(value)}
                    </dd>`,
              )}
            </dl>
          </details>`
    }
  </div>`;
}

/** How the pair was made, and the gate that it was held against. */
function judgement(row: Row): TemplateResult {
  const entries: [string, unknown, string][] = [];
  if (row.gate) {
    const noise = row.gate.noise;
    entries.push([
      "gate",
      html`<b title=${fullPrecision(row.gate.value)}>${formatDifference(row.gate.value)}</b>
        <span class="muted"
          >${wordsOfGate(row.gate.from)}${
            noise === undefined ? nothing : html` (noise ${formatDifference(noise)})`
          }</span
        >`,
      "The introduced difference is held against this.",
    ]);
  }
  if (row.accumulatedGate) {
    entries.push([
      "total gate",
      html`<b title=${fullPrecision(row.accumulatedGate.value)}
          >${formatDifference(row.accumulatedGate.value)}</b
        >
        <span class="muted">honest rounding from the inputs to here</span>`,
      "The total difference is held against this.",
    ]);
  }
  entries.push([
    "paired",
    row.pairedBy
      ? html`<b>${row.pairedBy}</b> <span class="muted">${wordsOfPairing(row.pairedBy)}</span>`
      : html`<b>no</b> <span class="muted">${row.absentReason ?? "no reason given"}</span>`,
    "How the two tensors were found to belong together.",
  ]);
  return html`<dl class="judgement">
    ${entries.map(
      ([name, value, title]) =>
        html`<dt title=${title}>${name}</dt>
          <dd>${value}</dd>`,
    )}
  </dl>`;
}

function chain(shown: ShownReport, row: Row, actions: PanelActions): unknown {
  if (row.inputs.length === 0 && row.outputs.length === 0) return nothing;
  return html`<h3>Chain</h3>
    <div class="chain">
      ${chainColumn(shown, "values come from", row.inputs, actions)}
      ${chainColumn(shown, "values go to", row.outputs, actions)}
    </div>`;
}

const longestChain = 40;

function chainColumn(
  { pairModel }: ShownReport,
  title: string,
  ids: readonly RowId[],
  actions: PanelActions,
): TemplateResult {
  const rows = ids.flatMap((id) => pairModel.rowById.get(id) ?? []);
  return html`<div>
    <h4>${title}</h4>
    ${rows.length === 0 ? html`<span class="muted">no compared row</span>` : nothing}
    ${rows.slice(0, longestChain).map((row) => {
      const words = wordsOfRowVerdict(row.verdict);
      const value = row.metrics?.relL2;
      return html`<button
        type="button"
        class="chain-row"
        title=${`${row.stage} · ${row.name}: ${words.label}`}
        @click=${() => actions.selectRow(row.id)}
      >
        <span class="glyph row-${row.verdict}" aria-label=${words.label}>${words.glyph}</span>
        <span class="text">${row.stage} · ${row.name}</span>
        <span class="number">${value === undefined ? "—" : formatDifference(value)}</span>
      </button>`;
    })}
    ${
      rows.length > longestChain
        ? html`<span class="muted">and ${rows.length - longestChain} more</span>`
        : nothing
    }
  </div>`;
}
