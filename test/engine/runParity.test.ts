import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Report, Row } from "../../engine/protocol/report.js";
import { UserError } from "../../engine/protocol/userError.js";
import { fromWire } from "../../engine/protocol/wire.js";
import { runParity } from "../../engine/run/runParity.js";
import { writeSafetensors } from "../../engine/trace/safetensors.js";
import { bundleRunner } from "../support/bundleRunner.js";
import { pseudoRandom, storyModel, type StoryModel } from "../support/storyModel.js";

/** Two layers: h = x·W1, a = tanh(h), s = a·c, y = s·W2 + b, out = x + y. */
function model(change: Partial<Changes> = {}): StoryModel {
  const c: Changes = { ...right, ...change };
  return {
    file: c.file,
    inputs: { x: [6, 8] },
    parameters: {
      "layer.w1": { shape: [8, 8], values: c.w1, line: 2, tensor: "layer.w1" },
      [c.w2Name]: { shape: [8, 8], values: c.w2, line: 3, tensor: c.w2Name },
      "layer.b": { shape: [8], values: c.b, line: 4, tensor: "layer.b" },
    },
    constants: { scale: { shape: [], values: [c.scale] } },
    nodes: [
      { op: "MatMul", inputs: ["x", "layer.w1"], output: "forward.h", line: 10 },
      { op: c.activation, inputs: ["forward.h"], output: c.aName, line: 11 },
      { op: "Mul", inputs: [c.aName, "scale"], output: c.sName, line: 12 },
      { op: "MatMul", inputs: [c.sName, c.w2Name], output: `${c.file}:t0`, line: 13 },
      { op: "Add", inputs: [`${c.file}:t0`, "layer.b"], output: "forward.y", line: 14 },
      { op: "Add", inputs: ["x", "forward.y"], output: "forward.out", line: 15 },
    ],
    outputs: ["forward.out"],
  };
}

interface Changes {
  file: string;
  w1: number[];
  w2: number[];
  w2Name: string;
  b: number[];
  scale: number;
  activation: string;
  aName: string;
  sName: string;
}

const right: Changes = {
  file: "port.py",
  w1: pseudoRandom(64, 1),
  w2: pseudoRandom(64, 2),
  w2Name: "layer.w2",
  b: pseudoRandom(8, 3),
  scale: 0.5,
  activation: "Tanh",
  aName: "forward.a",
  sName: "forward.s",
};

const transposed = (values: readonly number[]): number[] =>
  values.map((_, i) => values[(i % 8) * 8 + Math.floor(i / 8)] as number);

let folder: string;
let runnerEntry: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-run-"));
  runnerEntry = await bundleRunner(path.join(folder, "runner"));
  const source = Array.from({ length: 20 }, (_, i) => `line ${i + 1}`).join("\n");
  await writeFile(path.join(folder, "reference.py"), source);
  await writeFile(path.join(folder, "port.py"), source);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function compare(
  candidate: Partial<Changes>,
  runFile: Record<string, unknown> = {},
  inputs: readonly number[] = pseudoRandom(48, 7),
): Promise<Report> {
  await writeFile(path.join(folder, "reference.onnx"), storyModel(model({ file: "reference.py" })));
  await writeFile(path.join(folder, "candidate.onnx"), storyModel(model(candidate)));
  await writeSafetensors(path.join(folder, "inputs.safetensors"), {
    x: {
      dtype: "float32",
      shape: [6, 8],
      bytes: new Uint8Array(Float32Array.from(inputs).buffer),
    },
  });
  const file = path.join(folder, "story.parity.json");
  await writeFile(
    file,
    JSON.stringify({
      implementations: {
        reference: { onnx: "reference.onnx" },
        port: { onnx: "candidate.onnx" },
      },
      reference: "reference",
      inputs: "inputs.safetensors",
      ...runFile,
    }),
  );
  return runAgain(file);
}

/** Runs the story's run file as it lies on disk. */
function runAgain(runFile = path.join(folder, "story.parity.json")): Promise<Report> {
  return runParity({
    runFile,
    runnerEntry,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    command: ["test"],
  });
}

function pairOf(report: Report) {
  const pair = report.pairs[0];
  if (!pair) throw new Error("the report has no pair");
  return pair;
}

