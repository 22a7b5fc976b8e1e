import { html, nothing, type TemplateResult } from "lit";
import { join } from "lit/directives/join.js";
import type { Implementation, Pair } from "../../engine/protocol/report.js";
import { fromWire } from "../../engine/protocol/wire.js";
import {
  formatAge,
  formatDifference,
  formatDuration,
  formatShare,
  fullPrecision,
  plural,
} from "../ui/format.js";
import type { PanelActions, PanelState, ShownReport } from "./panelState.js";
import { labelOf } from "./reportModel.js";
import { wordsOfVerdict } from "./words.js";

/** The verdict in one sentence, what ran, and what the whole report says about the chosen candidate. */
export function summary(
  state: PanelState,
  shown: ShownReport,
  actions: PanelActions,
  now: number,
): TemplateResult {
  const { report } = shown.model;
  const words = wordsOfVerdict(report.verdict);
  const running = state.host.state === "running";
  return html`
    <header class="summary">
      <div class="headline">
        <span class="verdict verdict-${words.label.toLowerCase()}" title=${words.meaning}>
          <span aria-hidden="true">${words.glyph}</span> ${words.label}
        </span>
        <h1 title=${report.summary}>${report.summary}</h1>
        <div class="toolbar">
          ${candidateToggles(shown, actions)}
          <vscode-button
            appearance="secondary"
            title="Run the comparison again"
            ?disabled=${running}
            @click=${() => actions.ask("runAgain")}
            >Run Again</vscode-button
          >
          <vscode-button
            appearance="secondary"
            title="Copy the summary and the origins as text"
            @click=${() => actions.copy(reportText(shown))}
            >Copy</vscode-button
          >
        </div>
      </div>
      <p class="facts">${join(facts(shown, now), " · ")}</p>
      ${statements(shown)}
    </header>
  `;
}

/** The report as plain text, for an issue or a chat. Numbers are in full. */
export function reportText({ model, pairModel }: ShownReport): string {
  const { report } = model;
  const lines = [`${wordsOfVerdict(report.verdict).label}: ${report.summary}`];
  for (const origin of pairModel.pair.origins) {
    lines.push(
      `- ${origin.site.file}:${origin.site.line} (${origin.stage}): introduced relL2 ${fullPrecision(origin.introduced)}` +
        (origin.referenceSite
          ? `, reference ${origin.referenceSite.file}:${origin.referenceSite.line}`
          : "") +
        (origin.cause ? `. ${origin.cause.text}` : ""),
    );
  }
  const { coverage } = pairModel.pair;
  lines.push(`Coverage: ${coverage.covered} of ${coverage.total} ops.`);
  return lines.join("\n");
}

function candidateToggles({ model, pairModel }: ShownReport, actions: PanelActions): unknown {
  if (model.pairs.length < 2) return nothing;
  return html`<div class="candidates" role="radiogroup" aria-label="Candidate">
    ${model.pairs.map((item) => {
      const words = wordsOfVerdict(item.pair.verdict);
      const chosen = item === pairModel;
      return html`<button
        type="button"
        role="radio"
        class="candidate"
        aria-checked=${chosen ? "true" : "false"}
        title=${`${labelOf(model, item.pair.candidate)}: ${words.label}`}
        @click=${() => actions.selectCandidate(item.pair.candidate)}
      >
        <span class="glyph verdict-${words.label.toLowerCase()}" aria-hidden="true"
          >${words.glyph}</span
        >
        ${labelOf(model, item.pair.candidate)}
      </button>`;
    })}
  </div>`;
}

function facts({ model, pairModel }: ShownReport, now: number): TemplateResult[] {
  const { run } = model.report;
  const { pair } = pairModel;
  const candidate = model.implementations.get(pair.candidate);
  const age = formatAge(run.startedAt, now);
  const items: (TemplateResult | undefined)[] = [
    fact(run.script?.file ?? run.runFile, "what ran"),
    fact(
      `${labelOf(model, pair.reference)} → ${labelOf(model, pair.candidate)}`,
      "reference → candidate",
    ),
    fact(
      `coverage ${coverageText(pair)}`,
      `${pair.coverage.covered} of ${pair.coverage.total} float ops of the candidate are paired or inside a compared segment, ` +
        `${pair.coverage.paired} with their own output; ` +
        `a pass needs ${formatShare(pair.coverage.threshold)}`,
    ),
    candidate && fact(ranOn(candidate), `${candidate.executor}, ${candidate.precision}`),
    fact(
      typeof run.durationMs === "number" ? formatDuration(run.durationMs) : undefined,
      run.cache === "hit" ? "from the cache" : "duration of the run",
    ),
    age === undefined ? undefined : fact(age, run.startedAt),
  ];
  return items.filter((item) => item !== undefined);
}

