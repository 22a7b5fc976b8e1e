import { describe, expect, it } from "vitest";
import { findingsOf } from "../../engine/server/findings.js";
import { indexSites } from "../../engine/server/siteIndex.js";
import { makeReport, site } from "./serverReport.js";

const base = "/projects/port";
type Origin = ReturnType<typeof makeReport>["pairs"][number]["origins"][number];

function findings(change?: (report: ReturnType<typeof makeReport>) => void) {
  const report = makeReport(base);
  change?.(report);
  return findingsOf(indexSites(report));
}

describe("the findings of a report", () => {
  it("are an error on the line to fix, with cause, instances and introduced", () => {
    const errors = findings().filter((finding) => finding.severity === "error");
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({
      file: `${base}/port.py`,
      site: { line: 3 },
      code: "parameter",
      message:
        "this parameter never came from the reference (3 instances): introduced 0.900, inherited exact",
    });
  });

  it("relate the error to the line that uses the parameter and to both lines of the reference", () => {
    const [error] = findings();
    expect(error?.related.map(({ file, site: at }) => `${file}:${at.line}`)).toEqual([
      `${base}/port.py:7`,
      `${base}/reference.py:3`,
      `${base}/reference.py:7`,
    ]);
  });

  it("are a note on each other line, related to the line to fix", () => {
    const notes = findings().filter((finding) => finding.severity === "information");
    expect(notes.map(({ file, site: at }) => `${file}:${at.line}`).sort()).toEqual([
      `${base}/port.py:7`,
      `${base}/reference.py:3`,
      `${base}/reference.py:7`,
    ]);
    for (const note of notes) {
      expect(note.related).toEqual([
        expect.objectContaining({ file: `${base}/port.py`, message: "the line to fix" }),
      ]);
      expect(note.message).toContain("introduced 0.900 in 3 instances");
    }
  });

  it("name the kind of origin where no cause is known", () => {
    const [error] = findings((report) => {
      const { cause: _cause, ...origin } = report.pairs[0]!.origins[0]!;
      report.pairs[0]!.origins = [{ ...origin, kind: "missingStep", instances: [] } as Origin];
    });
    expect(error).toMatchObject({
      code: "missingStep",
      message: "a step of the reference is missing here: introduced 0.900, inherited exact",
    });
  });

  it("offer the alternatives of an origin as related lines", () => {
    const [error] = findings((report) => {
      report.pairs[0]!.origins[0]!.alternatives = [{ site: site("port.py", 6), why: "in between" }];
    });
    expect(error?.related.at(-1)).toMatchObject({
      site: { line: 6 },
      message: "it may be this line: in between",
    });
  });

  it("are no note on the line to fix itself", () => {
    const all = findings((report) => {
      report.pairs[0]!.origins[0]!.usedAt = report.pairs[0]!.origins[0]!.site;
    });
    const guilty = all.filter(({ file, site: at }) => file.endsWith("port.py") && at.line === 3);
    expect(guilty.map((finding) => finding.severity)).toEqual(["error"]);
  });

  it("say the same thing on one line only once", () => {
    const once = findings().length;
    const twice = findings((report) => {
      const [origin] = report.pairs[0]!.origins;
      report.pairs[0]!.origins.push({ ...origin!, id: "o2" });
    });
    expect(twice).toHaveLength(once);
  });

  it("show the report's own problems at their lines", () => {
    const all = findings((report) => {
      report.problems.push({
        severity: "warning",
        code: "source-changed",
        message: "port.py has changed",
        nextStep: "Record it again.",
        site: site("port.py", 1, ""),
      });
    });
    expect(all.at(-1)).toMatchObject({
      severity: "warning",
      code: "source-changed",
      message: "port.py has changed. Record it again.",
    });
  });

  it("leave out what has no place in a file", () => {
    const all = findings((report) => {
      report.pairs[0]!.origins[0]!.site = site("", 0);
      report.problems.push({ severity: "error", code: "x", message: "m", nextStep: "n" });
    });
    expect(all.every((finding) => finding.severity === "information")).toBe(true);
    expect(all.every((finding) => finding.related.length === 0)).toBe(true);
  });
});
