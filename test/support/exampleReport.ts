import type {
  Implementation,
  Origin,
  Pair,
  Parameter,
  Report,
  Row,
} from "../../engine/protocol/report.js";
import {
  blockSteps,
  candidateFile,
  candidateStart,
  constructorStart,
  exampleSources,
  hstuRows,
  neverCopied,
  outerSteps,
  referenceFile,
} from "./exampleRows.js";

/** What an example is about. The numbers are made up but of realistic sizes, and the same on every call. */
export interface ExampleOptions {
  story?: "silentBug" | "rightPort";
  /** HSTU blocks; default 2. */
  blocks?: number;
  /** Adds the dense torch model as a second candidate, bit-exact. */
  dense?: boolean;
}

/** A report of the kind that the engine writes for HSTU: torch against a Tripy port. */
export function exampleReport(options: ExampleOptions = {}): Report {
  const story = options.story ?? "silentBug";
  const blocks = options.blocks ?? 2;
  const faulty = story === "silentBug";
  const rows = hstuRows(blocks, faulty, "tripy");
  const origins = faulty ? outputOrigins(blocks, rows) : [];
  const output = rows.at(-1)?.metrics ?? {};
  const pair: Pair = {
    reference: "torch",
    candidate: "tripy",
    verdict: faulty ? "fail" : "pass",
    coverage: { covered: 131, total: 134, paired: 104, threshold: 0.9 },
    output,
    noiseFloor: 5.96e-8,
    ownCheck: { atol: 0.03, rtol: 0, violations: 0, passes: true },
    ...(origins[0] && { firstDivergence: origins[0].id }),
    origins,
    ...(faulty && {
      repair: {
        tensors: 2 * blocks,
        sites: 2,
        outputRelL2After: 4.2e-8,
        proves: true,
        minimal: true,
        unexplained: [],
      },
    }),
    rows,
    declared: [],
  };
  const pairs = [pair];
  if (options.dense) pairs.unshift(densePair(blocks));
  return {
    schemaVersion: 1,
    tool: { name: "hstu-parity", version: "0.1.0" },
    verdict: faulty ? "fail" : "pass",
    summary: faulty
      ? "The output projection's weight and bias never come from the reference (2 lines, " +
        `${2 * blocks} tensors)`
      : "tripy agrees with torch in every compared operation",
    run: {
      id: `example-${story}-${blocks}`,
      startedAt: "2026-11-22T21:14:03.120Z",
      durationMs: 1240,
      command: ["hstu-parity", "run", "silent-bug.parity.json"],
      base: "/home/dev/hstu",
      runFile: faulty ? "silent-bug.parity.json" : "right-port.parity.json",
      cache: "miss",
      emulated: ["cuda on cpu"],
      environment: {
        os: "linux 6.8 x64",
        cpu: "AMD EPYC 7763, 2 cores",
        gpus: [],
        python: "3.12.4",
        packages: { onnxruntime: "1.30.0", torch: "2.13.0", nvtripy: "0.1.7" },
      },
    },
    reference: "torch",
    implementations: [
      implementation("torch", "torch", "torch"),
      ...(options.dense ? [implementation("dense", "dense", "torch")] : []),
      tripyImplementation(blocks, faulty),
    ],
    sources: exampleSources,
    pairs,
    problems: faulty
      ? [
          {
            severity: "warning",
            code: "cuda-emulated",
            message: "The port asks for a GPU; its operations ran on the CPU.",
            nextStep: "Run it on a GPU machine to compare what the GPU computes.",
          },
        ]
      : [],
  };
}

/** At least `count` rows, in as many blocks as that takes. */
export function exampleReportOfRows(count: number): Report {
  return exampleReport({
    blocks: Math.ceil((count - outerSteps.length) / blockSteps.length),
  });
}

