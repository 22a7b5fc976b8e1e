import { describe, expect, test } from "vitest";
import { curveDataOf } from "../../webview/layerDiff/curveData.js";
import { layerDiffHtml } from "../../webview/layerDiff/html.js";
import { modelOf } from "../../webview/layerDiff/reportModel.js";
import { buildTree, splitStage, visibleLines } from "../../webview/layerDiff/tree.js";
import { decodeHostMessage, decodePanelMessage } from "../../webview/protocol/messages.js";
import { formatAge, formatDifference, formatShare, formatValue } from "../../webview/ui/format.js";
import { exampleReport } from "../support/exampleReport.js";

describe("numbers", () => {
  test.each([
    [0, "exact"],
    ["-0", "exact"],
    [0.9, "0.900"],
    [0.00775, "0.00775"],
    [0.001, "0.00100"],
    [0.00099949, "9.99e−4"],
    [3.1249e-8, "3.12e−8"],
    [9999.4, "9999"],
    [12345, "1.23e4"],
    [-0.5, "−0.500"],
    ["NaN", "NaN"],
    ["Infinity", "+∞"],
    ["-Infinity", "−∞"],
  ] as const)("the difference %s is written %s", (value, text) => {
    expect(formatDifference(value)).toBe(text);
  });

  test("a value of 0 is 0, not exact", () => {
    expect(formatValue(0)).toBe("0");
  });

  test("a share never rounds up to all or down to nothing", () => {
    expect([0, 0.0004, 0.899, 0.9996, 1].map(formatShare)).toEqual([
      "0 %",
      "< 1 %",
      "89 %",
      "99.9 %",
      "100 %",
    ]);
  });

  test("a report without a readable time has no age", () => {
    expect(formatAge("soon", 0)).toBeUndefined();
    expect(formatAge("2026-11-22T21:00:00Z", Date.parse("2026-11-22T21:03:10Z"))).toBe(
      "3 minutes ago",
    );
  });
});

describe("the tree", () => {
  test.each([
    ["layers.0.output", "layers.0", "output"],
    ["layers.12", "layers.12", ""],
    ["preprocess", "preprocess", ""],
    ["_hstu._attention_layers.0._bias.forward", "_hstu._attention_layers.0", "_bias.forward"],
    ["a.0.b.1.c", "a.0.b.1", "c"],
    ["conv2d.x", "conv2d.x", ""],
  ])("%s is in layer %s, stage “%s”", (stage, layer, rest) => {
    expect(splitStage(stage)).toEqual({ layer, stage: rest });
  });

  test("a group shows the worst verdict among its rows, and their largest differences", () => {
    const rows = exampleReport().pairs[0]?.rows ?? [];
    const layer = buildTree(rows).find(({ label }) => label === "layers.0");
    const ofLayer = rows.filter(({ stage }) => stage.startsWith("layers.0."));
    expect(layer?.verdict).toBe("origin");
    expect(layer?.originCount).toBe(1);
    expect(layer?.rowCount).toBe(ofLayer.length);
    expect(layer?.introduced).toBe(Math.max(...ofLayer.map((row) => Number(row.introduced ?? 0))));
  });

  test("a group is unknown only when all its rows are", () => {
    const rows = (exampleReport().pairs[0]?.rows ?? []).slice(0, 2);
    Object.assign(rows[0] ?? {}, { verdict: "unknown" });
    expect(buildTree(rows)[0]).toMatchObject({ verdict: "match", knownCount: 1, rowCount: 2 });
    Object.assign(rows[1] ?? {}, { verdict: "unknown" });
    expect(buildTree(rows)[0]).toMatchObject({ verdict: "unknown", knownCount: 0 });
  });

  test("a filter needs all its words and opens what is folded", () => {
    const tree = buildTree(exampleReport().pairs[0]?.rows ?? []);
    const folded = new Set(tree.map(({ id }) => id));
    const all = visibleLines(tree, folded, { text: "", originsOnly: false });
    expect(all.every(({ node }) => node.kind === "group" && node.level === 1)).toBe(true);
    const found = visibleLines(tree, folded, {
      text: "amplifier layers.1",
      originsOnly: false,
    });
    const rows = found.flatMap(({ node }) => (node.kind === "row" ? node.row.stage : []));
    expect(rows).toEqual(["layers.1.attention_norm"]);
  });
});

