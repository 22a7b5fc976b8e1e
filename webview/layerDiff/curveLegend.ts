import { html, type TemplateResult } from "lit";
import type { ShownReport } from "./panelState.js";
import { labelOf } from "./reportModel.js";

/** What the lines and marks of the curve are. */
export function curveLegend({ model, pairModel }: ShownReport): TemplateResult {
  return html`<div class="legend" aria-hidden="true">
    <span>relL2 over depth</span>
    ${model.pairs.map(
      (item, index) =>
        html`<span
          ><i class="swatch series-${index % 4} ${item === pairModel ? "" : "other"}"></i
          >${labelOf(model, item.pair.candidate)}</span
        >`,
    )}
    <span><span class="row-origin">◆</span> origin</span>
    <span><i class="swatch gate"></i>gate</span>
    <span><i class="swatch noise"></i>noise floor</span>
  </div>`;
}

/** The curve in words, for those who do not see the canvas. */
export function curveLabel({ pairModel }: ShownReport): string {
  return `Error over depth, relL2 on a log axis; ${pairModel.originRows.length} origins. The list has every value.`;
}
