import { html, nothing, type TemplateResult } from "lit";
import type { Implementation, Parameter } from "../../engine/protocol/report.js";
import { formatDifference, formatShape, fullPrecision, plural } from "../ui/format.js";
import type { PanelActions, ShownReport } from "./panelState.js";
import { siteLink } from "./siteLink.js";
import { wordsOfPairing } from "./words.js";

type Category = Exclude<keyof Implementation["parameters"], "total">;

/** Worst first. A parameter that kept its own initialisation is often the whole answer. */
const categories: readonly {
  key: Category;
  title: string;
  meaning: string;
  row: string;
}[] = [
  {
    key: "notFromReference",
    title: "Never came from the reference",
    meaning: "They kept the values that the candidate itself gave them.",
    row: "origin",
  },
  {
    key: "different",
    title: "Different values",
    meaning: "Paired, and their values differ.",
    row: "origin",
  },
  {
    key: "transposed",
    title: "Same values, transposed",
    meaning: "A square matrix stored transposed passes every check of shapes.",
    row: "expected",
  },
  {
    key: "missing",
    title: "Missing in the candidate",
    meaning: "The reference has them, the candidate does not.",
    row: "unknown",
  },
  {
    key: "same",
    title: "Same",
    meaning: "Equal to the reference's.",
    row: "match",
  },
];

const glyphs: Record<string, string> = {
  origin: "◆",
  expected: "≈",
  unknown: "?",
  match: "✓",
};

/** How many parameters deserve a look, for the tab's label. */
export function suspectParameters(shown: ShownReport): number {
  const parameters = candidateOf(shown)?.parameters;
  if (!parameters) return 0;
  return (
    parameters.notFromReference.length + parameters.different.length + parameters.missing.length
  );
}

export function parametersView(shown: ShownReport, actions: PanelActions): TemplateResult {
  const candidate = candidateOf(shown);
  if (!candidate || candidate.parameters.total === 0) {
    return html`<p class="nothing">The candidate has no parameters in this report.</p>`;
  }
  const { parameters } = candidate;
  return html`<div class="page">
    ${categories.map(({ key, title, meaning, row }) => {
      const items = parameters[key];
      if (items.length === 0) return nothing;
      return html`<details class="category" data-category=${key} ?open=${key !== "same"}>
        <summary>
          <span class="glyph row-${row}" aria-hidden="true">${glyphs[row]}</span>
          <b>${title}</b>
          <span class="muted">${items.length} of ${parameters.total}. ${meaning}</span>
        </summary>
        ${table(items, actions)}
      </details>`;
    })}
    ${
      candidate.unusedInputs.length > 0
        ? html`<p>
            ${plural(candidate.unusedInputs.length, "input")} that nothing uses:
            <span class="mono">${candidate.unusedInputs.join(", ")}</span>
          </p>`
        : nothing
    }
  </div>`;
}

function candidateOf({ model, pairModel }: ShownReport): Implementation | undefined {
  return model.implementations.get(pairModel.pair.candidate);
}

function table(items: readonly Parameter[], actions: PanelActions): TemplateResult {
  return html`<table class="parameters">
    <thead>
      <tr>
        <th>parameter</th>
        <th>shape</th>
        <th>declared</th>
        <th>used</th>
        <th>reference</th>
        <th class="number">relL2</th>
      </tr>
    </thead>
    <tbody>
      ${items.map(
        ({ name, shape, dtype, site, usedAt, reference, howPaired, relL2 }) =>
          html`<tr>
            <td class="mono long" title=${name}>${name}</td>
            <td class="mono" title=${dtype}>${formatShape(shape)}</td>
            <td>${siteLink(site, actions)}</td>
            <td>
              ${usedAt.length === 0 ? html`<span class="muted">—</span>` : siteLink(usedAt[0], actions)}
              ${usedAt.length > 1 ? html`<span class="muted">+${usedAt.length - 1}</span>` : nothing}
            </td>
            <td class="long" title=${reference?.name ?? ""}>
              ${
                reference
                  ? html`${reference.site ? siteLink(reference.site, actions) : nothing}
                      <span
                        class="mono muted"
                        title=${`${reference.name}${howPaired ? `\n${wordsOfPairing(howPaired)}` : ""}`}
                        >${reference.name}</span
                      >`
                  : html`<span class="muted">—</span>`
              }
            </td>
            <td class="number">
              ${
                relL2 === undefined
                  ? html`<span class="muted">—</span>`
                  : html`<span title=${fullPrecision(relL2)}>${formatDifference(relL2)}</span>`
              }
            </td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}