function coverageText({ coverage }: Pair): string {
  return coverage.total > 0 ? formatShare(coverage.covered / coverage.total) : "—";
}

function ranOn(implementation: Implementation): string {
  const { executor, provider, device } = implementation;
  const where = device && device !== provider ? `${provider} (${device})` : provider;
  return [executor, where].filter(Boolean).join(", ");
}

function fact(text: string | undefined, title: string): TemplateResult | undefined {
  return text ? html`<span title=${title}>${text}</span>` : undefined;
}

/** One sentence each: how close the output is, the user's own check, the proof, the parameters, what was not compared. */
function statements({ model, pairModel }: ShownReport): TemplateResult {
  const { pair, rows } = pairModel;
  const parameters = model.implementations.get(pair.candidate)?.parameters;
  const strangers = parameters?.notFromReference.length ?? 0;
  const unknown = rows.filter((row) => row.verdict === "unknown");
  const lost = unknown.filter((row) => row.pairedBy === undefined).length;
  const unjudged = unknown.length - lost;
  const compared = rows.filter((row) => row.metrics !== undefined);
  const passes = pair.verdict === "pass" || pair.verdict === "warn";
  return html`<ul class="statements">
    ${passes ? html`<li>${passText(compared.length, pair)}</li>` : html`<li>${outputText(pair)}</li>`}
    ${
      strangers > 0 && parameters
        ? html`<li>
            <b>${strangers} of ${plural(parameters.total, "parameter")}</b>
            never came from the reference.
          </li>`
        : nothing
    }
    ${ownCheck(pair)} ${repairProof(pair)}
    ${
      lost > 0
        ? html`<li>
            ${plural(lost, "row")} ${lost === 1 ? "has" : "have"} no counterpart of
            ${lost === 1 ? "its" : "their"} own; each says why (filter
            <span class="mono">unknown</span>).
          </li>`
        : nothing
    }
    ${
      unjudged > 0 ? html`<li>${plural(unjudged, "paired row")} could not be judged.</li>` : nothing
    }
  </ul>`;
}

/** A pass has to be earned: it says how much was compared and how close it came. */
function passText(compared: number, pair: Pair): TemplateResult {
  return html`${plural(compared, "tensor")}
  compared${pair.verdict === "pass" ? ", all within their gates" : ""}. ${outputText(pair)}`;
}

function outputText({ output, noiseFloor }: Pair): TemplateResult {
  if (output.relL2 === undefined) return html`The output could not be compared.`;
  const off = fromWire(output.relL2) === 0;
  return html`<span title=${`relL2 ${fullPrecision(output.relL2)}`}
    >${
      off
        ? "The output is bit for bit the reference's."
        : `Output relL2 ${formatDifference(output.relL2)}`
    }${
      off || noiseFloor === undefined
        ? nothing
        : `; honest rounding makes ${formatDifference(noiseFloor)} there.`
    }</span
  >`;
}

function ownCheck({ ownCheck: check, verdict }: Pair): TemplateResult | typeof nothing {
  if (!check) return nothing;
  const rtol = check.rtol === 0 ? "" : `, rtol ${check.rtol}`;
  const blind = check.passes && verdict === "fail";
  return html`<li>
    The script's own check (atol ${check.atol}${rtol})
    ${check.passes ? (blind ? html`passes: <b>it does not notice</b>.` : "passes.") : "fails too."}
  </li>`;
}

function repairProof({ repair }: Pair): TemplateResult | typeof nothing {
  if (!repair || repair.tensors === 0) return nothing;
  const what = `${plural(repair.sites, "line")} (${plural(repair.tensors, "tensor")})`;
  const after = formatDifference(repair.outputRelL2After);
  return html`<li title=${`relL2 ${fullPrecision(repair.outputRelL2After)} after the repair`}>
    With ${what} put right the output is ${after === "exact" ? "exact" : `${after} off`}:
    ${repair.proves ? "that explains the whole difference." : "something else differs as well."}
  </li>`;
}
