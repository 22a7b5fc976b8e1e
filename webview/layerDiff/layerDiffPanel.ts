import { html, nothing, render, type TemplateResult } from "lit";
import type { Report, Site } from "../../engine/protocol/report.js";
import type { PanelAddress } from "../../engine/protocol/requests.js";
import type { Host } from "../host.js";
import type { HostMessage } from "../protocol/messages.js";
import { onThemeChange } from "../ui/theme.js";
import { VirtualList } from "../ui/virtualList.js";
import { curveDataOf } from "./curveData.js";
import { curveLabel, curveLegend } from "./curveLegend.js";
import { detail } from "./detail.js";
import { ErrorCurve } from "./errorCurve.js";
import { originList, problemList } from "./origins.js";
import {
  decodeKeptState,
  type KeptState,
  type PanelActions,
  type PanelState,
  type PanelView,
  type ShownReport,
} from "./panelState.js";
import { parametersView, suspectParameters } from "./parameters.js";
import {
  firstRowToShow,
  labelOf,
  modelOf,
  pairAt,
  rowAt,
  type PairModel,
  type ReportModel,
} from "./reportModel.js";
import { runFacts } from "./runFacts.js";
import { notices, withoutReport } from "./states.js";
import { summary } from "./summary.js";
import { ancestorsOf, buildTree, initiallyFolded, visibleLines } from "./tree.js";
import { treeLineHeight, treeList } from "./treeList.js";
import { wordsOfRowVerdict } from "./words.js";

/** The panel: keeps what is shown and where the user is, and draws it after every change. */
export class LayerDiffPanel implements PanelActions {
  readonly #root: HTMLElement;
  readonly #host: Host;
  readonly #list: VirtualList;
  #curve: ErrorCurve | undefined;
  #curveFor: PairModel | undefined;
  #state: PanelState;
  #drawing = false;

