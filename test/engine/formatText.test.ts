import { describe, expect, it } from "vitest";
import { formatReport } from "../../engine/cli/formatText.js";
import { groupNames } from "../../engine/cli/groupNames.js";
import { shortened } from "../../engine/cli/textLayout.js";
import type { Pair, Report } from "../../engine/protocol/report.js";
import { exampleReport } from "../support/exampleReport.js";

const plain = { colour: false };

/** The report with its only pair changed. */
function withPair(report: Report, change: Partial<Pair>): Report {
  const [pair] = report.pairs;
  if (!pair) throw new Error("the example has a pair");
  return { ...report, pairs: [{ ...pair, ...change }] };
}

/** Line breaks are the layout's business. */
function flat(text: string): string {
  return text.replace(/\s+/g, " ");
}

describe("a report on a port that differs", () => {
  const report = exampleReport({ blocks: 8 });
  const text = formatReport(report, plain);
  const [origin] = report.pairs[0]?.origins ?? [];

  it("says so first, by lines and parameters", () => {
    expect(text.split("\n")[0]).toMatch(/^FAIL · tripy against torch: 2 lines to fix/);
  });

  it("has each line to fix, where it is used and what it should match, with their texts", () => {
    const { site, usedAt, referenceSite } = origin ?? {};
    expect(text).toContain(
      `1. ${site?.file}:${site?.line}  declares a parameter\n     self._output_weight =`,
    );
    expect(text).toMatch(new RegExp(`used at +${usedAt?.file}:${usedAt?.line}\\s+return o_input`));
    expect(text).toMatch(
      new RegExp(`should match +${referenceSite?.file}:${referenceSite?.line}$`, "m"),
    );
  });

  it("groups names over the layers", () => {
    expect(text).toContain(
      "  _hstu._attention_layers.{0–7}._output_weight  tripy_hstu_dense.py:97",
    );
    expect(text).toMatch(/8 instances/);
  });

  it("says that the script's own check does not notice, and when it does", () => {
    expect(flat(text)).toContain("own check (|d| ≤ 0.03) passes: it does not notice");
    const ownCheck = { atol: 0.03, rtol: 0.01, violations: 0.25, passes: false };
    const noticed = flat(formatReport(withPair(report, { ownCheck }), plain));
    expect(noticed).toContain("own check (|d| ≤ 0.03 + 0.01·|r|) fails");
    expect(noticed).toContain("it notices as well");
  });

  it("says what proves it, and that nothing does", () => {
    expect(flat(text)).toContain(
      "with 16 tensors at 2 lines repaired the output matches to 4.20e-8; leaving any out breaks it",
    );
    const repair = {
      tensors: 1,
      sites: 1,
      outputRelL2After: 0.5,
      proves: false,
      minimal: false,
      unexplained: ["r1"],
    };
    expect(flat(formatReport(withPair(report, { repair }), plain))).toContain(
      "proof none: with 1 tensor at 1 line repaired the output still differs (relL2 0.500), 1 row unexplained",
    );
  });

  it("has the coverage with the count of those compared by themselves", () => {
    expect(flat(text)).toContain(
      "131 of 134 operations (97 %, 90 % needed), 104 by a result of their own",
    );
  });

  it("fits in 80 columns and in fewer", () => {
    for (const width of [80, 60, 100]) {
      const lines = formatReport(report, { ...plain, width }).split("\n");
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(width);
    }
  });

  it("has one table line for a stage that fares the same in several layers", () => {
    const table = text.slice(text.indexOf("worst relL2"));
    const names = [...table.matchAll(/^\S {2}(\S+)/gm)].map((match) => match[1]);
    expect(names.length).toBeGreaterThan(5);
    expect(new Set(names).size).toBe(names.length);
    expect(table).toMatch(/^◆ {2}layers\.\{0–7\}\S* /m);
    expect(table.split("\n").length).toBeLessThan(45);
  });

  it("never shows a difference as 0.00", () => {
    expect(text).not.toMatch(/\b0\.0+\b/);
    expect(text).toContain("exact");
  });

  it("has colours only when they are wanted", () => {
    const escape = /\u001b\[\d+m/;
    expect(text).not.toMatch(escape);
    const coloured = formatReport(report, { colour: true });
    expect(coloured).toMatch(escape);
    expect(coloured.replace(new RegExp(escape, "g"), "")).toBe(text);
  });

  it("shows files relative to the working folder where they lie inside it", () => {
    const based = { ...report, run: { ...report.run, base: "/home/me/models" } };
    expect(formatReport(based, { ...plain, cwd: "/home/me" })).toContain(
      `1. models/${origin?.site.file}:`,
    );
    expect(formatReport(based, { ...plain, cwd: "/home/you" })).toContain(
      `1. ${origin?.site.file}:`,
    );
  });
});

describe("a report on a port that matches", () => {
  const report = exampleReport({ story: "rightPort" });

  it("says how much was compared and how close it is", () => {
    const text = flat(formatReport(report, plain));
    expect(text).toMatch(
      /^PASS · tripy against torch: the output matches \(relL2 \S+\), 97 % of 134 operations covered/,
    );
    expect(text).toContain("own check (|d| ≤ 0.03) passes as well");
    expect(text).not.toMatch(/should match|never came/);
  });

  it("has a block for each candidate", () => {
    const text = formatReport(exampleReport({ story: "rightPort", dense: true }), plain);
    expect(text.match(/^PASS · /gm)).toHaveLength(2);
  });

  it("has the report's warnings", () => {
    const problems = [
      {
        severity: "warning" as const,
        code: "source-changed",
        message: "port.py has changed",
        nextStep: "Record it again.",
        site: { file: "port.py", line: 1, function: "" },
      },
    ];
    expect(formatReport({ ...report, problems }, plain)).toMatch(
      /warning +port\.py:1: port\.py has changed\. Record it again\./,
    );
  });
});

describe("a report that cannot judge", () => {
  const report = exampleReport({ story: "rightPort" });

  it.each([
    [
      { coverage: { covered: 12, total: 134, paired: 3, threshold: 0.9 } },
      "8 % of 134 operations covered, 90 % needed",
    ],
    [{ output: {} }, "its output could not be compared"],
    [{}, "a difference is left that no line explains"],
  ])("says why", (change: Partial<Pair>, why) => {
    const unknown = withPair(report, { verdict: "unknown", ...change });
    expect(flat(formatReport(unknown, plain))).toContain(
      `UNKNOWN · tripy against torch: cannot be judged, ${why}`,
    );
  });
});

describe("names", () => {
  it.each([
    [["a.0.w", "a.1.w"], ["a.{0,1}.w"]],
    [
      ["a.0.w", "a.2.w", "a.3.w", "a.4.w", "b"],
      ["a.{0,2–4}.w", "b"],
    ],
    [["a.0.b.0", "a.0.b.1", "a.1.b.0", "a.1.b.1"], ["a.{0,1}.b.{0,1}"]],
    // {0,1}.{0,1} would stand for two more.
    [
      ["a.0.b.0", "a.1.b.1"],
      ["a.0.b.0", "a.1.b.1"],
    ],
    [
      ["w1", "w2"],
      ["w1", "w2"],
    ],
    [["a.3.w"], ["a.3.w"]],
  ])("%j become %j", (names, grouped) => {
    expect(groupNames(names)).toEqual(grouped);
  });

  it("are shortened in the middle", () => {
    expect(shortened("abcdefghij", 5)).toBe("ab…ij");
    expect(shortened("abcde", 5)).toBe("abcde");
    expect(shortened("abcde", 1)).toBe("…");
  });
});
