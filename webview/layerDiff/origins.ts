import { html, nothing, type TemplateResult } from "lit";
import type { Origin, Problem } from "../../engine/protocol/report.js";
import { formatDifference, fullPrecision, plural } from "../ui/format.js";
import type { PanelActions, ShownReport } from "./panelState.js";
import { lineText, type ReportModel } from "./reportModel.js";
import { codeLine, siteLink } from "./siteLink.js";

/** The lines to look at: one entry for each site, however many layers it serves. */
export function originList(shown: ShownReport, actions: PanelActions): unknown {
  const { origins } = shown.pairModel.pair;
  if (origins.length === 0) return nothing;
  const ofRow = shown.row ? (shown.pairModel.originsByRow.get(shown.row.id) ?? []) : [];
  const selected = ofRow.find(({ id }) => id === shown.originId) ?? ofRow[0];
  return html`<section class="origins" aria-label="Origins">
    ${origins.map((origin) => originEntry(shown, origin, origin === selected, actions))}
  </section>`;
}

function originEntry(
  { model }: ShownReport,
  origin: Origin,
  selected: boolean,
  actions: PanelActions,
): TemplateResult {
  const instances = origin.instances.map(({ instance }) => instance);
  return html`<div
    class="origin ${selected ? "selected" : ""}"
    @click=${() => actions.selectOrigin(origin.id)}
  >
    <span class="glyph row-origin" aria-hidden="true">◆</span>
    <span class="origin-site">${siteLink(origin.site, actions)}</span>
    ${codeLine(lineText(model, origin.site) ?? " ")}
    <button
      type="button"
      class="origin-facts"
      title=${`introduced ${fullPrecision(origin.introduced)}\n${instances.join("\n")}`}
      @click=${(event: Event) => {
        event.stopPropagation();
        actions.selectOrigin(origin.id);
      }}
    >
      ${origin.kind === "op" ? nothing : html`${kindText(origin.kind)} · `}${
        instances.length > 1 ? plural(instances.length, "instance") : origin.stage
      }
      · introduced <b>${formatDifference(origin.introduced)}</b>
    </button>
    ${more(model, origin, actions)}
  </div>`;
}

/** The cause, and the line of the reference that it should match. */
function more(model: ReportModel, origin: Origin, actions: PanelActions): unknown {
  const { cause, referenceSite } = origin;
  if (!cause && !referenceSite) return nothing;
  const text = referenceSite && lineText(model, referenceSite);
  return html`<span class="origin-more" title=${cause?.text ?? ""}
    >${cause?.text}
    ${
      referenceSite
        ? html`${cause ? " · " : ""}reference ${siteLink(referenceSite, actions)}
          ${text ? html`<code>${text}</code>` : nothing}`
        : nothing
    }</span
  >`;
}

const kindTexts: Partial<Record<Origin["kind"], string>> = {
  operand: "wrong operand",
  missingStep: "missing step",
  extraStep: "extra step",
  order: "wrong order",
  staleEngine: "stale engine",
};

function kindText(kind: Origin["kind"]): string {
  return kindTexts[kind] ?? kind;
}

/** What the run could not do or doubts, each with its next step. */
export function problemList(problems: readonly Problem[], actions: PanelActions): unknown {
  if (problems.length === 0) return nothing;
  const glyphs = { error: "✗", warning: "!", information: "i" } as const;
  return html`<section class="problems" aria-label="Problems">
    ${problems.map(
      (problem) =>
        html`<div class="problem problem-${problem.severity}" title=${problem.code}>
          <span class="glyph" aria-label=${problem.severity}
            >${glyphs[problem.severity] ?? "i"}</span
          >
          <span
            >${problem.message} <span class="muted">${problem.nextStep}</span> ${
              problem.site ? siteLink(problem.site, actions) : nothing
            }</span
          >
        </div>`,
    )}
  </section>`;
}