function rowOf(report: Report, id: string): Row {
  const row = pairOf(report).rows.find((r) => r.id === id);
  if (!row)
    throw new Error(
      `no row ${id} among ${pairOf(report)
        .rows.map((r) => r.id)
        .join(", ")}`,
    );
  return row;
}

describe("a right port", () => {
  it("passes, exactly, when it does the same", async () => {
    const report = await compare({});
    expect(report.verdict).toBe("pass");
    expect(pairOf(report).output.relL2).toBe(0);
    expect(pairOf(report).origins).toEqual([]);
    expect(pairOf(report).coverage).toMatchObject({ covered: 6, total: 6 });
    expect(rowOf(report, "forward.a").pairedBy).toBe("name");
  });

  it("says how each pair was made", async () => {
    const report = await compare(
      { aName: "Forward.A_", sName: "forward.scaled" },
      {
        pairs: [{ reference: "forward.s", candidate: "forward.scaled" }],
        stages: { "forward.s": "scale" },
      },
    );
    expect(report.verdict).toBe("pass");
    expect(rowOf(report, "Forward.A_").pairedBy).toBe("normalisedName");
    expect(rowOf(report, "forward.scaled")).toMatchObject({
      pairedBy: "declared",
      stage: "scale",
      verdict: "match",
    });
  });

  it("stores a parameter transposed and reads it so: that is no fault by itself", async () => {
    const report = await compare({ w2: transposed(right.w2) });
    const port = report.implementations.find((i) => i.id === "port");
    expect(port?.parameters.transposed.map((p) => p.name)).toEqual(["layer.w2"]);
    // Both sides read it by the same op: it was stored the wrong way round, unless it is read so.
    expect(report.verdict).toBe("fail");
    const { origins } = pairOf(report);
    expect(origins.map((o) => [o.kind, o.site.line])).toEqual([["operand", 3]]);
    expect(origins[0]?.alternatives.map((a) => a.site.line)).toEqual([13]);
  });

  it("is not accused because two variables share a name without being the same quantity", async () => {
    // The port's `a` is the scaled activation and its `s` the plain one times one.
    const report = await compare({}, {});
    expect(report.verdict).toBe("pass");
    const swapped = model();
    await writeFile(
      path.join(folder, "candidate.onnx"),
      storyModel({
        ...swapped,
        nodes: [
          swapped.nodes[0],
          { op: "Mul", inputs: ["forward.h", "one"], output: "t1", line: 11 },
          { op: "Tanh", inputs: ["t1"], output: "t2", line: 11 },
          { op: "Mul", inputs: ["t2", "scale"], output: "forward.a", line: 12 },
          { op: "Mul", inputs: ["forward.a", "one"], output: "forward.s", line: 12 },
          ...swapped.nodes.slice(3),
        ].filter((node) => node !== undefined),
        constants: { scale: { shape: [], values: [0.5] }, one: { shape: [], values: [1] } },
      }),
    );
    const again = await runAgain();
    expect(again.verdict).toBe("pass");
    expect(rowOf(again, "forward.a")).toMatchObject({ verdict: "match", pairedBy: "signature" });
    expect(rowOf(again, "forward.a").name).toBe("forward.s");
  });
});

