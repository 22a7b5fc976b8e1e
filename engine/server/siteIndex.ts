import path from "node:path";
import { URI } from "vscode-uri";
import type { Origin, Pair, Parameter, Report, Row, Site } from "../protocol/report.js";

/** What took part at one source line, seen from one pair. */
export interface LineEntry {
  readonly pair: Pair;
  /** Which side of the pair the line belongs to. */
  readonly side: "reference" | "candidate";
  /** In execution order. */
  readonly rows: readonly Row[];
  /** Origins whose line to fix this is. */
  readonly origins: readonly Origin[];
  /** Origins that this line only touches: it uses the faulty parameter, or is the line to compare it with. */
  readonly touching: readonly Origin[];
  readonly parameters: readonly ParameterAtLine[];
}

export interface ParameterAtLine {
  readonly parameter: Parameter;
  readonly status: "same" | "transposed" | "different" | "notFromReference" | "missing";
}

/** Look-ups from a source line to what the report says about it. Made once per report. */
export interface SiteIndex {
  readonly report: Report;
  /** Absolute file name → 1-based line → one entry per pair and side. */
  readonly files: ReadonlyMap<string, ReadonlyMap<number, readonly LineEntry[]>>;
  /** The text of a line as it was when the report was made; undefined where the report does not carry it. */
  lineText(file: string, line: number): string | undefined;
  absolute(file: string): string;
}

type MutableEntry = {
  pair: Pair;
  side: "reference" | "candidate";
  rows: Row[];
  origins: Origin[];
  touching: Origin[];
  parameters: ParameterAtLine[];
};

export function indexSites(report: Report): SiteIndex {
  const absolute = (file: string): string => path.resolve(report.run.base, file);
  const files = new Map<string, Map<number, MutableEntry[]>>();
  const entryAt = (
    site: Site | undefined,
    pair: Pair,
    side: "reference" | "candidate",
  ): MutableEntry | undefined => {
    if (!site || site.file === "" || site.line < 1) return undefined;
    const file = absolute(site.file);
    let lines = files.get(file);
    if (!lines) files.set(file, (lines = new Map<number, MutableEntry[]>()));
    let entries = lines.get(site.line);
    if (!entries) lines.set(site.line, (entries = []));
    let entry = entries.find((e) => e.pair === pair && e.side === side);
    if (!entry) {
      entry = {
        pair,
        side,
        rows: [],
        origins: [],
        touching: [],
        parameters: [],
      };
      entries.push(entry);
    }
    return entry;
  };

  const implementations = new Map(report.implementations.map((item) => [item.id, item]));
  for (const pair of report.pairs) {
    for (const row of [...pair.rows].sort((a, b) => a.order - b.order)) {
      entryAt(row.candidate?.site, pair, "candidate")?.rows.push(row);
      entryAt(row.reference?.site, pair, "reference")?.rows.push(row);
    }
    for (const origin of pair.origins) {
      entryAt(origin.site, pair, "candidate")?.origins.push(origin);
      touch(entryAt(origin.usedAt, pair, "candidate"), origin);
      touch(entryAt(origin.referenceSite, pair, "reference"), origin);
      touch(entryAt(origin.referenceUsedAt, pair, "reference"), origin);
    }
    const parameters = implementations.get(pair.candidate)?.parameters;
    if (!parameters) continue;
    for (const status of parameterStatuses) {
      for (const parameter of parameters[status]) {
        entryAt(parameter.site, pair, "candidate")?.parameters.push({
          parameter,
          status,
        });
        entryAt(parameter.reference?.site, pair, "reference")?.parameters.push({
          parameter,
          status,
        });
      }
    }
  }

  const snippets = new Map<string, Map<number, string>>();
  for (const source of report.sources) {
    const lines = new Map<number, string>();
    for (const { startLine, text } of source.snippets) {
      for (const [offset, line] of text.split("\n").entries()) lines.set(startLine + offset, line);
    }
    snippets.set(absolute(source.file), lines);
  }
  return {
    report,
    files,
    absolute,
    lineText: (file, line) => snippets.get(absolute(file))?.get(line),
  };
}

/** The form of a file name that editors' URIs lead to (a drive letter is lower case there). */
export function fileKey(file: string): string {
  return URI.file(file).fsPath;
}

const parameterStatuses = [
  "different",
  "notFromReference",
  "missing",
  "transposed",
  "same",
] as const;

function touch(entry: MutableEntry | undefined, origin: Origin): void {
  if (entry && !entry.touching.includes(origin) && !entry.origins.includes(origin)) {
    entry.touching.push(origin);
  }
}