function outputOrigins(blocks: number, rows: readonly Row[]): Origin[] {
  const faults = rows.filter((row) => row.verdict === "origin");
  return ["_output_weight", "_output_bias"].map((parameter, index): Origin => {
    const referenceUsedAt = faults[0]?.reference?.site;
    const usedAt = faults[0]?.candidate?.site;
    return {
      id: `o${index}`,
      kind: "parameter",
      site: {
        file: candidateFile,
        line: constructorStart + index,
        column: 9,
        function: "__init__",
      },
      alternatives: [],
      ...(usedAt && { usedAt }),
      referenceSite: { file: referenceFile, line: 171, function: "__init__" },
      ...(referenceUsedAt && { referenceUsedAt }),
      stage: "layers.0.output",
      instances: faults.map((row) => ({
        instance: row.instance ?? "",
        row: row.id,
        introduced: row.introduced ?? 0,
      })),
      parameters: Array.from({ length: blocks }, (_, block) => `layers.${block}.${parameter}`),
      introduced: index === 0 ? 0.904 : 0.132,
      inherited: 0,
      cause: {
        ...neverCopied,
        text: `${parameter} kept its own initialisation; no value came from the reference.`,
      },
    };
  });
}

function densePair(blocks: number): Pair {
  const rows = hstuRows(blocks, false, "dense").map((row) => ({
    ...row,
    id: `d${row.id}`,
  }));
  return {
    reference: "torch",
    candidate: "dense",
    verdict: "pass",
    coverage: { covered: 120, total: 120, paired: 120, threshold: 0.9 },
    output: { count: 200, relL2: 0 },
    noiseFloor: 5.96e-8,
    origins: [],
    rows: rows.map((row) => ({
      ...row,
      inputs: row.inputs.map((id) => `d${id}`),
      outputs: row.outputs.map((id) => `d${id}`),
    })),
    declared: [],
  };
}

function implementation(id: string, label: string, kind: "torch" | "tripy"): Implementation {
  return {
    id,
    label,
    kind,
    framework: kind === "torch" ? "torch 2.13.0" : "nvtripy 0.1.7",
    executor: kind === "torch" ? "recorded trace" : "onnxruntime 1.30.0",
    provider: "cpu",
    device: "cpu",
    precision: "float32",
    standIns: kind === "tripy" ? ["mlir_tensorrt"] : [],
    parameters: {
      total: 0,
      same: [],
      transposed: [],
      different: [],
      notFromReference: [],
      missing: [],
    },
    unusedInputs: [],
  };
}

function tripyImplementation(blocks: number, faulty: boolean): Implementation {
  const parameter = (block: number, name: string, shape: number[], line: number): Parameter => ({
    name: `_hstu._attention_layers.${block}.${name}`,
    shape,
    dtype: "float32",
    site: { file: candidateFile, line, function: "__init__" },
    usedAt: [{ file: candidateFile, line: candidateStart + 11, function: "__call__" }],
  });
  const perBlock = (name: string, shape: number[], line: number): Parameter[] =>
    Array.from({ length: blocks }, (_, block) => parameter(block, name, shape, line));
  const outputs = [
    ...perBlock("_output_weight", [50, 50], constructorStart),
    ...perBlock("_output_bias", [50], constructorStart + 1),
  ];
  const same = [
    ...perBlock("_uvqk", [50, 200], 92),
    ...perBlock("_rel_attn_bias._ts_w", [129], 44),
    ...perBlock("_rel_attn_bias._pos_w", [421], 45),
  ].map((item): Parameter => ({
    ...item,
    reference: { implementation: "torch", name: item.name },
    howPaired: "name",
    relL2: 0,
  }));
  return {
    ...implementation("tripy", "tripy", "tripy"),
    placement: { nodes: 402, onProvider: 402, elsewhere: [] },
    parameters: {
      total: outputs.length + same.length,
      same: faulty ? same : [...same, ...outputs],
      transposed: [],
      different: [],
      notFromReference: faulty ? outputs : [],
      missing: [],
    },
  };
}
