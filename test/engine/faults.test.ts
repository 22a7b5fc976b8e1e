import { mkdtemp, readFile, realpath, rm, symlink } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Origin } from "../../engine/protocol/report.js";
import { loadCases, type Case } from "../faults/faultList.js";
import { plantCase } from "../faults/plant.js";
import { runCase, type Bench } from "../faults/runCase.js";
import { rankOf } from "../faults/score.js";
import { isAccused } from "../faults/summary.js";
import { bundleCli } from "../support/bundleCli.js";
import { root } from "../support/bundleRunner.js";
import { python } from "../support/runCli.js";

// The whole benchmark takes minutes: `npm run bench:faults`. These are cases of it that hold.
describe("planted faults", () => {
  let bench: Bench;
  let cases: readonly Case[] = [];

  beforeAll(async () => {
    const folder = await realpath(
      await mkdtemp(path.join(os.tmpdir(), "hstu-parity-faults-test-")),
    );
    const cli = await bundleCli(path.join(folder, "bundle"));
    await symlink(path.join(root, "engine/capture"), path.join(folder, "bundle/capture"));
    // What other tools say of the final outputs is for the benchmark alone.
    const outputs = { compare: async () => ({}), end: () => {} };
    bench = { root, folder, cli, python, outputs };
    cases = await loadCases(path.join(root, "test/faults"));
  });
  afterAll(() => rm(bench.folder, { recursive: true, force: true }));

  const caseOf = (id: string): Case => {
    const found = cases.find((one) => one.id === id);
    if (!found) throw new Error(`no case "${id}"`);
    return found;
  };

  it.each([
    "hstu-tripy/scale-not-sqrt",
    "hstu-tripy/three-in-one-block",
    "gru/update-inverted",
    "gru/initial-state-ones",
    "attention/gelu-root-forgotten",
    "attention/post-norm",
    "hstu-tripy/split-qkuv",
    "hstu-tripy/back-permute-wrong",
    "hstu-tripy/layers-reversed",
    "ple/click-tower-twice",
    "ple/gates-reshaped",
    "ple/softmax-half",
    "encoder/mlp-biases-swapped",
    "convnet/no-gate",
    "convnet/one-unit-less",
    "dlrm/top-from-bottom-bias",
    // Attention that is one op in the candidate and many in the reference.
    "encoder/groups-tiled-port",
    // Rows packed on one side, padded with room before the last ones on the other.
    "stu/shift-left",
    "stu/towers-interleaved-here",
    "stu/heads-merged-unpermuted",
  ])("%s is found first and alone", async (id) => {
    const result = await runCase(caseOf(id), bench);
    expect(result).toMatchObject({ verdict: "fail", rank: 1, proves: true, minimal: true });
    expect(result.faults > 1 ? 0 : result.extra).toBe(0);
  });

  it.each([
    "hstu-tripy/unfused-uvqk",
    "gru/chunked",
    "encoder/padding-zeroed-each-block",
    "stu/the-other-padding",
    "stu/embedding-split-off-here",
  ])("%s is not accused", async (id) => {
    const result = await runCase(caseOf(id), bench);
    expect([result.verdict, result.got, isAccused(result)]).toEqual(["pass", [], false]);
  });

  it("are enough, over enough ports, and a third of them at least is held out", () => {
    const faults = cases.filter((one) => !one.honest);
    expect(faults.length).toBeGreaterThanOrEqual(100);
    expect(cases.length - faults.length).toBeGreaterThanOrEqual(30);
    expect(new Set(faults.map(({ port }) => port.id)).size).toBeGreaterThanOrEqual(5);
    const share = cases.filter((one) => one.heldOut).length / cases.length;
    expect(share).toBeGreaterThan(0.28);
    expect(share).toBeLessThan(0.6);
  });

  it("apply, and the lines that may be named exist", async () => {
    for (const one of cases) {
      const copy = path.join(bench.folder, "applied");
      const wanted = await plantCase(one, root, copy);
      expect(wanted.length === 0, one.id).toBe(one.honest);
      await rm(copy, { recursive: true });
    }
  });

  it("count the lines of an edit after later edits above it", async () => {
    const one = caseOf("hstu-tripy/same");
    const edit = (find: string, replace: string, lines: string[]) => {
      return { file: "tripy_attention.py", find, replace, lines };
    };
    const copy = path.join(bench.folder, "counted");
    const wanted = await plantCase(
      {
        ...one,
        honest: false,
        edits: [
          edit("tp.silu(qk_attn) / n", "tp.relu(qk_attn) / n", ["@"]),
          edit("    n = config.padded_len\n", "    n = config.padded_len\n    n = n + 0\n", []),
        ],
      },
      root,
      copy,
    );
    const lines = (await readFile(path.join(copy, "tripy_attention.py"), "utf8")).split("\n");
    expect(wanted.map((some) => some.map(({ line }) => lines[line - 1]?.trim()))).toEqual([
      ["qk_attn = tp.relu(qk_attn) / n"],
    ]);
  });
});

describe("the rank of a fault", () => {
  const line = (n: number) => ({ file: "port.py", line: n });
  const origin = (first: number, ...others: number[]) =>
    ({
      site: line(first),
      alternatives: others.map((n) => ({ site: line(n), why: "" })),
    }) as unknown as Origin;

  it("is its place among all lines that are named", () => {
    expect(rankOf([[line(3)]], [origin(3)])).toBe(1);
    expect(rankOf([[line(3), line(4)]], [origin(7, 4)])).toBe(2);
    expect(rankOf([[line(3)]], [origin(7, 8), origin(3)])).toBe(3);
    expect(rankOf([[line(3)]], [origin(7, 7), origin(7), origin(3)])).toBe(2);
    expect(rankOf([[line(3)]], [origin(7)])).toBeUndefined();
    expect(rankOf([[line(3)]], [])).toBeUndefined();
  });

  it("is that of the worst of several, each within an origin of its own", () => {
    expect(rankOf([[line(3)], [line(7)]], [origin(7), origin(3)])).toBe(1);
    expect(rankOf([[line(3)], [line(7)]], [origin(7), origin(4, 3)])).toBe(2);
    expect(rankOf([[line(3)], [line(7)]], [origin(7)])).toBeUndefined();
  });
});
