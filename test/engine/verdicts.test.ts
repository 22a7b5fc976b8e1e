import { toBinary } from "@bufbuild/protobuf";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { ModelProtoSchema, type ModelProto } from "onnx-buf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fromFloat64 } from "../../engine/core/dtypes.js";
import { judgePairs } from "../../engine/core/judge.js";
import { pairTensors } from "../../engine/core/pairing.js";
import { segmentGraph, segmentOf } from "../../engine/core/segments.js";
import { requireSameInputs } from "../../engine/run/sameInputs.js";
import { convertFloats } from "../../engine/core/conversions.js";
import type { Pair, Report } from "../../engine/protocol/report.js";
import { runParity } from "../../engine/run/runParity.js";
import { writeSafetensors } from "../../engine/trace/safetensors.js";
import { bundleRunner } from "../support/bundleRunner.js";
import {
  pseudoRandom,
  storyModelProto,
  type StoryModel,
  type StoryNode,
} from "../support/storyModel.js";

/** Ports that were judged wrongly once: each test is the smallest model on which the verdict or the blame was false. */

const node = (
  op: string,
  inputs: string[],
  output: string,
  line: number,
  attributes?: StoryNode["attributes"],
): StoryNode => ({ op, inputs, output, line, ...(attributes && { attributes }) });

const nodes: readonly StoryNode[] = [
  node("MatMul", ["x", "layer.w1"], "forward.h", 10),
  node("Tanh", ["forward.h"], "forward.a", 11),
  node("Mul", ["forward.a", "scale"], "forward.s", 12),
  node("MatMul", ["forward.s", "layer.w2"], "t0", 13),
  node("Add", ["t0", "layer.b"], "forward.y", 14),
  node("Add", ["x", "forward.y"], "forward.out", 15),
];

interface Changes {
  nodes: readonly StoryNode[];
  outputs: string[];
  b: number[];
  w2: number[];
  constants: Record<string, number>;
}

/** h = x·W1, a = tanh(h), s = a/2, y = s·W2 + b, out = x + y. */
function model(change: Partial<Changes> = {}): StoryModel {
  const constants = { scale: 0.5, ...change.constants };
  return {
    file: "port.py",
    inputs: { x: [6, 8] },
    parameters: {
      "layer.w1": { shape: [8, 8], values: pseudoRandom(64, 1), line: 2, tensor: "layer.w1" },
      "layer.w2": {
        shape: [8, 8],
        values: change.w2 ?? pseudoRandom(64, 2),
        line: 3,
        tensor: "layer.w2",
      },
      "layer.b": { shape: [8], values: change.b ?? pseudoRandom(8, 3), line: 4, tensor: "layer.b" },
    },
    constants: Object.fromEntries(
      Object.entries(constants).map(([name, value]) => [name, { shape: [], values: [value] }]),
    ),
    nodes: change.nodes ?? nodes,
    outputs: change.outputs ?? ["forward.out"],
  };
}

/** The model's nodes with the one that makes `output` replaced. */
function instead(output: string, ...others: StoryNode[]): StoryNode[] {
  return nodes.flatMap((one) => (one.output === output ? others : [one]));
}

let folder: string;
let runnerEntry: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-verdicts-"));
  runnerEntry = await bundleRunner(path.join(folder, "runner"));
  const source = Array.from({ length: 20 }, (_, i) => `line ${i + 1}`).join("\n");
  await writeFile(path.join(folder, "reference.py"), source);
  await writeFile(path.join(folder, "port.py"), source);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function compare(
  reference: StoryModel,
  candidate: StoryModel,
  options: {
    runFile?: Record<string, unknown>;
    inputs?: number[];
    edit?: (candidate: ModelProto) => void;
  } = {},
): Promise<Report> {
  const proto = storyModelProto(candidate);
  options.edit?.(proto);
  const write = (file: string, content: ModelProto) =>
    writeFile(path.join(folder, file), toBinary(ModelProtoSchema, content));
  await write("reference.onnx", storyModelProto({ ...reference, file: "reference.py" }));
  await write("candidate.onnx", proto);
  await writeSafetensors(path.join(folder, "inputs.safetensors"), {
    x: {
      dtype: "float32",
      shape: [6, 8],
      bytes: fromFloat64(options.inputs ?? pseudoRandom(48, 7), "float32"),
    },
  });
  const runFile = path.join(folder, "story.parity.json");
  const content = {
    implementations: { reference: { onnx: "reference.onnx" }, port: { onnx: "candidate.onnx" } },
    reference: "reference",
    inputs: "inputs.safetensors",
    ...options.runFile,
  };
  return runParity({
    runFile,
    text: JSON.stringify(content),
    runnerEntry,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    command: [],
  });
}

function pairOf(report: Report): Pair {
  const [pair] = report.pairs;
  if (!pair) throw new Error("the report has no pair");
  return pair;
}

const blamed = (report: Report) => pairOf(report).origins.map((o) => [o.kind, o.site.line]);

