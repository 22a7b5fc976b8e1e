import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Diagnostic } from "vscode-languageserver/node";
import type { Report } from "../protocol/report.js";
import { findingDiagnostic, type PlaceOf } from "./diagnostics.js";
import { byFile, findingsOf, type Finding } from "./findings.js";
import { hoverText, staleHoverText } from "./hoverText.js";
import { linesOf, linesOfSnippets, trackLines, type LineTracker } from "./lineTracker.js";
import { indexSites, type SiteIndex } from "./siteIndex.js";

/** The report that hovers and diagnostics come from, with what follows from it, followed through edits. */
export interface ShownReport {
  readonly report: Report;
  readonly reportFile: string;
  /** Absolute names of the files that took part. */
  readonly files: readonly string[];
  /** The file's text as it is now, in an editor or on disk. */
  setText(file: string, text: string): void;
  /** Takes the file's text from disk again. */
  reread(file: string): Promise<void>;
  diagnostics(file: string): Diagnostic[];
  /** Markdown; `line` is 1-based in the document as it is now. */
  hover(file: string, line: number): string | undefined;
  /** Files with a line that took part and has changed, named as in the report. */
  staleFiles(): string[];
}

export async function showReport(report: Report, reportFile: string): Promise<ShownReport> {
  const index = indexSites(report);
  const findings = byFile(findingsOf(index));
  const files = [...new Set([...index.files.keys(), ...findings.keys()])];
  const base = new Map<string, readonly (string | undefined)[]>();
  const current = new Map<string, readonly string[]>();
  const trackers = new Map<string, LineTracker>();
  await Promise.all(
    files.map(async (file) => {
      const { atRun, onDisk } = await linesAtRun(file, index, report);
      base.set(file, atRun);
      if (onDisk && onDisk !== atRun) {
        current.set(file, onDisk);
        trackers.set(file, trackLines(atRun, onDisk));
      }
    }),
  );
  const hovers = new Map<string, string | undefined>();

  const nowOf = (file: string, line: number): number | undefined => {
    const tracker = trackers.get(file);
    return tracker ? tracker.now(line) : line;
  };
  const placeOf: PlaceOf = (file, site) => {
    const line = nowOf(file, site.line);
    if (line === undefined) return undefined;
    const text = current.get(file)?.[line - 1] ?? base.get(file)?.[site.line - 1];
    return { line, text };
  };

  const setText = (file: string, text: string): void => {
    const lines = base.get(file);
    if (!lines) return;
    const document = linesOf(text);
    current.set(file, document);
    trackers.set(file, trackLines(lines, document));
  };

  return {
    report,
    reportFile,
    files,
    setText,
    reread: async (file) => setText(file, await readFile(file, "utf8").catch(() => "")),
    diagnostics: (file) =>
      (findings.get(file) ?? [])
        .map((finding: Finding) => findingDiagnostic(finding, placeOf))
        .filter((item) => item !== undefined),
    hover: (file, line) => {
      const tracker = trackers.get(file);
      const before = tracker ? tracker.before(line) : line;
      if (before === undefined) {
        // A changed line is told from a new one by its place: something of the report stood there.
        const tookPart = index.files.get(file)?.has(line) && tracker?.now(line) === undefined;
        return tookPart ? staleHoverText() : undefined;
      }
      const key = `${file}\n${before}`;
      if (!hovers.has(key)) hovers.set(key, hoverText(index, file, before));
      return hovers.get(key);
    },
    staleFiles: () =>
      report.sources
        .map((source) => source.file)
        .filter((name) => {
          const file = index.absolute(name);
          const tracker = trackers.get(file);
          const lines = index.files.get(file)?.keys() ?? [];
          return tracker && [...lines].some((line) => tracker.now(line) === undefined);
        }),
  };
}

/** The whole file where it is still what was compared, else the functions that the report carries. */
async function linesAtRun(
  file: string,
  index: SiteIndex,
  report: Report,
): Promise<{
  atRun: readonly (string | undefined)[];
  onDisk: readonly string[] | undefined;
}> {
  const source = report.sources.find((item) => index.absolute(item.file) === file);
  const bytes = await readFile(file).catch(() => undefined);
  const onDisk = bytes && linesOf(bytes.toString("utf8"));
  const sha256 = bytes && createHash("sha256").update(bytes).digest("hex");
  const unchanged = onDisk && (!source || source.sha256 === sha256);
  return {
    atRun: unchanged ? onDisk : linesOfSnippets(source?.snippets ?? []),
    onDisk,
  };
}