describe("the introduced/inherited split", () => {
  it("blames the one wrong op and calls everything after it a carrier", async () => {
    const report = await compare({ scale: 0.5625 });
    expect(report.verdict).toBe("fail");
    const [origin, ...others] = pairOf(report).origins;
    expect(others).toEqual([]);
    expect(origin).toMatchObject({
      kind: "op",
      site: { file: "port.py", line: 12 },
      referenceSite: { file: "reference.py", line: 12 },
    });
    expect(origin?.alternatives).toEqual([]);
    expect(origin?.cause).toMatchObject({ kind: "scale" });
    expect(origin?.cause?.text).toContain("9/8");
    expect(fromWire(origin?.introduced ?? 0)).toBeCloseTo(0.125, 6);
    expect(rowOf(report, "forward.a").verdict).toBe("match");
    expect(rowOf(report, "forward.s").verdict).toBe("origin");
    const y = rowOf(report, "forward.y");
    expect(y.verdict).toBe("carrier");
    expect(fromWire(y.introduced ?? 1)).toBeLessThan(1e-6);
    expect(fromWire(y.inherited ?? 0)).toBeGreaterThan(1e-3);
    expect(rowOf(report, "forward.out").verdict).toBe("carrier");
  });

  it("proves the repair, and that it is minimal", async () => {
    const report = await compare({ scale: 0.5625, activation: "Relu" });
    expect(pairOf(report).origins.map((o) => o.site.line)).toEqual([11, 12]);
    expect(pairOf(report).repair).toMatchObject({
      tensors: 2,
      sites: 2,
      proves: true,
      minimal: true,
      unexplained: [],
    });
    expect(fromWire(pairOf(report).repair?.outputRelL2After ?? 1)).toBeLessThan(1e-6);
  });

  it("finds all origins at once: a parameter and an op", async () => {
    const report = await compare({ b: pseudoRandom(8, 99), scale: 0.25 });
    expect(pairOf(report).origins.map((o) => [o.kind, o.site.line])).toEqual([
      ["op", 12],
      ["parameter", 4],
    ]);
    expect(pairOf(report).repair).toMatchObject({ proves: true, minimal: true });
  });

  it("does not let a repair of the output itself prove anything", async () => {
    const base = model();
    await compare({});
    await writeFile(
      path.join(folder, "candidate.onnx"),
      storyModel({
        ...base,
        nodes: base.nodes.map((node) =>
          node.output === "forward.out" ? { ...node, op: "Sub" } : node,
        ),
      }),
    );
    const report = await runAgain();
    expect(pairOf(report).origins.map((o) => o.site.line)).toEqual([15]);
    expect(pairOf(report).repair).toMatchObject({ proves: false });
  });

  it("finds the one wrong line of a segment whose tensors bear no names", async () => {
    const report = await compare({ activation: "Relu", aName: "p1", sName: "p2" });
    expect(report.verdict).toBe("fail");
    const { origins } = pairOf(report);
    expect(origins.map((o) => [o.site.line, o.alternatives])).toEqual([[11, []]]);
    expect(rowOf(report, "p1").pairedBy).toBe("lockstep");
    expect(rowOf(report, "p2").pairedBy).toBe("lockstep");
  });

  it("lists the lines that nothing tells apart, the last first", async () => {
    // With either of the two mended, what follows still differs.
    const report = await compare({ activation: "Relu", aName: "p1", sName: "p2", scale: 0.25 });
    expect(report.verdict).toBe("fail");
    const { origins } = pairOf(report);
    expect(origins.map((o) => [o.site.line, o.alternatives.map((a) => a.site.line)])).toEqual([
      [12, [11]],
    ]);
  });

  it("shows rows in the order in which the reference computes them", async () => {
    const twoBranches = (file: string, first: string, second: string): StoryModel => ({
      ...model({ file }),
      nodes: [
        ...[first, second].map((op) => ({
          op,
          inputs: ["x"],
          output: `forward.${op.toLowerCase()}`,
          line: 10,
        })),
        { op: "Add", inputs: ["forward.tanh", "forward.abs"], output: "forward.out", line: 15 },
      ],
    });
    await compare({});
    await writeFile(
      path.join(folder, "reference.onnx"),
      storyModel(twoBranches("reference.py", "Tanh", "Abs")),
    );
    await writeFile(
      path.join(folder, "candidate.onnx"),
      storyModel(twoBranches("port.py", "Abs", "Tanh")),
    );
    const { rows } = pairOf(await runAgain());
    expect(rows.map((row) => row.id)).toEqual(["forward.tanh", "forward.abs", "forward.out"]);
    expect(rows.map((row) => row.order)).toEqual([0, 1, 2]);
  });
});

