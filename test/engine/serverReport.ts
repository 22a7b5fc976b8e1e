import { createHash } from "node:crypto";
import type {
  Origin,
  Parameter,
  Report,
  Row,
  RowVerdict,
  Side,
  Site,
} from "../../engine/protocol/report.js";

/** Two small sources and a report on them, as a run would give it: one wrong parameter, used in three layers. */
export const referenceLines = [
  "class Layer:",
  "    def __init__(self):",
  "        self._o = Linear(50, 50)",
  "",
  "    def forward(self, x):",
  "        u = silu(self._uvqk(x))",
  "        return self._o(u) | `x`",
];

export const candidateLines = [
  "class PortedLayer:",
  "    def __init__(self):",
  "        self._o_weight = Parameter(zeros((50, 50)))",
  "",
  "    def forward(self, x):",
  "        u = silu(x @ self._uvqk)",
  "        return u @ self._o_weight",
];

export function makeReport(base: string): Report {
  const layers = [0, 1, 2];
  const rows: Row[] = layers.flatMap((layer, index) => [
    row(`u${layer}`, index * 2, layer, "forward.u", "match", 6, 3e-8),
    row(`out${layer}`, index * 2 + 1, layer, "forward.return", "origin", 7, 0.9 + layer / 100),
  ]);
  const origin: Origin = {
    id: "o1",
    kind: "parameter",
    site: site("port.py", 3, "__init__"),
    alternatives: [],
    usedAt: site("port.py", 7, "forward"),
    referenceSite: site("reference.py", 3, "__init__"),
    referenceUsedAt: site("reference.py", 7, "forward"),
    stage: "layers.0.output",
    instances: layers.map((layer) => ({
      instance: `layers.${layer}`,
      row: `out${layer}`,
      introduced: 0.9,
    })),
    parameters: layers.map((layer) => `layers.${layer}._o_weight`),
    introduced: 0.9,
    inherited: 0,
    cause: {
      kind: "notFromReference",
      text: "this parameter never came from the reference",
      confidence: "certain",
      evidence: {},
    },
  };
  const parameter: Parameter = {
    name: "layers.0._o_weight",
    shape: [50, 50],
    dtype: "float32",
    site: site("port.py", 3, "__init__"),
    usedAt: [site("port.py", 7, "forward")],
    reference: {
      implementation: "torch",
      name: "layers.0._o.weight",
      site: site("reference.py", 3, "__init__"),
    },
    relL2: 1,
  };
  return {
    schemaVersion: 1,
    tool: { name: "hstu-parity", version: "0.1.0" },
    verdict: "fail",
    summary: "tripy differs from torch: the parameter declared at port.py:3 is not the reference's",
    run: {
      id: "run-1",
      startedAt: "2026-11-23T00:00:00.000Z",
      durationMs: 1200,
      command: ["hstu-parity", "run", "story.parity.json"],
      base,
      runFile: "story.parity.json",
      cache: "off",
      emulated: [],
      environment: { os: "Linux", cpu: "cpu", gpus: [], packages: {} },
    },
    reference: "torch",
    implementations: [
      implementation("torch", "torch", []),
      implementation("tripy", "tripy", [parameter]),
    ],
    sources: [
      source("reference.py", referenceLines.join("\n")),
      source("port.py", candidateLines.join("\n")),
    ],
    pairs: [
      {
        reference: "torch",
        candidate: "tripy",
        verdict: "fail",
        coverage: { covered: 6, total: 6, paired: 6, threshold: 0.9 },
        output: { count: 1000, relL2: 0.9 },
        noiseFloor: 1e-7,
        firstDivergence: "o1",
        origins: [origin],
        rows,
        declared: [],
      },
    ],
    problems: [],
  };
}

export function site(file: string, line: number, fn = "forward"): Site {
  return { file, line, function: fn };
}

function row(
  id: string,
  order: number,
  layer: number,
  name: string,
  verdict: RowVerdict,
  line: number,
  relL2: number,
): Row {
  return {
    id,
    key: id,
    order,
    name,
    stage: `layers.${layer}.${name}`,
    instance: `layers.${layer}`,
    verdict,
    pairedBy: "name",
    reference: side(site("reference.py", line)),
    candidate: side(site("port.py", line)),
    inputs: [],
    outputs: [],
    metrics: { count: 500, relL2 },
    gate: { value: 1e-6, from: "noise", noise: 2.5e-7 },
    introduced: relL2,
    inherited: 0,
  };
}

function side(at: Site): Side {
  return {
    ops: [{ id: "1", kind: "MatMul", name: "matmul" }],
    site: at,
    dtype: "float32",
    shape: [4, 50],
    layout: { kind: "dense" },
    statistics: {
      min: -1,
      max: 1,
      mean: 0,
      rms: 0.5,
      nan: 0,
      inf: 0,
      zeros: 0,
    },
  };
}

function implementation(
  id: string,
  label: string,
  notFromReference: Parameter[],
): Report["implementations"][number] {
  return {
    id,
    label,
    kind: "trace",
    framework: "torch",
    executor: "recorded",
    provider: "cpu",
    device: "cpu",
    precision: "float32",
    standIns: [],
    parameters: {
      total: 4,
      same: [],
      transposed: [],
      different: [],
      notFromReference,
      missing: [],
    },
    unusedInputs: [],
  };
}

export function source(file: string, text: string): Report["sources"][number] {
  return {
    file,
    sha256: createHash("sha256").update(text).digest("hex"),
    language: "python",
    snippets: [{ startLine: 1, text }],
  };
}
