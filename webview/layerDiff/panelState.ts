import type { Row, Site } from "../../engine/protocol/report.js";
import type { PanelAddress } from "../../engine/protocol/requests.js";
import { decodeAddress, type ShowStateMessage } from "../protocol/messages.js";
import type { PairModel, ReportModel } from "./reportModel.js";
import type { TreeGroup, TreeLine } from "./tree.js";

export type PanelView = "layers" | "parameters" | "run";

/** Everything that the panel draws. */
export interface PanelState {
  host: ShowStateMessage;
  /** Why the last message could not be drawn; the former report stays. */
  fault: string | undefined;
  stale: readonly string[];
  shown: ShownReport | undefined;
  kept: KeptState;
}

/** A report with one of its pairs chosen, and what follows from the choice. */
export interface ShownReport {
  model: ReportModel;
  pairModel: PairModel;
  tree: readonly TreeGroup[];
  lines: readonly TreeLine[];
  /** Index into `lines` of the line that the keyboard is on; −1 when the filter hides it. */
  activeIndex: number;
  row: Row | undefined;
  /** The origin that was asked for; a row can belong to several. */
  originId: string | undefined;
}

/** What survives a reload: where the user was, never what was compared. */
export interface KeptState {
  address: PanelAddress;
  view: PanelView;
  filter: string;
  originsOnly: boolean;
  /** The tree node that the keyboard is on: a selected row's, or a group's. */
  activeNode: string | undefined;
  /** Folded groups; undefined until the user folds one: the report's own default holds. */
  folded: readonly string[] | undefined;
}

/** What the views may ask for. */
export interface PanelActions {
  selectCandidate(id: string): void;
  selectRow(id: string): void;
  selectOrigin(id: string): void;
  /** +1 the next origin, −1 the previous one, around the ends. */
  stepOrigin(direction: 1 | -1): void;
  activateLine(index: number): void;
  toggleGroup(id: string): void;
  setFilter(text: string): void;
  setOriginsOnly(on: boolean): void;
  setView(view: PanelView): void;
  openSite(site: Site | undefined, beside: boolean): void;
  copy(text: string): void;
  ask(what: "runAgain" | "runParity" | "cancel" | "showLog"): void;
}

export const freshState: KeptState = {
  address: {},
  view: "layers",
  filter: "",
  originsOnly: false,
  activeNode: undefined,
  folded: undefined,
};

/** Decodes what `getState` gave back. Another version of the panel may have written it: what does not fit is dropped. */
export function decodeKeptState(value: unknown): KeptState {
  if (typeof value !== "object" || value === null) return freshState;
  const { address, view, filter, originsOnly, activeNode, folded } = value as Record<
    string,
    unknown
  >;
  return {
    address: decodeAddress(address) ?? {},
    view: view === "parameters" || view === "run" ? view : "layers",
    filter: typeof filter === "string" ? filter : "",
    originsOnly: originsOnly === true,
    activeNode: typeof activeNode === "string" ? activeNode : undefined,
    folded: Array.isArray(folded)
      ? folded.filter((id): id is string => typeof id === "string")
      : undefined,
  };
}
