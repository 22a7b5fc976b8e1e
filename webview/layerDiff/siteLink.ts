import { html, nothing, type TemplateResult } from "lit";
import type { Site } from "../../engine/protocol/report.js";
import type { PanelActions } from "./panelState.js";
import { siteLabel, siteTitle } from "./reportModel.js";

/** A source position that opens in the editor; with Ctrl, Cmd or Alt held it opens beside. */
export function siteLink(
  site: Site | undefined,
  actions: PanelActions,
  absent = "—",
): TemplateResult {
  if (!site) return html`<span class="muted">${absent}</span>`;
  return html`<button
    class="link mono"
    type="button"
    title=${`${siteTitle(site)}\nCtrl+click opens it beside`}
    @click=${(event: MouseEvent) => {
      event.stopPropagation();
      actions.openSite(site, event.ctrlKey || event.metaKey || event.altKey);
    }}
  >
    ${siteLabel(site)}
  </button>`;
}

/** The source line itself, as far as the report carries it. */
export function codeLine(text: string | undefined): TemplateResult | typeof nothing {
  return text ? html`<code class="code-line" title=${text}>${text}</code>` : nothing;
}
