import { explanationOf } from "./explanations.js";
import type { Outcome } from "./outcomes.js";

export interface FileResult {
  readonly file: string;
  readonly outcomes: readonly Outcome[];
  readonly seconds: number;
}

/** The results as Markdown: a table by file, then every failure and every reason why a test cannot apply. */
export function formatTable(results: readonly FileResult[]): string {
  const count = (outcomes: readonly Outcome[], kind: Outcome["kind"]): number =>
    outcomes.filter((outcome) => outcome.kind === kind).length;
  const row = (name: string, outcomes: readonly Outcome[], seconds: number): string =>
    `| ${[
      name,
      count(outcomes, "passed"),
      count(outcomes, "failed"),
      count(outcomes, "cannot apply"),
      count(outcomes, "skipped"),
      seconds.toFixed(0),
    ].join(" | ")} |`;
  const all = results.flatMap(({ outcomes }) => outcomes);
  const seconds = results.reduce((sum, result) => sum + result.seconds, 0);
  const passed = count(all, "passed");
  const applicable = passed + count(all, "failed");
  return [
    "| file | passed | failed | cannot apply | skipped by the test itself | seconds |",
    "| --- | ---: | ---: | ---: | ---: | ---: |",
    ...results.map(({ file, outcomes, seconds: took }) => row(file, outcomes, took)),
    row("**all**", all, seconds),
    "",
    `${passed} of ${applicable} tests that apply pass: ${((100 * passed) / Math.max(1, applicable)).toFixed(1)} %.`,
    "",
    "## Failures",
    "",
    ...reasons(
      results,
      "failed",
      ({ test, reason }) => `${test}: ${explanationOf(test) ?? reason}`,
    ),
    "",
    "## Cannot apply",
    "",
    ...reasons(results, "cannot apply", ({ reason }) => reason),
    "",
    "## Skipped by the tests themselves",
    "",
    ...reasons(results, "skipped", ({ reason }) => reason),
  ].join("\n");
}

function reasons(
  results: readonly FileResult[],
  kind: Outcome["kind"],
  textOf: (outcome: Outcome) => string,
): string[] {
  const counts = new Map<string, number>();
  for (const { file, outcomes } of results) {
    for (const outcome of outcomes) {
      if (outcome.kind !== kind) continue;
      const text = `${file}: ${textOf(outcome)}`;
      counts.set(text, (counts.get(text) ?? 0) + 1);
    }
  }
  return counts.size === 0 ? ["None."] : [...counts].map(([text, times]) => `- ${times} × ${text}`);
}
