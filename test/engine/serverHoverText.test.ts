import { describe, expect, it } from "vitest";
import type { Report, Row } from "../../engine/protocol/report.js";
import { hoverText } from "../../engine/server/hoverText.js";
import { indexSites } from "../../engine/server/siteIndex.js";
import { makeReport, site } from "./serverReport.js";

const base = "/projects/port";

function hoverOf(report: Report, file: string, line: number): string {
  return hoverText(indexSites(report), `${base}/${file}`, line) ?? "(no hover)";
}

/** Command links of a hover, decoded: what VS Code would call. */
function linksOf(markdown: string): { label: string; command: string; argument: unknown }[] {
  return [...markdown.matchAll(/\[((?:[^\]\\]|\\.)*)\]\(command:([\w.]+)\?([^()\s]+)\)/g)].map(
    ([, label, command, query]) => ({
      label: label ?? "",
      command: command ?? "",
      argument: (JSON.parse(decodeURIComponent(query ?? "")) as unknown[])[0],
    }),
  );
}

describe("the hover of a line", () => {
  it("gives verdict, the largest values and every instance", () => {
    const text = hoverOf(makeReport(base), "port.py", 7);
    expect(text).toContain("**◆ origin** · tripy against torch");
    expect(text).toContain("relL2 **0.920** · introduced **0.920** · inherited **exact**");
    expect(text).toContain("largest of 3 instances");
    for (const [instance, value] of [
      ["layers.0", "0.900"],
      ["layers.1", "0.910"],
      ["layers.2", "0.920"],
    ]) {
      const line = text.split("\n").find((item) => item.startsWith(`| \`${instance}\``));
      expect(line, instance).toContain(value);
      expect(line).toContain("exact");
    }
  });

  it("says of a declaration that it makes the difference, and why", () => {
    const text = hoverOf(makeReport(base), "port.py", 3);
    expect(text).toContain("**This declaration makes the difference**");
    expect(text).toContain("this parameter never came from the reference.");
    expect(text).toContain("✗ never came from the reference, relL2 1.00");
  });

  it("links to the other side's line with that line's text", () => {
    const report = makeReport(base);
    expect(linksOf(hoverOf(report, "port.py", 6))).toContainEqual({
      label: "reference.py\\:6",
      command: "hstuParity.goToSite",
      argument: { file: `${base}/reference.py`, line: 6 },
    });
    expect(hoverOf(report, "port.py", 6)).toContain("`u = silu(self._uvqk(x))`");
    expect(hoverOf(report, "reference.py", 6)).toContain("`u = silu(x @ self._uvqk)`");
  });

  it("links to a file whose name would end the link", () => {
    const report = makeReport(base);
    for (const row of report.pairs[0]!.rows) row.reference!.site = site("a (copy) 'b'.py", 6);
    expect(linksOf(hoverOf(report, "port.py", 6))[0]?.argument).toEqual({
      file: `${base}/a (copy) 'b'.py`,
      line: 6,
    });
  });

  it("links to the panel at the worst row of the line", () => {
    const links = linksOf(hoverOf(makeReport(base), "port.py", 7));
    expect(links).toContainEqual({
      label: "Open the layer diff here",
      command: "hstuParity.openPanelAt",
      argument: { candidate: "tripy", origin: "o1", row: "out0" },
    });
  });

  it("says of a line that uses a faulty parameter where that is declared", () => {
    const report = makeReport(base);
    expect(hoverOf(report, "port.py", 7)).toContain("Declared at [port.py\\:3]");
    const { cause: _cause, ...origin } = report.pairs[0]!.origins[0]!;
    report.pairs[0]!.origins = [origin];
    expect(hoverOf(report, "port.py", 7)).toContain(
      "Uses `layers.0._o_weight`, `layers.1._o_weight` and 1 more, declared at [port.py\\:3]",
    );
  });

  it("tells the reference's side that it is the reference's", () => {
    const text = hoverOf(makeReport(base), "reference.py", 7);
    expect(text).toContain("reference side");
    expect(text).toContain("The candidate differs here, the line to fix is [port.py\\:3]");
  });

  it("shows one section for each candidate of a reference line", () => {
    const report = makeReport(base);
    const [pair] = report.pairs;
    report.pairs.push({ ...pair!, candidate: "dense", origins: [] });
    const text = hoverOf(report, "reference.py", 6);
    expect(text).toContain("tripy against torch");
    expect(text).toContain("dense against torch");
  });

  it("keeps a table short, keeps the worst rows and says how many are left out", () => {
    const report = makeReport(base);
    const [pair] = report.pairs;
    const like = pair!.rows[0]!;
    pair!.rows = Array.from({ length: 40 }, (_, i): Row => ({
      ...like,
      id: `r${i}`,
      order: i,
      instance: `layers.${i}`,
      verdict: i === 37 ? "origin" : "match",
    }));
    const text = hoverOf(report, "port.py", 6);
    expect(text).toContain("… and 24 more in the layer diff.");
    expect(text).toContain("`layers.37`");
    expect(text).not.toContain("`layers.30`");
  });

  it("says why a value is not there instead of a number", () => {
    const report = makeReport(base);
    const like = report.pairs[0]!.rows[0]!;
    const { metrics: _m, introduced: _i, inherited: _h, ...bare } = like;
    report.pairs[0]!.rows = [{ ...bare, verdict: "unknown", absentReason: "no counterpart" }];
    const text = hoverOf(report, "port.py", 6);
    expect(text).toContain("**? unknown**");
    expect(text).toContain("—");
    expect(text).not.toContain("relL2 **");
    expect(text).toContain("no counterpart.");
  });

  it("leaves out what has no counterpart where something else of the line was compared", () => {
    const report = makeReport(base);
    const { metrics: _m, ...bare } = report.pairs[0]!.rows[1]!;
    report.pairs[0]!.rows.push({ ...bare, id: "x", instance: "other", absentReason: "alone" });
    const text = hoverOf(report, "port.py", 7);
    expect(text).not.toMatch(/other|alone/);
    expect(text).toContain("largest of 3 instances");
  });

  it("counts NaN as the largest value", () => {
    const report = makeReport(base);
    report.pairs[0]!.rows[3]!.metrics = { relL2: "NaN" };
    expect(hoverOf(report, "port.py", 7)).toContain("relL2 **NaN**");
  });

  it("is absent on a line that took no part", () => {
    expect(hoverText(indexSites(makeReport(base)), `${base}/port.py`, 5)).toBeUndefined();
    expect(hoverText(indexSites(makeReport(base)), `${base}/other.py`, 7)).toBeUndefined();
  });

  it("lets no text of a source or a report act as Markdown", () => {
    const report = makeReport(base);
    const evil = "x` ![](http://a.b/c.png) [run](command:evil?1) <b>|";
    report.sources[0]!.snippets[0]!.text = Array(7).fill(evil).join("\n");
    report.pairs[0]!.candidate = "[a](command:evil) <img src=x>";
    report.pairs[0]!.origins[0]!.cause!.text = "see [here](command:evil) <b>";
    report.pairs[0]!.rows.forEach((row) => (row.instance = "a|b`c"));
    report.pairs[0]!.origins[0]!.referenceSite = site("a](command:evil).py", 1);
    const text = [3, 6, 7].map((line) => hoverOf(report, "port.py", line)).join("\n");
    const outsideCode = text.replace(/(`+)(?!`).*?[^`]\1(?!`)/g, "CODE");
    expect(linksOf(outsideCode).map((link) => link.command)).not.toContain("evil");
    expect(outsideCode).not.toMatch(/[^\\]\]\(command:evil/);
    expect(outsideCode).not.toMatch(/[^\\]<(b|img)/);
    const rows = text.split("\n").filter((line) => line.startsWith("| `"));
    for (const row of rows) expect(row.match(/(?<!\\)\|/g)).toHaveLength(6);
  });

  it("takes less than a millisecond for each line of a report with 2,000 rows", () => {
    const report = makeReport(base);
    const like = report.pairs[0]!.rows;
    report.pairs[0]!.rows = Array.from({ length: 2000 }, (_, i) => ({
      ...like[i % 6]!,
      id: `r${i}`,
      order: i,
      candidate: { ...like[0]!.candidate!, site: site("port.py", 100 + (i % 200)) },
    }));
    const index = indexSites(report);
    const started = performance.now();
    for (let line = 100; line < 300; line++) hoverText(index, `${base}/port.py`, line);
    // The budget is 50 ms for one hover; ten times the promise leaves room for a busy machine.
    expect((performance.now() - started) / 200).toBeLessThan(10);
  });
});