describe("gates", () => {
  it("come from the measured noise: a scale of 1 + 2e-6 is found although the output barely moves", async () => {
    const report = await compare({ scale: 0.5 * (1 + 2e-6) });
    expect(pairOf(report).origins.map((o) => o.site.line)).toEqual([12]);
    expect(rowOf(report, "forward.h").gate?.noise).toBeDefined();
  });

  it("fall back to the type's own where an op has no float64 kernel to measure with", async () => {
    await compare({});
    const withErf = (file: string): StoryModel => model({ file, activation: "Erf" });
    await writeFile(path.join(folder, "reference.onnx"), storyModel(withErf("reference.py")));
    await writeFile(path.join(folder, "candidate.onnx"), storyModel(withErf("port.py")));
    const report = await runAgain();
    expect(report.verdict).toBe("pass");
    expect(rowOf(report, "forward.h").gate).toHaveProperty("noise");
    expect(rowOf(report, "forward.a").gate).toEqual({ value: 1.3e-6, from: "floor" });
    // What comes later inherits rounding that nobody measured.
    expect(rowOf(report, "forward.s").gate).toHaveProperty("noise");
    expect(rowOf(report, "forward.s").accumulatedGate).toEqual({ value: 1.3e-6, from: "floor" });
  });

  it("do not take a stray cast to float16 for noise", async () => {
    const base = model();
    await compare({});
    await writeFile(
      path.join(folder, "candidate.onnx"),
      storyModel({
        ...base,
        nodes: base.nodes.flatMap((node) =>
          node.output === "forward.a"
            ? [
                { ...node, output: "exact" },
                { op: "Cast", inputs: ["exact"], output: "half", line: 11, attributes: { to: 10 } },
                {
                  op: "Cast",
                  inputs: ["half"],
                  output: "forward.a",
                  line: 11,
                  attributes: { to: 1 },
                },
              ]
            : [node],
        ),
      }),
    );
    const report = await runAgain();
    expect(pairOf(report).origins.map((o) => o.site.line)).toEqual([11]);
    expect(rowOf(report, "forward.a").gate?.from).toBe("floor");
  });
});

describe("parameters first", () => {
  it("names a parameter that never came from the reference, where it is declared and used", async () => {
    const report = await compare({ w2: pseudoRandom(64, 55), w2Name: "layer._w2" });
    const [origin] = pairOf(report).origins;
    expect(origin).toMatchObject({
      kind: "parameter",
      site: { file: "port.py", line: 3 },
      usedAt: { file: "port.py", line: 13 },
      referenceSite: { file: "reference.py", line: 3 },
      parameters: ["layer._w2"],
    });
    const port = report.implementations.find((i) => i.id === "port");
    expect(port?.parameters.notFromReference.map((p) => [p.name, p.howPaired])).toEqual([
      ["layer._w2", "normalisedName"],
    ]);
    expect(pairOf(report).repair).toMatchObject({ proves: true });
  });

  it("finds the orientation in which a square parameter of another layout is repaired", async () => {
    const base = model({ w2: pseudoRandom(64, 55) });
    await compare({});
    await writeFile(
      path.join(folder, "candidate.onnx"),
      storyModel({
        ...base,
        nodes: base.nodes.flatMap((node) =>
          node.output === "port.py:t0"
            ? [
                {
                  op: "Transpose",
                  inputs: ["layer.w2"],
                  output: "turned",
                  line: 13,
                  attributes: { perm: [1, 0] },
                },
                { ...node, inputs: ["forward.s", "turned"] },
              ]
            : [node],
        ),
      }),
    );
    const report = await runAgain();
    expect(pairOf(report).origins.map((o) => [o.kind, o.site.line])).toEqual([["parameter", 3]]);
    expect(pairOf(report).repair).toMatchObject({ proves: true, minimal: true });
  });

  it("finds parameters of other names and values by what their shapes explain", async () => {
    const report = await compareRenamed({});
    expect(report.verdict).toBe("fail");
    expect(pairOf(report).origins.map((o) => [o.kind, o.site.line])).toEqual([
      ["parameter", 2],
      ["parameter", 3],
      ["parameter", 4],
    ]);
    expect(pairOf(report).repair).toMatchObject({ proves: true });
    const port = report.implementations.find(({ id }) => id === "port");
    expect(port?.parameters.notFromReference.map((p) => p.howPaired)).toEqual([
      "use",
      "shape",
      "shape",
    ]);
  });

  it("tells by what reads them which of several of one shape they are", async () => {
    const report = await compareRenamed({
      "other_thing.extra": { shape: [8, 8], values: pseudoRandom(64, 81), line: 5, tensor: "e1" },
      "other_thing.more": { shape: [8], values: pseudoRandom(8, 82), line: 6, tensor: "e2" },
    });
    expect(report.verdict).toBe("fail");
    expect(pairOf(report).origins.map((o) => [o.kind, o.site.line])).toEqual([
      ["parameter", 2],
      ["operand", 13],
    ]);
    expect(pairOf(report).repair).toMatchObject({ proves: true, minimal: true });
  });
});

