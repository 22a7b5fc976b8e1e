import { rowVerdictWords, worstOf } from "../core/verdictWords.js";
import { differenceText } from "./figures.js";
import type { Row, RowVerdict } from "../protocol/report.js";
import { fromWire, type WireNumber } from "../protocol/wire.js";
import { groupNames, numberPart } from "./groupNames.js";
import { shortened, wrapped, type Colours } from "./textLayout.js";

/** Rows by stage in reading order; a stage that fares the same in several layers is one line. */
export function stageTable(rows: readonly Row[], width: number, colours: Colours): string[] {
  const stages = byStage(rows);
  const compared = foldLayers(stages.filter((stage) => stage.compared.length > 0));
  const others = stages.filter((stage) => stage.compared.length === 0);
  if (compared.length === 0) return [];
  const header = ["", "stage", "rows", "worst relL2", "introduced", "inherited"];
  const body = compared.map(({ name, verdict, rows: all, compared: own }) => [
    rowVerdictWords[verdict].glyph,
    name,
    String(all.length),
    worst(
      own,
      (row) => row.metrics?.relL2,
      (row) => mismatchText(row),
    ),
    worst(own, (row) => row.introduced),
    worst(own, (row) => row.inherited),
  ]);
  const widths = header.map((title, k) =>
    Math.max(title.length, ...body.map((cells) => (cells[k] as string).length)),
  );
  const fixed = widths.reduce((sum, w, k) => (k === 1 ? sum : sum + w), 2 * (header.length - 1));
  widths[1] = Math.min(widths[1] as number, Math.max(12, width - fixed));
  const line = (cells: readonly string[]): string[] =>
    cells.map((cell, k) =>
      k <= 1
        ? shortened(cell, widths[k] as number).padEnd(widths[k] as number)
        : cell.padStart(widths[k] as number),
    );
  const used = [...new Set(compared.map(({ verdict }) => verdict))];
  const legend = used
    .map((v) => `${rowVerdictWords[v].glyph} ${rowVerdictWords[v].word}`)
    .join("  ");
  const left = groupNames(others.map(({ name }) => name));
  return [
    colours.dim(line(header).join("  ")),
    ...compared.map(({ verdict }, index) => {
      const [glyph = "", ...rest] = line(body[index] as string[]);
      return [glyphColour(verdict, colours)(glyph), ...rest].join("  ");
    }),
    colours.dim(legend),
    ...(left.length > 0
      ? wrapped(`No result of their own was compared in: ${left.join(", ")}.`, width, "  ").map(
          colours.dim,
        )
      : []),
  ];
}

interface Stage {
  readonly name: string;
  readonly rows: readonly Row[];
  /** Those with a result of their own on both sides. */
  readonly compared: readonly Row[];
  readonly verdict: RowVerdict;
}

function byStage(rows: readonly Row[]): Stage[] {
  const groups = new Map<string, Row[]>();
  for (const row of [...rows].sort((a, b) => a.order - b.order)) {
    const group = groups.get(row.stage);
    if (group) group.push(row);
    else groups.set(row.stage, [row]);
  }
  return [...groups].map(([name, group]) => stageOf(name, group));
}

function stageOf(name: string, rows: readonly Row[]): Stage {
  const compared = rows.filter((row) => row.reference && row.candidate);
  return { name, rows, compared, verdict: worstOf(compared.map(({ verdict }) => verdict)) };
}

/** Stages whose names differ only in numbers are one where their verdicts are the same. */
function foldLayers(stages: readonly Stage[]): Stage[] {
  const groups = new Map<string, Stage[]>();
  for (const stage of stages) {
    const key = `${stage.verdict} ${stage.name.replace(numberPart, "*")}`;
    groups.set(key, [...(groups.get(key) ?? []), stage]);
  }
  return [...groups.values()].flatMap((group) => {
    const names = groupNames(group.map(({ name }) => name));
    // More than one name: the numbers do not combine, and the stages stay apart.
    return names.length === 1
      ? [
          stageOf(
            names[0] as string,
            group.flatMap(({ rows }) => rows),
          ),
        ]
      : group;
  });
}

/** The largest of the rows' figures; "—" where none has one. */
function worst(
  rows: readonly Row[],
  figure: (row: Row) => WireNumber | undefined,
  instead?: (row: Row) => string | undefined,
): string {
  const values = rows.map(figure).filter((value) => value !== undefined);
  const numbers = values.map(fromWire);
  if (numbers.some(Number.isNaN)) return "NaN";
  const largest = Math.max(...numbers);
  const other = instead && rows.map(instead).find((text) => text !== undefined);
  if (other !== undefined && !(largest > 0)) return other;
  return numbers.length === 0 ? "—" : differenceText(largest);
}

/** Whole numbers have no relL2: they are equal or not. */
function mismatchText({ metrics }: Row): string | undefined {
  if (metrics?.mismatches === undefined || metrics.relL2 !== undefined) return undefined;
  return metrics.mismatches === 0 ? "exact" : `${metrics.mismatches} differ`;
}

function glyphColour(verdict: RowVerdict, colours: Colours): (text: string) => string {
  if (verdict === "origin") return colours.red;
  if (verdict === "match" || verdict === "expected") return colours.green;
  return verdict === "unknown" ? colours.dim : colours.yellow;
}
