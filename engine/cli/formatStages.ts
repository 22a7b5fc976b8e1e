import type { Pair, Row, RowVerdict } from "../protocol/report.js";
import { fromWire, toWire, type WireNumber } from "../protocol/wire.js";
import { differenceText } from "./figures.js";
import { groupNames } from "./groupNames.js";
import { table, type Page } from "./textLayout.js";

/**
 * Stage by stage in the model's order: the worst verdict and the largest figures of its compared tensors. Stages that
 * differ only in the layer and have the same verdict share a line.
 */
export function stageTable(pair: Pair, page: Page): string[] {
  const lines = stageLines(pair.rows);
  if (lines.length === 0) return [];
  const columns = [
    { title: "stage", align: "left" },
    { title: "verdict", align: "left" },
    { title: "relL2", align: "right" },
    { title: "introduced", align: "right" },
    { title: "inherited", align: "right" },
    { title: "compared", align: "right" },
  ] as const;
  const { colours } = page;
  return table(
    columns,
    lines.map((line) => [
      groupNames(line.stages).join(", "),
      verdictWords[line.verdict],
      differenceText(line.relL2),
      differenceText(line.introduced),
      differenceText(line.inherited),
      `${line.compared} of ${line.total}`,
    ]),
    page,
    (text, index) => {
      const verdict = lines[index]?.verdict;
      if (verdict === "origin") return colours.red(text);
      if (verdict === "amplifier" || verdict === "carrier") return colours.yellow(text);
      return verdict === "match" ? text : colours.dim(text);
    },
  );
}

interface StageLine {
  readonly stages: string[];
  readonly verdict: RowVerdict;
  readonly relL2: WireNumber | undefined;
  readonly introduced: WireNumber | undefined;
  readonly inherited: WireNumber | undefined;
  readonly compared: number;
  readonly total: number;
}

const verdictWords: Readonly<Record<RowVerdict, string>> = {
  match: "match",
  origin: "ORIGIN",
  carrier: "carrier",
  amplifier: "amplifier",
  masking: "masking",
  expected: "expected",
  paddingOnly: "padding only",
  unknown: "not compared",
};

/** Worst first. A row without counterpart says nothing about its stage while others of it were compared. */
const worstFirst: readonly RowVerdict[] = [
  "origin",
  "amplifier",
  "carrier",
  "masking",
  "paddingOnly",
  "expected",
  "match",
  "unknown",
];

function stageLines(rows: readonly Row[]): StageLine[] {
  const byStage = new Map<string, Row[]>();
  for (const row of rows) {
    const known = byStage.get(row.stage);
    if (known) known.push(row);
    else byStage.set(row.stage, [row]);
  }
  const groups = new Map<string, { stages: string[]; rows: Row[]; verdict: RowVerdict }>();
  for (const [stage, members] of byStage) {
    const verdict = worstFirst.find((v) => members.some((row) => row.verdict === v)) ?? "unknown";
    const key = `${verdict} ${stage.replace(/\d+/g, "#")}`;
    const group = groups.get(key);
    if (group) {
      group.stages.push(stage);
      group.rows.push(...members);
    } else groups.set(key, { stages: [stage], rows: [...members], verdict });
  }
  return [...groups.values()].map(({ stages, rows: members, verdict }) => ({
    stages,
    verdict,
    relL2: largest(members.map(differenceOf)),
    introduced: largest(members.map((row) => row.introduced)),
    inherited: largest(members.map((row) => row.inherited)),
    compared: members.filter((row) => row.metrics !== undefined).length,
    total: members.length,
  }));
}

/** Integer tensors have no relL2; they are equal or they are not, which the verdict says. */
function differenceOf({ metrics }: Row): WireNumber | undefined {
  return metrics?.relL2 ?? (metrics?.mismatches === 0 ? 0 : undefined);
}

/** NaN outranks every number. */
function largest(values: readonly (WireNumber | undefined)[]): WireNumber | undefined {
  const numbers = values.filter((value) => value !== undefined).map(fromWire);
  if (numbers.length === 0) return undefined;
  return numbers.some(Number.isNaN) ? "NaN" : toWire(Math.max(...numbers));
}
