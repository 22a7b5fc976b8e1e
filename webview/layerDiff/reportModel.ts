import type {
  Implementation,
  ImplementationId,
  Origin,
  Pair,
  Report,
  Row,
  RowId,
  Site,
  Source,
} from "../../engine/protocol/report.js";
import type { PanelAddress } from "../../engine/protocol/requests.js";

/** A report with the look-ups that drawing needs. Made once per report; it holds no verdict of its own. */
export interface ReportModel {
  report: Report;
  pairs: PairModel[];
  implementations: ReadonlyMap<ImplementationId, Implementation>;
  sources: ReadonlyMap<string, Source>;
}

export interface PairModel {
  pair: Pair;
  /** In execution order. */
  rows: Row[];
  rowById: ReadonlyMap<RowId, Row>;
  /** More than one where an op uses two wrong parameters. */
  originsByRow: ReadonlyMap<RowId, readonly Origin[]>;
  /** Rows with the verdict `origin`, in execution order. */
  originRows: Row[];
}

export function modelOf(report: Report): ReportModel {
  return {
    report,
    pairs: report.pairs.map(pairModelOf),
    implementations: new Map(report.implementations.map((item) => [item.id, item])),
    sources: new Map(report.sources.map((source) => [source.file, source])),
  };
}

function pairModelOf(pair: Pair): PairModel {
  const rows = [...pair.rows].sort((a, b) => a.order - b.order);
  const originsByRow = new Map<RowId, Origin[]>();
  for (const origin of pair.origins) {
    for (const { row } of origin.instances) {
      originsByRow.set(row, [...(originsByRow.get(row) ?? []), origin]);
    }
  }
  return {
    pair,
    rows,
    rowById: new Map(rows.map((row) => [row.id, row])),
    originsByRow,
    originRows: rows.filter((row) => row.verdict === "origin" || originsByRow.has(row.id)),
  };
}

/** The pair that an address names, else the first that is not a pass, else the first. */
export function pairAt(model: ReportModel, address: PanelAddress): PairModel | undefined {
  return (
    model.pairs.find(({ pair }) => pair.candidate === address.candidate) ??
    model.pairs.find(({ pair }) => pair.verdict !== "pass") ??
    model.pairs[0]
  );
}

/** The row that an address names: its row, else the first instance of its origin. */
export function rowAt(pairModel: PairModel, address: PanelAddress): Row | undefined {
  const named = address.row === undefined ? undefined : pairModel.rowById.get(address.row);
  if (named || address.origin === undefined) return named;
  const origin = pairModel.pair.origins.find(({ id }) => id === address.origin);
  const first = origin?.instances[0]?.row;
  return first === undefined ? undefined : pairModel.rowById.get(first);
}

/** Where a first look should go: the first divergence, else the last compared row, which is the output. */
export function firstRowToShow(pairModel: PairModel): Row | undefined {
  const { pair } = pairModel;
  const first = pair.firstDivergence ?? pair.origins[0]?.id;
  return first === undefined
    ? pairModel.rows.findLast((row) => row.metrics !== undefined)
    : rowAt(pairModel, { origin: first });
}

/** The text of a site's line without its indentation, from the snippets that the report carries. */
export function lineText(model: ReportModel, site: Site): string | undefined {
  for (const snippet of model.sources.get(site.file)?.snippets ?? []) {
    const line = snippet.text.split("\n")[site.line - snippet.startLine];
    if (site.line >= snippet.startLine && line !== undefined) return line.trim();
  }
  return undefined;
}

export function labelOf(model: ReportModel, id: ImplementationId): string {
  return model.implementations.get(id)?.label ?? id;
}

/** "hstu.py:212"; the folder is left to the tooltip. */
export function siteLabel(site: Site): string {
  return `${site.file.slice(site.file.lastIndexOf("/") + 1)}:${site.line}`;
}

export function siteTitle(site: Site): string {
  const column = site.column === undefined ? "" : `:${site.column}`;
  const call = site.call === undefined ? "" : `, call ${site.call}`;
  const instance = site.instance ? ` (${site.instance}${call})` : "";
  return `${site.file}:${site.line}${column} in ${site.function}${instance}`;
}