  constructor(root: HTMLElement, host: Host) {
    this.#root = root;
    this.#host = host;
    this.#state = {
      host: { type: "showState", state: "empty" },
      fault: undefined,
      stale: [],
      shown: undefined,
      kept: decodeKeptState(host.keptState()),
    };
    this.#list = new VirtualList(
      treeLineHeight,
      () => this.#root.querySelector<HTMLElement>(".tree"),
      () => this.#draw(),
    );
    onThemeChange(() => this.#curve?.redraw());
    document.addEventListener("keydown", (event) => this.#onKey(event));
    // "3 minutes ago" has to stay true while the panel is looked at.
    setInterval(() => this.#draw(), 60_000);
    this.#draw();
  }

  receive(message: HostMessage): void {
    switch (message.type) {
      case "showReport":
        this.#showReport(message.report, message.address, message.stale ?? []);
        break;
      case "showState":
        this.#change({ host: message });
        break;
      case "select":
        this.#select(message.address, true);
        break;
      case "stale":
        this.#change({ stale: message.files });
        break;
      case "theme":
        this.#curve?.redraw();
        break;
    }
  }

  reportFault(fault: string): void {
    this.#change({ fault });
  }

  selectCandidate(candidate: string): void {
    const { row } = this.#state.shown ?? {};
    const pairModel = this.#state.shown?.model.pairs.find(
      (item) => item.pair.candidate === candidate,
    );
    // The same reference op has one key in every pair: the user stays where they were.
    const same = row && pairModel?.rows.find(({ key }) => key === row.key);
    this.#select({ candidate, ...(same && { row: same.id }) }, true);
  }

  selectRow(row: string): void {
    const { shown } = this.#state;
    if (shown) this.#select({ candidate: shown.pairModel.pair.candidate, row }, true);
  }

  selectOrigin(origin: string): void {
    const { shown } = this.#state;
    const row = shown && rowAt(shown.pairModel, { origin });
    if (row) this.#select({ candidate: shown.pairModel.pair.candidate, row: row.id, origin }, true);
  }

  stepOrigin(direction: 1 | -1): void {
    const { shown } = this.#state;
    if (!shown || shown.pairModel.originRows.length === 0) return;
    const { originRows } = shown.pairModel;
    const order = shown.row?.order ?? -Infinity;
    const next =
      direction > 0
        ? (originRows.find((row) => row.order > order) ?? originRows[0])
        : (originRows.findLast((row) => row.order < order) ?? originRows.at(-1));
    if (next) this.selectRow(next.id);
  }

  activateLine(index: number): void {
    const { shown } = this.#state;
    const node = shown?.lines[index]?.node;
    if (!shown || !node) return;
    if (node.kind === "row") this.selectRow(node.row.id);
    else this.#keep({ activeNode: node.id });
    this.#revealActive();
  }

  toggleGroup(id: string): void {
    const { shown, kept } = this.#state;
    if (!shown) return;
    const folded = new Set(kept.folded ?? initiallyFolded(shown.tree, shown.pairModel.rows.length));
    if (!folded.delete(id)) folded.add(id);
    this.#keep({ folded: [...folded], activeNode: id });
  }

  setFilter(filter: string): void {
    this.#keep({ filter });
  }

  setOriginsOnly(originsOnly: boolean): void {
    this.#keep({ originsOnly });
  }

  setView(view: PanelView): void {
    if (view !== this.#state.kept.view) this.#keep({ view });
  }

  openSite(site: Site | undefined, beside: boolean): void {
    if (!site) return;
    const { file, line, column } = site;
    this.#host.send({
      type: "openSite",
      file,
      line,
      ...(column !== undefined && { column }),
      beside,
    });
  }

  copy(text: string): void {
    this.#host.send({ type: "copy", text });
  }

  ask(what: "runAgain" | "runParity" | "cancel" | "showLog"): void {
    this.#host.send({ type: what });
  }

  #showReport(report: Report, address: PanelAddress | undefined, stale: readonly string[]): void {
    const model = modelOf(report);
    const at = address ?? this.#state.kept.address;
    const pairModel = pairAt(model, at);
    if (!pairModel) {
      this.#change({
        fault: "the report compares nothing: it has no pair",
        shown: undefined,
      });
      return;
    }
    this.#state = { ...this.#state, fault: undefined, stale, shown: undefined };
    const row = rowAt(pairModel, at) ?? firstRowToShow(pairModel);
    const kept = row ? undefined : this.#state.kept.activeNode;
    this.#goTo(model, pairModel, row?.id, at.origin, kept);
  }

  #select(address: PanelAddress, tell: boolean): void {
    const { shown, kept } = this.#state;
    if (!shown) {
      // The report may still be on its way; it will be shown at this address.
      this.#keep({ address });
      return;
    }
    const pairModel = pairAt(shown.model, {
      candidate: shown.pairModel.pair.candidate,
      ...address,
    });
    if (!pairModel) return;
    const row = rowAt(pairModel, address);
    const before = kept.address;
    this.#goTo(shown.model, pairModel, row?.id, address.origin, undefined);
    const after = this.#state.kept.address;
    const parts = ["candidate", "row", "origin"] as const;
    if (tell && parts.some((part) => before[part] !== after[part])) {
      this.#host.send({ type: "selectionChanged", address: after });
    }
  }

  /** Shows a row of a pair, its groups opened and itself in view. */
  #goTo(
    model: ReportModel,
    pairModel: PairModel,
    rowId: string | undefined,
    origin: string | undefined,
    activeNode: string | undefined,
  ): void {
    const former = this.#state.shown;
    const tree = former?.pairModel === pairModel ? former.tree : buildTree(pairModel.rows);
    const { kept } = this.#state;
    const above = rowId === undefined ? [] : ancestorsOf(tree, rowId);
    const folded = kept.folded ?? [...initiallyFolded(tree, pairModel.rows.length)];
    this.#state = {
      ...this.#state,
      shown: {
        model,
        pairModel,
        tree,
        lines: [],
        activeIndex: -1,
        row: undefined,
        originId: undefined,
      },
    };
    this.#keep({
      address: {
        candidate: pairModel.pair.candidate,
        ...(rowId !== undefined && { row: rowId }),
        ...(origin !== undefined && { origin }),
      },
      activeNode: rowId === undefined ? activeNode : `row:${rowId}`,
      ...(above.some((id) => folded.includes(id)) && {
        folded: folded.filter((id) => !above.includes(id)),
      }),
    });
    this.#revealActive();
  }

  #keep(change: Partial<KeptState>): void {
    const kept = { ...this.#state.kept, ...change };
    const { shown } = this.#state;
    this.#host.keepState(kept);
    this.#change({ kept, ...(shown && { shown: follow(shown, kept) }) });
  }

  #change(change: Partial<PanelState>): void {
    this.#state = { ...this.#state, ...change };
    this.#draw();
  }

  #revealActive(): void {
    const index = this.#state.shown?.activeIndex ?? -1;
    if (index >= 0) requestAnimationFrame(() => this.#list.reveal(index));
  }

  #draw(): void {
    // The virtual list reports changes while it is being asked for its lines: one drawing at a time.
    if (this.#drawing) {
      requestAnimationFrame(() => this.#draw());
      return;
    }
    this.#drawing = true;
    try {
      render(this.#view(), this.#root);
      this.#list.drawn();
      this.#drawCurve();
    } catch (error) {
      const fault = error instanceof Error ? error.message : String(error);
      this.#state = {
        ...this.#state,
        shown: undefined,
        fault: `it could not be drawn (${fault})`,
      };
      render(this.#view(), this.#root);
    } finally {
      this.#drawing = false;
    }
  }

  #view(): TemplateResult {
    const { shown, host, kept } = this.#state;
    if (!shown) return withoutReport(this.#state, this);
    const suspects = suspectParameters(shown);
    return html`<div class="panel ${host.state === "running" ? "dimmed" : ""}">
      ${notices(this.#state, this)} ${summary(this.#state, shown, this, Date.now())}
      ${problemList(shown.model.report.problems, this)} ${originList(shown, this)}
      <vscode-panels
        activeid=${`tab-${kept.view}`}
        @change=${(event: Event) => {
          const { activeid } = event.currentTarget as HTMLElement & {
            activeid?: string;
          };
          const view = activeid?.slice("tab-".length);
          if (view === "layers" || view === "parameters" || view === "run") this.setView(view);
        }}
      >
        <vscode-panel-tab id="tab-layers">Layers</vscode-panel-tab>
        <vscode-panel-tab id="tab-parameters"
          >Parameters
          ${suspects > 0 ? html`<span class="count">${suspects}</span>` : nothing}</vscode-panel-tab
        >
        <vscode-panel-tab id="tab-run">Run</vscode-panel-tab>
        <vscode-panel-view>
          <div class="layers">
            ${curveLegend(shown)}
            <div class="curve" role="img" aria-label=${curveLabel(shown)}></div>
            <div class="split">
              ${treeList(this.#state, shown, this.#list, this)} ${detail(shown, this)}
            </div>
          </div>
        </vscode-panel-view>
        <vscode-panel-view>${parametersView(shown, this)}</vscode-panel-view>
        <vscode-panel-view>${runFacts(shown)}</vscode-panel-view>
      </vscode-panels>
      <div class="spoken" role="status" aria-live="polite">${spokenSelection(shown)}</div>
    </div>`;
  }

  #drawCurve(): void {
    const { shown } = this.#state;
    const element = this.#root.querySelector<HTMLElement>(".curve");
    if (!shown || !element) {
      this.#curve?.dispose();
      this.#curve = undefined;
      this.#curveFor = undefined;
      return;
    }
    this.#curve ??= new ErrorCurve(element, (row) => this.selectRow(row));
    if (this.#curveFor !== shown.pairModel) {
      this.#curveFor = shown.pairModel;
      const { pairs } = shown.model;
      const labels = pairs.map(({ pair }) => labelOf(shown.model, pair.candidate));
      this.#curve.show(curveDataOf(pairs, shown.pairModel), labels);
    }
    this.#curve.select(shown.row?.id);
  }

  #onKey(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#state.shown) return;
    const inField = event.target instanceof Element && event.target.closest("vscode-text-field");
    if (inField) {
      if (event.key === "Escape") {
        this.setFilter("");
        this.#root.querySelector<HTMLElement>(".tree")?.focus();
      }
      return;
    }
    if (event.key === "n" || event.key === "N") this.stepOrigin(1);
    else if (event.key === "p" || event.key === "P") this.stepOrigin(-1);
    else if (event.key === "/") {
      event.preventDefault();
      this.setView("layers");
      this.#root.querySelector<HTMLElement>("#filter")?.focus();
    }
  }
}

/** The lines and the selection that follow from what is kept. */
function follow(shown: ShownReport, kept: KeptState): ShownReport {
  const folded = new Set(kept.folded ?? initiallyFolded(shown.tree, shown.pairModel.rows.length));
  const lines = visibleLines(shown.tree, folded, {
    text: kept.filter.toLowerCase(),
    originsOnly: kept.originsOnly,
  });
  const active = lines.findIndex(({ node }) => node.id === kept.activeNode);
  return {
    ...shown,
    lines,
    activeIndex: active >= 0 ? active : lines.length > 0 && kept.activeNode === undefined ? 0 : -1,
    row: rowAt(shown.pairModel, kept.address),
    originId: kept.address.origin,
  };
}

function spokenSelection({ row, pairModel }: ShownReport): string {
  if (!row) return "";
  const place = pairModel.originRows.indexOf(row);
  const origin = place < 0 ? "" : `, origin ${place + 1} of ${pairModel.originRows.length}`;
  return `${row.stage}, ${row.name}, ${wordsOfRowVerdict(row.verdict).label}${origin}`;
}