describe("a wrong port does not pass", () => {
  it("because its own arithmetic is so noisy that its gate would admit the error", async () => {
    const noisy = instead(
      "forward.a",
      node("Tanh", ["forward.h"], "exact", 11),
      node("Add", ["exact", "big"], "shifted", 11),
      node("Sub", ["shifted", "big"], "forward.a", 11),
    );
    const report = await compare(model(), model({ nodes: noisy, constants: { big: 1e6 } }));
    expect(report.verdict).toBe("fail");
    expect(blamed(report)).toEqual([["extraStep", 11]]);
  });

  it("because no source line was recorded for its fault and the output hides it", async () => {
    const normalised = [
      ...nodes.slice(0, 3),
      node("LpNormalization", ["forward.s"], "forward.out", 13, { axis: -1, p: 2 }),
    ];
    const report = await compare(
      model({ nodes: normalised }),
      model({ nodes: normalised, constants: { scale: 0.75 } }),
      {
        edit: ({ graph }) => {
          for (const one of graph?.node ?? []) {
            one.metadataProps = one.metadataProps.filter(({ key }) => !key.endsWith(".stack"));
          }
        },
      },
    );
    expect(report.verdict).toBe("fail");
    expect(report.summary).toContain("forward.s, whose line is not known");
  });

  it("because it leaves an output out", async () => {
    const more = [...nodes, node("Neg", ["forward.out"], "forward.extra", 16)];
    const report = await compare(
      model({ nodes: more, outputs: ["forward.out", "forward.extra"] }),
      model(),
    );
    expect(report.verdict).toBe("unknown");
    expect(report.problems.map((p) => p.code)).toContain("output-missing");
    expect(report.summary).toContain('"forward.extra" of reference has no counterpart in port');
    expect(report.summary).not.toContain("are needed");
  });

  it("because one parameter is in float16, which excuses no cast elsewhere", async () => {
    const cast = instead(
      "forward.a",
      node("Tanh", ["forward.h"], "exact", 11),
      node("Cast", ["exact"], "half", 11, { to: 10 }),
      node("Cast", ["half"], "forward.a", 11, { to: 1 }),
    ).flatMap((one) =>
      one.output === "forward.y"
        ? [
            node("Cast", ["layer.b"], "wide", 14, { to: 1 }),
            node("Add", ["t0", "wide"], "forward.y", 14),
          ]
        : [one],
    );
    const report = await compare(model(), model({ nodes: cast }), { edit: toHalf("layer.b") });
    expect(report.verdict).toBe("fail");
    expect(blamed(report)).toContainEqual(["extraStep", 11]);
  });

  it("because its inputs are not those of the reference", () => {
    const made = (values: number[]) => {
      const bytes = fromFloat64(values, "float32");
      const value = { dtype: "float32" as const, shape: [2], bytes };
      const tensor = { key: "x", names: [], layout: { kind: "dense" as const }, ...value, value };
      return {
        id: "it",
        observation: { inputs: [{ name: "x", tensor: "x" }], tensors: new Map([["x", tensor]]) },
      } as unknown as Parameters<typeof requireSameInputs>[0];
    };
    expect(() => requireSameInputs(made([1, 2]), made([1, 3]))).toThrow('"x" differs');
    expect(() => requireSameInputs(made([1, 2]), made([1, 2]))).not.toThrow();
  });
});

describe("a right port does not fail", () => {
  it("because it computes as a whole in float16", async () => {
    const half = [
      node("Cast", ["x"], "xh", 9, { to: 10 }),
      ...nodes.map((one) => ({ ...one, inputs: one.inputs.map((i) => (i === "x" ? "xh" : i)) })),
    ].map((one) => (one.output === "forward.out" ? { ...one, output: "narrow" } : one));
    const whole = (scale: number) =>
      model({
        nodes: [...half, node("Cast", ["narrow"], "forward.out", 16, { to: 1 })],
        constants: { scale },
      });
    const report = await compare(model(), whole(0.5), { edit: toHalf() });
    expect(report.verdict).toBe("warn");
    expect(blamed(report)).toEqual([]);
    expect(report.problems).toEqual([]);
    const wrong = await compare(model(), whole(0.6), { edit: toHalf() });
    expect(blamed(wrong)).toEqual([["op", 12]]);
  });

  it("because its parameters in float32 are cast to float16 first", async () => {
    const parameters = ["x", "layer.w1", "layer.w2", "layer.b", "scale"];
    const casts = parameters.map((name) => node("Cast", [name], `${name}@half`, 9, { to: 10 }));
    const half = nodes.map((one) => ({
      ...one,
      inputs: one.inputs.map((i) => (parameters.includes(i) ? `${i}@half` : i)),
      output: one.output === "forward.out" ? "narrow" : one.output,
    }));
    const last = node("Cast", ["narrow"], "forward.out", 16, { to: 1 });
    const report = await compare(model(), model({ nodes: [...casts, ...half, last] }));
    expect(report.verdict).toBe("warn");
  });

  it("because a tolerance in absolute numbers meets a reference of zeros", async () => {
    const zeroed = (zero: number) =>
      model({
        nodes: instead("forward.out", node("Mul", ["forward.y", "zero"], "forward.out", 15)),
        constants: { zero },
      });
    const runFile = { tolerances: { "**": { atol: 1e-6 } } };
    expect((await compare(zeroed(0), zeroed(1e-12), { runFile })).verdict).toBe("pass");
    expect((await compare(zeroed(0), zeroed(1e-3), { runFile })).verdict).toBe("fail");
  });

  it("because NaN that the user accepts stands in what the declared difference explains", async () => {
    const inputs = pseudoRandom(48, 7);
    inputs[3] = NaN;
    const tolerances = { "**": { equalNan: true } };
    const expected = [{ rows: "forward.s", reason: "another temperature" }];
    const other = model({ constants: { scale: 0.5625 } });
    const report = await compare(model(), other, { inputs, runFile: { tolerances, expected } });
    expect(report.verdict).toBe("pass");
    expect(report.summary).toContain("matches reference but for declared differences");
    const fault = await compare(model(), other, { inputs, runFile: { tolerances } });
    expect(pairOf(fault).repair).toMatchObject({ proves: true, minimal: true });
  });
});

