import { html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import type { Site } from "../../engine/protocol/report.js";
import type { WireNumber } from "../../engine/protocol/wire.js";
import { cssProperties } from "../ui/cssProperties.js";
import { formatDifference, fullPrecision, plural } from "../ui/format.js";
import type { VirtualList } from "../ui/virtualList.js";
import type { PanelActions, PanelState, ShownReport } from "./panelState.js";
import { siteLabel, siteTitle } from "./reportModel.js";
import type { TreeGroup, TreeLeaf, TreeLine } from "./tree.js";
import { wordsOfRowVerdict } from "./words.js";

/** In CSS pixels; `.tree-line` in the style sheet has the same. */
export const treeLineHeight = 22;

/** Layers, stages and rows of the chosen candidate. One tab stop: the tree has the focus, a line is only active. */
export function treeList(
  state: PanelState,
  shown: ShownReport,
  list: VirtualList,
  actions: PanelActions,
): TemplateResult {
  const { lines, activeIndex } = shown;
  list.update(lines.length, activeIndex);
  const active = lines[activeIndex];
  return html`<section class="list" aria-label="Layers">
    ${listTools(state, shown, actions)}
    <div class="tree-head" aria-hidden="true">
      <span>layer, stage, tensor</span>
      <span class="number" title="Total difference: ‖c − r‖₂ / ‖r‖₂">relL2</span>
      <span class="number" title="What the line itself adds, with the reference's inputs"
        >introduced</span
      >
      <span class="number inherited" title="What comes in with the inputs">inherited</span>
      <span class="place">candidate</span>
    </div>
    <div
      class="tree"
      role="tree"
      tabindex="0"
      aria-label="Layers, stages and tensors"
      aria-activedescendant=${active ? lineId(activeIndex) : nothing}
      @keydown=${(event: KeyboardEvent) => onTreeKey(event, shown, list, actions)}
    >
      ${lines.length === 0 ? html`<p class="nothing">${nothingFound(state)}</p>` : nothing}
      <div class="tree-lines" role="presentation" ${cssProperties({ height: `${list.height}px` })}>
        ${repeat(
          list.lines,
          ({ index }) => lines[index]?.node.id ?? index,
          ({ index, start }) => {
            const line = lines[index];
            return line ? treeLine(line, index, start, index === activeIndex, actions) : nothing;
          },
        )}
      </div>
    </div>
  </section>`;
}

function listTools(state: PanelState, shown: ShownReport, actions: PanelActions): TemplateResult {
  const { originRows, rows } = shown.pairModel;
  const none = originRows.length === 0;
  return html`<div class="list-tools">
    <vscode-text-field
      id="filter"
      placeholder="Filter (/)"
      aria-label="Filter by name, stage, verdict or file:line"
      .value=${state.kept.filter}
      @input=${(event: Event) => actions.setFilter((event.target as HTMLInputElement).value)}
    ></vscode-text-field>
    <vscode-checkbox
      .checked=${state.kept.originsOnly}
      @change=${(event: Event) => actions.setOriginsOnly((event.target as HTMLInputElement).checked)}
      >Origins only</vscode-checkbox
    >
    <span class="spring"></span>
    <span class="muted"
      >${none ? plural(rows.length, "row") : plural(originRows.length, "origin")}</span
    >
    <vscode-button
      appearance="icon"
      aria-label="Previous origin"
      title="Previous origin (P)"
      ?disabled=${none}
      @click=${() => actions.stepOrigin(-1)}
      ><span aria-hidden="true">↑</span></vscode-button
    >
    <vscode-button
      appearance="icon"
      aria-label="Next origin"
      title="Next origin (N)"
      ?disabled=${none}
      @click=${() => actions.stepOrigin(1)}
      ><span aria-hidden="true">↓</span></vscode-button
    >
  </div>`;
}

function nothingFound({ kept }: PanelState): string {
  if (kept.filter.trim() === "") return "No row is an origin.";
  return `Nothing matches “${kept.filter.trim()}”${kept.originsOnly ? " among the origins" : ""}.`;
}

function treeLine(
  line: TreeLine,
  index: number,
  top: number,
  active: boolean,
  actions: PanelActions,
): TemplateResult {
  const { node } = line;
  const words = wordsOfRowVerdict(node.kind === "group" ? node.verdict : node.row.verdict);
  const content =
    node.kind === "group" ? groupCells(node, line.open, actions) : rowCells(node, actions);
  return html`<div
    id=${lineId(index)}
    class="tree-line ${node.kind} level-${node.level} ${active ? "active" : ""}"
    role="treeitem"
    aria-level=${node.level}
    aria-posinset=${line.position}
    aria-setsize=${line.siblings}
    aria-selected=${active ? "true" : "false"}
    aria-expanded=${node.kind === "group" ? String(line.open) : nothing}
    aria-label=${spoken(line)}
    ${cssProperties({ transform: `translateY(${top}px)` })}
    @click=${() => actions.activateLine(index)}
    @dblclick=${() => {
      if (node.kind === "group") actions.toggleGroup(node.id);
      else actions.openSite(node.row.candidate?.site, false);
    }}
  >
    ${content(words.glyph, words.label)}
  </div>`;
}

/** "1 origin", "5" rows, or "2 of 5" where the others have no counterpart. */
function countText({ originCount, knownCount, rowCount }: TreeGroup): string {
  if (originCount > 0) return plural(originCount, "origin");
  return knownCount === rowCount ? String(rowCount) : `${knownCount} of ${rowCount}`;
}

function countTitle({ knownCount, rowCount }: TreeGroup): string {
  return knownCount === rowCount
    ? plural(rowCount, "row")
    : `${knownCount} of ${plural(rowCount, "row")} compared; the others say why not`;
}

type Cells = (glyph: string, label: string) => TemplateResult;

function groupCells(group: TreeGroup, open: boolean, actions: PanelActions): Cells {
  return (glyph, label) =>
    html`<span class="name" title=${group.label}>
        <span
          class="twistie ${open ? "open" : ""}"
          aria-hidden="true"
          @click=${(event: Event) => {
            event.stopPropagation();
            actions.toggleGroup(group.id);
          }}
        ></span>
        <span class="glyph row-${group.verdict}" title=${label}>${glyph}</span>
        <span class="text">${group.label}</span>
        <span class="count" title=${countTitle(group)}>${countText(group)}</span>
      </span>
      ${difference(group.relL2, "no row has a relL2")}
      ${difference(group.introduced, "not measured")}
      <span class="number inherited"></span><span class="place"></span>`;
}

function rowCells({ row, stage }: TreeLeaf, actions: PanelActions): Cells {
  const why = row.undefined?.relL2 ?? row.absentReason ?? "not measured";
  return (glyph, label) =>
    html`<span class="name" title=${`${row.stage} · ${row.name}`}>
        <span class="glyph row-${row.verdict}" title=${label}>${glyph}</span>
        ${
          stage === undefined
            ? html`<span class="text">${row.name}</span>`
            : html`<span class="text stage">${stage}</span
                ><span class="text muted">${row.name}</span>`
        }
      </span>
      ${difference(row.metrics?.relL2, why)} ${difference(row.introduced, why)}
      ${difference(row.inherited, why, "inherited")}
      <span class="place">${place(row.candidate?.site, actions)}</span>`;
}

/** For the pointer only: the tree is one tab stop, and Enter opens this line. */
function place(site: Site | undefined, actions: PanelActions): unknown {
  if (!site) return html`<span class="muted" title="the candidate has no such line">—</span>`;
  const open = (event: MouseEvent): void => {
    event.stopPropagation();
    actions.openSite(site, event.ctrlKey || event.metaKey || event.altKey);
  };
  const label = siteLabel(site);
  const colon = label.lastIndexOf(":");
  // Where room is short the file's name is cut, never the line number.
  return html`<span class="link mono" title=${siteTitle(site)} @click=${open}
    ><span class="text">${label.slice(0, colon)}</span><span>${label.slice(colon)}</span></span
  >`;
}

function difference(value: WireNumber | undefined, why: string, kind = ""): TemplateResult {
  if (value === undefined) return html`<span class="number muted ${kind}" title=${why}>—</span>`;
  const text = formatDifference(value);
  return html`<span
    class="number ${kind} ${text === "exact" ? "muted" : ""}"
    title=${fullPrecision(value)}
    >${text}</span
  >`;
}

function spoken({ node }: TreeLine): string {
  if (node.kind === "group") {
    const worst = wordsOfRowVerdict(node.verdict).label;
    return `${node.label}, ${worst}, ${plural(node.rowCount, "row")}, ${plural(node.originCount, "origin")}`;
  }
  const { row } = node;
  const numbers = [
    ["relL2", row.metrics?.relL2],
    ["introduced", row.introduced],
    ["inherited", row.inherited],
  ] as const;
  const said = numbers.flatMap(([name, value]) =>
    value === undefined ? [] : [`${name} ${formatDifference(value)}`],
  );
  return [row.name, row.stage, wordsOfRowVerdict(row.verdict).label, ...said].join(", ");
}

function onTreeKey(
  event: KeyboardEvent,
  { lines, activeIndex }: ShownReport,
  list: VirtualList,
  actions: PanelActions,
): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const line = lines[activeIndex];
  const node = line?.node;
  const last = lines.length - 1;
  const go = (index: number): void => actions.activateLine(Math.min(last, Math.max(0, index)));
  const keys: Record<string, () => void> = {
    ArrowDown: () => go(activeIndex + 1),
    ArrowUp: () => go(activeIndex - 1),
    PageDown: () => go(activeIndex + list.linesPerPage),
    PageUp: () => go(activeIndex - list.linesPerPage),
    Home: () => go(0),
    End: () => go(last),
    ArrowRight: () => {
      if (node?.kind !== "group") return;
      if (line?.open) go(activeIndex + 1);
      else actions.toggleGroup(node.id);
    },
    ArrowLeft: () => {
      if (node?.kind === "group" && line?.open) actions.toggleGroup(node.id);
      else if (line?.parent) go(lines.findIndex((item) => item.node === line.parent));
    },
    Enter: () => {
      if (node?.kind === "group") actions.toggleGroup(node.id);
      else if (event.shiftKey) actions.openSite(node?.row.reference?.site, false);
      else actions.openSite(node?.row.candidate?.site, false);
    },
  };
  const action = keys[event.key];
  if (!action || lines.length === 0) return;
  event.preventDefault();
  action();
}

function lineId(index: number): string {
  return `line-${index}`;
}
