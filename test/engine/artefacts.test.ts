import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { relL2 } from "../../engine/core/difference.js";
import type { TraceFile } from "../../engine/protocol/trace.js";
import { openTrace } from "../../engine/trace/traceReader.js";
import { makeArtefacts, type StoryRun } from "../../scripts/makeArtefacts.js";
import { bundleRunner } from "../support/bundleRunner.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const committed = path.join(root, "samples", "hstu", "artefacts", "tiny");
const models = ["right-port.onnx", "silent-bug.onnx", "wrong-line.onnx"];

let made: string;
let work: string;
let runs: StoryRun[];
beforeAll(async () => {
  work = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-artefacts-test-"));
  made = path.join(work, "samples", "hstu", "artefacts", "tiny");
  runs = await makeArtefacts({
    root,
    python: path.join(root, ".venv", "bin", "python"),
    runnerEntry: await bundleRunner(path.join(work, "runner")),
    out: made,
    sourcesRelativeTo: committed,
    config: "tiny",
    log: () => undefined,
  });
}, 300_000);
afterAll(() => rm(work, { recursive: true, force: true }));

/** What the sources decide: everything but versions of packages, the machine's threads and measured figures. */
function structure(trace: TraceFile): unknown {
  const { versions: _versions, executor: _executor, threads: _threads, ...ranOn } = trace.ranOn;
  return {
    ...trace,
    ranOn,
    tensors: trace.tensors.map(
      ({ statistics: _statistics, nonDeterminism: _noise, ...rest }) => rest,
    ),
  };
}

describe("the committed artefacts", () => {
  it("come from scripts whose own check passes, for the wrong ports too", () => {
    expect(runs.map((run) => [run.name, run.exitCode])).toEqual([
      ["right-port", 0],
      ["silent-bug", 0],
      ["wrong-line", 0],
    ]);
    for (const run of runs) expect(run.stdout).toContain("PASSED");
  });

  it.each(models)("%s is, byte for byte, what the sources give", async (model) => {
    const [ours, theirs] = await Promise.all([
      readFile(path.join(made, model)),
      readFile(path.join(committed, model)),
    ]);
    expect(ours.equals(theirs)).toBe(true);
  });

  it("the reference's trace has the sources' structure, frames and parameters, and its values within noise", async () => {
    const ours = await openTrace(path.join(made, "torch.trace.json"));
    const theirs = await openTrace(path.join(committed, "torch.trace.json"));
    try {
      expect(structure(ours.trace)).toEqual(structure(theirs.trace));
      const given = new Set(
        [...ours.trace.parameters, ...ours.trace.inputs].map((port) => port.tensor),
      );
      let compared = 0;
      for (const tensor of ours.trace.tensors) {
        if (tensor.key === undefined) continue;
        const difference = relL2(await theirs.read(tensor.id), await ours.read(tensor.id));
        expect(difference).toBeLessThanOrEqual(given.has(tensor.id) ? 0 : 1e-6);
        compared++;
      }
      expect(compared).toBeGreaterThan(100);
    } finally {
      await ours.close();
      await theirs.close();
    }
  });

  it("take at most 8 MB together", async () => {
    const files = [...models, "torch.trace.json", "torch.safetensors"];
    const sizes = await Promise.all(files.map((file) => readFile(path.join(committed, file))));
    expect(sizes.reduce((sum, bytes) => sum + bytes.length, 0)).toBeLessThan(8e6);
  });
});
