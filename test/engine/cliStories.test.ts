import { readFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import type { Report } from "../../engine/protocol/report.js";
import { differences, type Story } from "../../scripts/parityStories.js";
import { root } from "../support/bundleRunner.js";
import { exampleReport } from "../support/exampleReport.js";

/** The example's own story, from the report itself: what `stories.json` would say of it. */
function storyOf(report: Report): Story {
  const [pair] = report.pairs;
  const line = (
    site: { file: string; line: number } | undefined,
  ): { file: string; text: string } => {
    const source = report.sources.find(({ file }) => file === site?.file);
    const found = source?.snippets.find(
      ({ startLine, text }) =>
        (site?.line ?? 0) >= startLine && (site?.line ?? 0) < startLine + text.split("\n").length,
    );
    const text = found?.text.split("\n")[(site?.line ?? 0) - found.startLine] ?? "";
    return { file: site?.file ?? "", text: text.trim() };
  };
  return {
    file: "silent-bug.parity.json",
    verdict: report.verdict,
    origins: (pair?.origins ?? []).map(({ site, usedAt, referenceSite }) => ({
      site: line(site),
      ...(usedAt && { usedAt: line(usedAt) }),
      reference: line(referenceSite),
    })),
    parameters: report.implementations.flatMap(({ parameters }) =>
      parameters.notFromReference.map(({ name }) => name),
    ),
    coverage: 0.9,
  };
}

describe("a story that did not end as it should is noticed", () => {
  const report = exampleReport();
  const story = storyOf(report);
  const [pair] = report.pairs;
  if (!pair) throw new Error("the example has no pair");
  const withPair = (change: Partial<typeof pair>): Report => ({
    ...report,
    pairs: [{ ...pair, ...change }],
  });

  it("and one that did is not", () => {
    expect(story.origins).toHaveLength(2);
    expect(story.origins?.[0]?.site.text).not.toBe("");
    expect(differences(story, report)).toEqual([]);
  });

  it.each<[string, Report, string]>([
    ["another verdict", { ...report, verdict: "pass" }, "the verdict is pass, not fail"],
    ["an origin that is not found", withPair({ origins: pair.origins.slice(1) }), "not found: "],
    [
      "an origin too many",
      withPair({
        origins: [
          ...pair.origins,
          ...exampleReport({ blocks: 3 }).pairs.flatMap((p) =>
            p.origins.map((o) => ({ ...o, site: { ...o.site, line: o.site.line + 5 } })),
          ),
        ],
      }),
      "found as well: ",
    ],
    [
      "an origin on the next line",
      withPair({
        origins: pair.origins.map((o) => ({ ...o, site: { ...o.site, line: o.site.line + 7 } })),
      }),
      "not found: ",
    ],
    [
      "another reference line",
      withPair({ origins: pair.origins.map(({ referenceSite: _, ...origin }) => origin) }),
      "should match nothing",
    ],
    [
      "too little covered",
      withPair({ coverage: { ...pair.coverage, covered: 100 } }),
      "coverage is 0.746",
    ],
    [
      "no proof",
      withPair({
        repair: {
          tensors: 1,
          sites: 1,
          outputRelL2After: 1,
          proves: false,
          minimal: true,
          unexplained: [],
        },
      }),
      "does not make the output match",
    ],
    ["nothing compared", { ...report, pairs: [] }, "compares nothing"],
    [
      "other parameters",
      { ...report, implementations: exampleReport({ blocks: 3 }).implementations },
      "parameters that never came from torch",
    ],
  ])("%s", (_, changed, expected) => {
    expect(differences(story, changed).join("\n")).toContain(expected);
  });
});

it("every run file of the sample has its story", async () => {
  const folder = path.join(root, "samples/hstu");
  const stories = JSON.parse(await readFile(path.join(folder, "stories.json"), "utf8")) as Story[];
  expect(stories.map(({ file }) => file).sort()).toEqual([
    "right-port.parity.json",
    "silent-bug.parity.json",
    "wrong-line.parity.json",
  ]);
  for (const story of stories) {
    expect(story.verdict === "fail", story.file).toBe((story.origins ?? []).length > 0);
    for (const { site, usedAt, reference } of story.origins ?? []) {
      for (const line of [site, reference, ...(usedAt ? [usedAt] : [])]) {
        const text = await readFile(path.join(folder, line.file), "utf8");
        expect(text.split("\n").map((l) => l.trim())).toContain(line.text);
      }
    }
  }
});
