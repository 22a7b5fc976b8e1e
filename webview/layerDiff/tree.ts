import type { Row, RowVerdict } from "../../engine/protocol/report.js";
import { fromWire, type WireNumber } from "../../engine/protocol/wire.js";
import { rowVerdictsWorstFirst } from "./words.js";

/** Layers with their stages with their rows. A stage of one row is that row. */
export interface TreeGroup {
  kind: "group";
  /** Unique in the tree, the same from report to report: folding survives a new run. */
  id: string;
  label: string;
  level: 1 | 2;
  children: TreeNode[];
  rowCount: number;
  /** The worst verdict among the rows; "unknown" only when all are, for steps in between often have no counterpart. */
  verdict: string;
  /** Rows that are not unknown. */
  knownCount: number;
  originCount: number;
  /** The largest relL2 and introduced difference among the rows; undefined where no row has one. */
  relL2: WireNumber | undefined;
  introduced: WireNumber | undefined;
}

export interface TreeLeaf {
  kind: "row";
  id: string;
  level: number;
  row: Row;
  /** The stage that this row alone makes up, drawn before its name; undefined under a stage of its own. */
  stage: string | undefined;
}

export type TreeNode = TreeGroup | TreeLeaf;

/** One visible line of the tree. */
export interface TreeLine {
  node: TreeNode;
  parent: TreeGroup | undefined;
  open: boolean;
  /** 1-based among its siblings that pass the filter, for assistive technology. */
  position: number;
  siblings: number;
}

export interface TreeFilter {
  /** Lower case. Every word must occur in the row's name, stage, verdict or a source position. */
  text: string;
  originsOnly: boolean;
}

/** Groups rows, in execution order, by the parts of their stage: "layers.0.output" is layer "layers.0", stage "output". */
export function buildTree(rows: readonly Row[]): TreeGroup[] {
  const groups = new Map<string, { stages: Map<string, Row[]> }>();
  for (const row of rows) {
    const { layer, stage } = splitStage(row.stage);
    let group = groups.get(layer);
    if (!group) groups.set(layer, (group = { stages: new Map() }));
    const stageRows = group.stages.get(stage);
    if (stageRows) stageRows.push(row);
    else group.stages.set(stage, [row]);
  }
  return [...groups].map(([layer, { stages }]) => {
    const children: TreeNode[] = [];
    for (const [stage, stageRows] of stages) {
      const [only] = stageRows;
      if (stage === "") children.push(...stageRows.map((row) => leaf(row, 2)));
      else if (only && stageRows.length === 1) {
        children.push(leaf(only, 2, stage === only.name ? undefined : stage));
      } else {
        const leaves = stageRows.map((row) => leaf(row, 3));
        children.push(groupOf(`${layer}/${stage}`, stage, 2, leaves, stageRows));
      }
    }
    return groupOf(layer, layer, 1, children, [...stages.values()].flat());
  });
}

/** The layer is the path up to its last numbered part; a path without one is the layer as a whole. */
export function splitStage(stage: string): { layer: string; stage: string } {
  let end = -1;
  for (const part of stage.matchAll(/[^./]+/g)) {
    if (/^\d+$/.test(part[0])) end = part.index + part[0].length;
  }
  return end < 0
    ? { layer: stage, stage: "" }
    : { layer: stage.slice(0, end), stage: stage.slice(end + 1) };
}

/** The lines to show. A filter opens every group that has a match; without one `folded` decides. */
export function visibleLines(
  tree: readonly TreeGroup[],
  folded: ReadonlySet<string>,
  filter: TreeFilter,
): TreeLine[] {
  const words = filter.text.split(/\s+/).filter(Boolean);
  const lines: TreeLine[] = [];
  const visit = (nodes: readonly TreeNode[], parent: TreeGroup | undefined): void => {
    const shown = nodes.filter((node) => hasMatch(node, words, filter.originsOnly));
    shown.forEach((node, index) => {
      const open = node.kind === "group" && (words.length > 0 || !folded.has(node.id));
      lines.push({
        node,
        parent,
        open,
        position: index + 1,
        siblings: shown.length,
      });
      if (node.kind === "group" && open) visit(node.children, node);
    });
  };
  visit(tree, undefined);
  return lines;
}

/** Groups without anything but matches start folded, once a report is too long to be read at a glance. */
export function initiallyFolded(tree: readonly TreeGroup[], rowCount: number): Set<string> {
  const folded = new Set<string>();
  const visit = (group: TreeGroup): void => {
    if (rowCount > 60 && (group.verdict === "match" || (group.level === 2 && !group.originCount))) {
      folded.add(group.id);
    }
    for (const child of group.children) if (child.kind === "group") visit(child);
  };
  tree.forEach(visit);
  return folded;
}

/** The groups above a row, so that selecting it from elsewhere can open them. */
export function ancestorsOf(tree: readonly TreeGroup[], rowId: string): string[] {
  for (const layer of tree) {
    for (const child of layer.children) {
      if (child.kind === "row" && child.row.id === rowId) return [layer.id];
      if (child.kind !== "group") continue;
      if (child.children.some((item) => item.kind === "row" && item.row.id === rowId)) {
        return [layer.id, child.id];
      }
    }
  }
  return [];
}

function leaf(row: Row, level: number, stage?: string): TreeLeaf {
  return { kind: "row", id: `row:${row.id}`, level, row, stage };
}

function groupOf(
  id: string,
  label: string,
  level: 1 | 2,
  children: TreeNode[],
  rows: readonly Row[],
): TreeGroup {
  const present = new Set<string>(rows.map((row) => row.verdict));
  return {
    kind: "group",
    id: `group:${id}`,
    label: label === "" ? "model" : label,
    level,
    children,
    rowCount: rows.length,
    verdict: rowVerdictsWorstFirst.find((verdict) => present.has(verdict)) ?? "unknown",
    knownCount: rows.filter((row) => row.verdict !== "unknown").length,
    originCount: rows.filter((row) => row.verdict === "origin").length,
    relL2: largest(rows.map((row) => row.metrics?.relL2)),
    introduced: largest(rows.map((row) => row.introduced)),
  };
}

function largest(values: readonly (WireNumber | undefined)[]): WireNumber | undefined {
  let result: WireNumber | undefined;
  for (const value of values) {
    if (value === undefined) continue;
    const number = fromWire(value);
    if (result === undefined || Number.isNaN(number) || number > fromWire(result)) result = value;
    if (Number.isNaN(number)) return result;
  }
  return result;
}

function hasMatch(node: TreeNode, words: readonly string[], originsOnly: boolean): boolean {
  if (words.length === 0 && !originsOnly) return true;
  if (node.kind === "group") {
    if (originsOnly && node.originCount === 0) return false;
    return node.children.some((child) => hasMatch(child, words, originsOnly));
  }
  const { row } = node;
  const verdict: RowVerdict = row.verdict;
  if (originsOnly && verdict !== "origin") return false;
  if (words.length === 0) return true;
  const text = searchText(row);
  return words.every((word) => text.includes(word));
}

function searchText(row: Row): string {
  const places = [row.candidate, row.reference].map((side) =>
    side
      ? `${side.site?.file ?? ""}:${side.site?.line ?? ""} ${side.ops.map((op) => op.kind).join(" ")}`
      : "",
  );
  return `${row.stage}.${row.name} ${row.instance ?? ""} ${row.verdict} ${places.join(" ")}`.toLowerCase();
}
