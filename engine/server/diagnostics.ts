import { DiagnosticSeverity, type Diagnostic, type Range } from "vscode-languageserver/node";
import { URI } from "vscode-uri";
import type { Problem, Site } from "../protocol/report.js";
import type { Finding } from "./findings.js";

const source = "HSTU Parity";

const severities = {
  error: DiagnosticSeverity.Error,
  warning: DiagnosticSeverity.Warning,
  information: DiagnosticSeverity.Information,
} as const;

/** Where a site is now: its line in the document, and that line's text. */
export type PlaceOf = (
  file: string,
  site: Site,
) => { readonly line: number; readonly text: string | undefined } | undefined;

/** One finding for the editor; undefined when its line has changed since the run. */
export function findingDiagnostic(finding: Finding, placeOf: PlaceOf): Diagnostic | undefined {
  const place = placeOf(finding.file, finding.site);
  if (!place) return undefined;
  const relatedInformation = finding.related.flatMap(({ file, site, message }) => {
    const at = placeOf(file, site);
    return at
      ? [
          {
            location: {
              uri: URI.file(file).toString(),
              range: rangeOf(site, at),
            },
            message,
          },
        ]
      : [];
  });
  return {
    range: rangeOf(finding.site, place),
    severity: severities[finding.severity],
    source,
    code: finding.code,
    message: finding.message,
    ...(relatedInformation.length > 0 && { relatedInformation }),
  };
}

/**
 * A problem of a run file or a script at its place; without a place it stands on the first line. Without lines, those
 * of a file that is not open, the place is taken as it is.
 */
export function problemDiagnostic(problem: Problem, lines: readonly string[]): Diagnostic {
  const site = problem.site ?? { file: "", line: 1, function: "" };
  const line = Math.min(Math.max(1, site.line), lines.length > 0 ? lines.length : Infinity);
  const message = problem.message.replace(/[.\s]+$/, "");
  return {
    range: rangeOf(site, { line, text: lines[line - 1] }),
    severity: severities[problem.severity],
    source,
    code: problem.code,
    message: `${message}. ${problem.nextStep}`,
  };
}

/** 0-based for the editor. Without columns the whole statement line is marked, without its indentation. */
function rangeOf(site: Site, { line, text }: { line: number; text: string | undefined }): Range {
  const end = text === undefined ? 1000 : Math.max(1, text.trimEnd().length);
  const indent = text === undefined ? 0 : Math.min(text.length - text.trimStart().length, end - 1);
  const start = site.column === undefined ? indent : Math.max(0, site.column - 1);
  const stop =
    site.endColumn !== undefined && site.endColumn - 1 > start ? site.endColumn - 1 : end;
  return {
    start: { line: line - 1, character: start },
    end: { line: line - 1, character: Math.max(stop, start + 1) },
  };
}