describe("the curve", () => {
  test("draws 0 and equal integers in the exact lane, leaves a gap where relL2 is undefined, marks the origins", () => {
    const report = exampleReport({ dense: true });
    delete report.pairs[1]?.rows[2]?.metrics?.relL2;
    const { pairs } = modelOf(report);
    const tripy = pairs.find(({ pair }) => pair.candidate === "tripy");
    if (!tripy) throw new Error("the example has no tripy");
    const data = curveDataOf(pairs, tripy);
    const dense = data.series.find(({ candidate }) => candidate === "dense")?.values ?? [];
    const own = data.series.find(({ chosen }) => chosen)?.values ?? [];
    expect(dense[0]).toBe(data.exactLane);
    expect(data.exactLane).toBeLessThan(data.low);
    expect(own[1]).toBe(data.exactLane);
    expect(own[2]).toBeNull();
    expect(data.origins.map((x) => data.rows[x]?.verdict)).toEqual(["origin", "origin"]);
    const first = tripy.rows[0]?.metrics?.relL2;
    expect(own[0]).toBeCloseTo(Math.log10(Number(first)));
  });
});

describe("messages", () => {
  test("a report is decoded, with its address and changed files", () => {
    const report = exampleReport();
    const message = {
      type: "showReport",
      report,
      address: { row: "r1" },
      stale: ["a.py"],
    };
    expect(decodeHostMessage(message)).toEqual({ message });
  });

  test.each([
    [undefined, "not an object"],
    [{ type: "explode" }, "explode"],
    [{ type: "showReport", report: { schemaVersion: "1" } }, "schemaVersion"],
    [{ type: "showReport", report: { ...exampleReport(), pairs: {} } }, "pairs"],
    [
      {
        type: "showReport",
        report: { ...exampleReport(), pairs: [{ rows: [1] }] },
      },
      "rows",
    ],
    [{ type: "showReport", report: exampleReport(), address: { row: 1 } }, "address"],
    [{ type: "showState", state: "dancing" }, "state"],
    [{ type: "showState", state: "running", progress: { text: 1 } }, "progress"],
    [{ type: "select" }, "address"],
    [{ type: "stale", files: [1] }, "files"],
  ])("host message %# is refused with its reason", (message, reason) => {
    const decoded = decodeHostMessage(message);
    expect("error" in decoded && decoded.error).toContain(reason);
  });

  test("a faulty row is named by its place", () => {
    const report = exampleReport();
    Object.assign(report.pairs[0]?.rows[3] ?? {}, { inputs: [7] });
    const decoded = decodeHostMessage({ type: "showReport", report });
    expect("error" in decoded && decoded.error).toContain("pairs[0].rows[3].inputs");
  });

  test.each([
    [{ type: "ready", extra: 1 }, { type: "ready" }],
    [
      { type: "openSite", file: "a.py", line: 3, column: 2, beside: true },
      { type: "openSite", file: "a.py", line: 3, column: 2, beside: true },
    ],
    [
      { type: "copy", text: "x" },
      { type: "copy", text: "x" },
    ],
  ])("panel message %# is decoded", (message, expected) => {
    expect(decodePanelMessage(message)).toEqual({ message: expected });
  });

  test.each([
    null,
    { type: "openSite", file: "a.py", line: 0, beside: false },
    { type: "openSite", file: "", line: 1, beside: false },
    { type: "openSite", file: "a.py", line: 1.5, beside: false },
    { type: "openSite", file: "a.py", line: 1 },
    { type: "copy" },
    { type: "selectionChanged", address: [] },
    { type: "eval", text: "x" },
  ])("panel message %# is refused", (message) => {
    expect(decodePanelMessage(message)).toHaveProperty("error");
  });
});

describe("the document", () => {
  const sources = {
    cspSource: "https://panel",
    nonce: "abc",
    scriptUri: 'https://panel/a.js?"><script>',
    styleUri: "https://panel/a.css",
  };

  test("allows no inline script, no inline style and no network", () => {
    const html = layerDiffHtml(sources);
    expect(html).toContain("default-src 'none'");
    expect(html).not.toContain("unsafe");
    expect(html).not.toContain("connect-src");
    expect(html.match(/<script/g)).toHaveLength(1);
  });
});