/** The right model, in which every parameter has another name and other values. */
async function compareRenamed(more: StoryModel["parameters"]): Promise<Report> {
  await compare({});
  const base = model();
  const renamed = (text: string): string => text.replace("layer.", "other_thing.");
  const parameters = Object.entries(base.parameters).map(([name, p], i) => [
    renamed(name),
    { ...p, tensor: renamed(p.tensor), values: pseudoRandom(p.values.length, 70 + i) },
  ]);
  await writeFile(
    path.join(folder, "candidate.onnx"),
    storyModel({
      ...base,
      parameters: { ...(Object.fromEntries(parameters) as StoryModel["parameters"]), ...more },
      nodes: base.nodes.map((node) => ({ ...node, inputs: node.inputs.map(renamed) })),
    }),
  );
  return runAgain();
}

describe("what the run file says", () => {
  it("a declared difference alone passes and is listed", async () => {
    const report = await compare(
      { scale: 0.5625 },
      { expected: [{ rows: "forward.s", reason: "another temperature" }] },
    );
    expect(report.verdict).toBe("pass");
    expect(rowOf(report, "forward.s").verdict).toBe("expected");
    expect(pairOf(report).declared).toEqual([
      { pattern: "forward.s", reason: "another temperature", rows: ["forward.s"] },
    ]);
  });

  it("a declared difference does not hide another fault", async () => {
    const report = await compare(
      { scale: 0.5625, b: pseudoRandom(8, 99) },
      { expected: [{ rows: "forward.s", reason: "another temperature" }] },
    );
    expect(report.verdict).toBe("fail");
    expect(pairOf(report).origins.map((o) => o.site.line)).toEqual([4]);
  });

  it("a user's tolerance replaces the measured gate and is shown as theirs", async () => {
    const report = await compare(
      { scale: 0.5 * (1 + 1e-4) },
      { tolerances: { "**": { relL2: 1e-3 } } },
    );
    expect(report.verdict).toBe("pass");
    expect(rowOf(report, "forward.s").gate).toMatchObject({ value: 1e-3, from: "user" });
    const strict = await compare({ scale: 0.5 * (1 + 1e-4) });
    expect(strict.verdict).toBe("fail");
    expect(rowOf(strict, "forward.s").gate?.from).not.toBe("user");
  });

  it("tells whether the script's own check would notice", async () => {
    const report = await compare({ scale: 0.5 * (1 + 1e-4) }, { ownCheck: { atol: 3e-2 } });
    expect(pairOf(report).ownCheck).toMatchObject({ atol: 3e-2, passes: true, violations: 0 });
    const large = await compare({ scale: 5 }, { ownCheck: { atol: 3e-2 } });
    expect(pairOf(large).ownCheck?.passes).toBe(false);
  });
});

describe("numbers that are none", () => {
  it("NaN in the reference is never a match", async () => {
    const inputs = pseudoRandom(48, 7);
    inputs[3] = NaN;
    const report = await compare({}, {}, inputs);
    expect(report.verdict).toBe("fail");
    expect(rowOf(report, "forward.h").metrics?.nanBoth).toBeGreaterThan(0);
    const accepted = await compare({}, { tolerances: { "**": { equalNan: true } } }, inputs);
    expect(accepted.verdict).toBe("pass");
  });
});

describe("requests that cannot be met", () => {
  it("names the input whose shape is wrong", async () => {
    await compare({});
    await writeSafetensors(path.join(folder, "inputs.safetensors"), {
      x: { dtype: "float32", shape: [5, 8], bytes: new Uint8Array(160) },
    });
    const failure = await runAgain().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UserError);
    expect((failure as UserError).problems[0]).toMatchObject({ code: "input-shape" });
    expect((failure as UserError).message).toContain('"x"');
  });

  it("names the missing model and the missing run file", async () => {
    await compare({});
    await rm(path.join(folder, "candidate.onnx"));
    await expect(runAgain(path.join(folder, "story.parity.json"))).rejects.toThrow(
      "candidate.onnx",
    );
    await expect(runAgain(path.join(folder, "none.parity.json"))).rejects.toThrow(
      "none.parity.json",
    );
  });
});
