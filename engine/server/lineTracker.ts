/**
 * Follows the lines of a report through edits: inserting above moves a finding, changing its line makes it stale.
 * Lines are 1-based.
 */
export interface LineTracker {
  /** Where a line of the report is now; undefined when it has changed or is gone. */
  now(reportLine: number): number | undefined;
  /** Which line of the report stands at a line of the document; undefined when it is new or changed. */
  before(documentLine: number): number | undefined;
}

/**
 * Compares the file as it was at the run with the document as it is. Lines before and after the edited region are
 * followed; inside it a line is still the same only if its text stands at its old place, from above or from below.
 * @param base the lines at the run; undefined where they are not known (a report from elsewhere carries the functions
 *   that took part and no more): such a file is compared in place.
 */
export function trackLines(
  base: readonly (string | undefined)[],
  document: readonly string[],
): LineTracker {
  const shift = document.length - base.length;
  const known = !base.includes(undefined);
  let prefix = 0;
  const shorter = Math.min(base.length, document.length);
  while (prefix < shorter && same(base[prefix], document[prefix])) prefix++;
  let suffix = 0;
  while (
    suffix < shorter - prefix &&
    same(base[base.length - 1 - suffix], document[document.length - 1 - suffix])
  ) {
    suffix++;
  }
  const now = (line: number): number | undefined => {
    const index = line - 1;
    const text = base[index];
    if (text === undefined) return undefined;
    if (!known) return same(text, document[index]) ? line : undefined;
    if (index < prefix) return line;
    if (index >= base.length - suffix) return line + shift;
    // Lines outside the edited region are taken: no two lines of the report may end at one line of the document.
    const found = [index, index + shift].find(
      (at) => at >= prefix && at < document.length - suffix && same(text, document[at]),
    );
    return found === undefined ? undefined : found + 1;
  };
  const before = (line: number): number | undefined =>
    [line, line - shift].find((candidate) => candidate >= 1 && now(candidate) === line);
  return { now, before };
}

export function linesOf(text: string): string[] {
  return text.split(/\r\n|\r|\n/);
}

/** The lines that a report carries of a file, at their places. */
export function linesOfSnippets(
  snippets: readonly { startLine: number; text: string }[],
): (string | undefined)[] {
  const lines: (string | undefined)[] = [];
  for (const { startLine, text } of snippets) {
    for (const [offset, line] of linesOf(text).entries()) {
      while (lines.length < startLine - 1 + offset) lines.push(undefined);
      lines[startLine - 1 + offset] = line;
    }
  }
  // The end of the file is not known either.
  lines.push(undefined);
  return lines;
}

function same(a: string | undefined, b: string | undefined): boolean {
  return a !== undefined && b !== undefined && a.trimEnd() === b.trimEnd();
}