describe("a recorded candidate", () => {
  it("is judged by no gate tighter than the reference's own non-determinism", () => {
    const recorded = (values: number[], nonDeterminism?: number) => {
      const value = {
        dtype: "float32" as const,
        shape: [2],
        bytes: fromFloat64(values, "float32"),
      };
      const layout = { kind: "dense" as const };
      const y = { key: "y", names: ["f.y"], layout, ...value, value };
      return {
        ops: [
          {
            id: "0",
            kind: "k",
            sourceOp: "0",
            inputs: [],
            outputs: ["y"],
            frames: [],
            instance: "",
          },
        ],
        tensors: new Map([["y", { ...y, ...(nonDeterminism && { nonDeterminism }) }]]),
        parameters: [],
        inputs: [],
        outputs: [{ name: "y", tensor: "y" }],
      };
    };
    const verdictWith = (nonDeterminism?: number) => {
      const reference = recorded([1, 2], nonDeterminism);
      const candidate = recorded([1, 2.0001]);
      const { pairs } = pairTensors(reference, candidate);
      const cuts = new Set(["y"]);
      const segments = new Map([["y", segmentOf("y", cuts, segmentGraph(candidate))]]);
      const options = { reference, candidate, segments, tolerances: {}, expected: [] };
      return judgePairs(pairs, { ...options, stageOf: () => "" })[0]?.verdict;
    };
    expect(verdictWith(1e-3)).toBe("match");
    expect(verdictWith()).toBe("unknown");
  });
});

describe("blame", () => {
  const nearly = pseudoRandom(8, 3).map((x, i) => (i === 0 ? x * (1 + 1.2e-7) : x));

  it("spares a parameter that differs by rounding where the op is at fault", async () => {
    const subtracts = instead("forward.y", node("Sub", ["t0", "layer.b"], "forward.y", 14));
    const report = await compare(model(), model({ nodes: subtracts, b: nearly }));
    expect(blamed(report)).toEqual([["op", 14]]);
    expect(pairOf(report).repair).toMatchObject({ proves: true, minimal: true });
  });

  it("says of such a parameter that it is under the gate, not that it has no effect", async () => {
    const report = await compare(model(), model({ b: nearly }));
    expect(report.verdict).toBe("pass");
    expect(report.problems.map((p) => p.message).join()).toContain("is over its gate because");
  });

  it("does not call a scale what is only much smaller", async () => {
    const unlike = instead(
      "forward.s",
      node("Mul", ["forward.h", "forward.h"], "square", 12),
      node("Mul", ["square", "tiny"], "forward.s", 12),
    );
    const report = await compare(model(), model({ nodes: unlike, constants: { tiny: 1e-5 } }));
    expect(blamed(report)).toEqual([["op", 12]]);
    expect(pairOf(report).origins[0]?.cause).toBeUndefined();
  });

  it("counts a parameter once that is felt at two tensors", async () => {
    const twice = [
      ...nodes.slice(0, 5),
      node("MatMul", ["x", "layer.w2"], "forward.r", 16),
      node("Add", ["forward.r", "forward.y"], "forward.out", 17),
    ];
    const report = await compare(
      model({ nodes: twice }),
      model({ nodes: twice, w2: pseudoRandom(64, 55) }),
    );
    expect(blamed(report)).toEqual([["parameter", 3]]);
    expect(report.summary).toContain("1 of 3 parameters");
  });
});

/** Stores the named initialisers, or all, in float16. */
function toHalf(...names: string[]) {
  return ({ graph }: ModelProto): void => {
    for (const tensor of graph?.initializer ?? []) {
      if (names.length > 0 && !names.includes(tensor.name)) continue;
      const shape = [tensor.rawData.length / 4];
      const bytes = new Uint8Array(tensor.rawData);
      tensor.rawData = new Uint8Array(
        convertFloats({ dtype: "float32", shape, bytes }, "float16").bytes,
      );
      tensor.dataType = 10;
    }
  };
}
