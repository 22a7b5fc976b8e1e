import type { DType, Layout, TensorRef, TensorStatistics } from "./tensor.js";
import type { WireNumber } from "./wire.js";

/** A value that fully describes what every view shows. Lines and columns are 1-based; files are relative to `run.base`. */
export interface Report {
  schemaVersion: 1;
  tool: { name: string; version: string };
  verdict: Verdict;
  /** One sentence, fit for a bug report's title. */
  summary: string;
  run: Run;
  reference: ImplementationId;
  implementations: Implementation[];
  sources: Source[];
  pairs: Pair[];
  problems: Problem[];
}

export type ImplementationId = string;
/** FAIL > UNKNOWN > WARN > PASS. */
export type Verdict = "pass" | "warn" | "unknown" | "fail";

export interface Run {
  id: string;
  /** ISO 8601. */
  startedAt: string;
  durationMs: number;
  command: string[];
  /** Absolute folder that file names are relative to. */
  base: string;
  runFile?: string;
  script?: { file: string; args: string[]; exitCode: number };
  cache: "hit" | "miss" | "off";
  emulated: string[];
  environment: {
    os: string;
    cpu: string;
    gpus: string[];
    python?: string;
    packages: Record<string, string>;
  };
}

export interface Implementation {
  id: ImplementationId;
  label: string;
  kind: "torch" | "tripy" | "onnx" | "trace";
  framework: string;
  executor: string;
  provider: string;
  device: string;
  precision: string;
  standIns: string[];
  placement?: {
    nodes: number;
    onProvider: number;
    elsewhere: { op: string; provider: string; reason: string }[];
  };
  nonDeterminism?: { runs: number; maxRelL2: WireNumber };
  observerEffect?: { relL2: WireNumber; regions: string[] };
  parameters: {
    total: number;
    same: Parameter[];
    transposed: Parameter[];
    different: Parameter[];
    notFromReference: Parameter[];
    missing: Parameter[];
  };
  unusedInputs: string[];
}

export interface Parameter {
  name: string;
  shape: number[];
  dtype: DType;
  /** The line that declares it. */
  site?: Site;
  usedAt: Site[];
  reference?: { implementation: ImplementationId; name: string; site?: Site };
  howPaired?: PairedBy;
  relL2?: WireNumber;
}

export interface Source {
  file: string;
  outside?: boolean;
  sha256: string;
  language: string;
  /** The functions that took part, so that the panel is complete without the workspace. */
  snippets: { startLine: number; text: string }[];
}

export interface Site {
  file: string;
  line: number;
  column?: number;
  endColumn?: number;
  function: string;
  /** Module instance path. */
  instance?: string;
  /** n-th call, from 0. */
  call?: number;
}

export type PairedBy =
  | "name"
  | "normalisedName"
  | "content"
  | "shape"
  | "declared"
  | "output"
  | "signature"
  | "lockstep"
  | "use";

export interface Pair {
  reference: ImplementationId;
  candidate: ImplementationId;
  verdict: Verdict;
  /** Of `total` data ops, `covered` are compared or inside a short compared segment; `paired` have their own output compared. */
  coverage: { covered: number; total: number; paired: number; threshold: number };
  output: Metrics;
  /** relL2 that honest rounding makes at the final output. */
  noiseFloor: WireNumber;
  /** Gate of the final output. */
  outputGate?: Gate;
  /** The check that the user's own script makes on the final output, and whether it notices. */
  ownCheck?: { atol: number; rtol: number; violations: WireNumber; passes: boolean };
  firstDivergence?: OriginId;
  origins: Origin[];
  repair?: Repair;
  rows: Row[];
  declared: Declared[];
}

export type OriginId = string;
export type RowId = string;

export interface Origin {
  id: OriginId;
  kind:
    | "op"
    | "operand"
    | "missingStep"
    | "extraStep"
    | "order"
    | "parameter"
    | "input"
    | "output"
    | "staleEngine";
  /** The line to fix; a parameter's declaration. */
  site: Site;
  /** Best first. */
  alternatives: { site: Site; why: string }[];
  usedAt?: Site;
  referenceSite?: Site;
  /** Where the reference uses the parameter that `usedAt` uses. */
  referenceUsedAt?: Site;
  stage: string;
  instances: { instance: string; call?: number; row: RowId; introduced: WireNumber }[];
  /** Parameters of a parameter origin: one entry for each instance. */
  parameters?: string[];
  introduced: WireNumber;
  inherited: WireNumber;
  cause?: Cause;
}

export interface Cause {
  kind: string;
  text: string;
  confidence: "certain" | "likely" | "possible";
  evidence: Record<string, unknown>;
}

export interface Repair {
  tensors: number;
  sites: number;
  outputRelL2After: WireNumber;
  proves: boolean;
  minimal: boolean;
  unexplained: RowId[];
}

export type RowVerdict =
  "match" | "origin" | "carrier" | "amplifier" | "masking" | "expected" | "paddingOnly" | "unknown";

/** One reference tensor and the candidate tensor that must equal it, or one of them alone. */
export interface Row {
  id: RowId;
  /** Joins the candidates' rows of one reference op. */
  key: string;
  order: number;
  /** The tensor's name in the user's source, without its instance: "forward.qk_attn". */
  name: string;
  stage: string;
  instance?: string;
  call?: number;
  verdict: RowVerdict;
  pairedBy?: PairedBy;
  absentReason?: string;
  reference?: Side;
  candidate?: Side;
  /** Rows whose values flow in: the frontier of the candidate's segment. */
  inputs: RowId[];
  outputs: RowId[];
  metrics?: Metrics;
  undefined?: Partial<Record<MetricName, string>>;
  gate?: Gate;
  /** Gate for the total difference: honest rounding accumulated from the inputs to here. */
  accumulatedGate?: Gate;
  introduced?: WireNumber;
  inherited?: WireNumber;
  amplification?: WireNumber;
  histogram?: ErrorHistogram;
  worst?: WorstElement[];
  byAxis?: { axis: "batch" | "sequence" | "head" | "feature" | string; relL2: WireNumber[] }[];
  padding?: { verdict: "match" | "paddingOnly"; maxAbs: WireNumber };
  cause?: Cause;
}

export interface Gate {
  value: WireNumber;
  from: "noise" | "floor" | "user";
  noise?: WireNumber;
}

export interface Side {
  ops: { id: string; kind: string; name: string }[];
  site?: Site;
  /** The call stack of the line, innermost first, without `site` itself. */
  callers?: Site[];
  dtype: DType;
  shape: number[];
  layout: Layout;
  tensor?: TensorRef;
  statistics: TensorStatistics;
}

export type MetricName = keyof Metrics;

/** An undefined metric is absent and its reason stands in the row's `undefined`. See docs for the formulas. */
export interface Metrics {
  /** Number of valid elements compared, n = |V|. */
  count?: number;
  maxAbs?: WireNumber;
  /** Index in the reference of the element with the largest |d|. */
  maxAbsIndex?: number[];
  meanAbs?: WireNumber;
  rmse?: WireNumber;
  violations?: WireNumber;
  maxRel?: WireNumber;
  p99Rel?: WireNumber;
  /** Elements with r = 0, where a relative error is undefined. */
  zeroReference?: number;
  relL2?: WireNumber;
  linfRel?: WireNumber;
  cosine?: WireNumber;
  snrDb?: WireNumber;
  psnrDb?: WireNumber;
  maxUlp?: WireNumber;
  meanUlp?: WireNumber;
  p50Abs?: WireNumber;
  p90Abs?: WireNumber;
  p99Abs?: WireNumber;
  p999Abs?: WireNumber;
  topKAgreement?: WireNumber;
  firstSwappedRank?: number;
  /** Integer and boolean tensors: elements that differ. */
  mismatches?: number;
  nanReference?: number;
  nanCandidate?: number;
  nanBoth?: number;
  nanDisagree?: number;
  infReference?: number;
  infCandidate?: number;
  infDisagree?: number;
  /** Masked fills (|r| > 1e30), compared as a class. */
  maskedFill?: number;
  maskedFillDisagree?: number;
}

/** Bins of log10 |d|: counts[i] has the elements with log10Edges[i] ≤ log10 |d| < log10Edges[i+1]; zeros apart. */
export interface ErrorHistogram {
  log10Edges: number[];
  counts: number[];
  zeros: number;
}

export interface WorstElement {
  index: number[];
  reference: WireNumber;
  candidate: WireNumber;
  difference: WireNumber;
}

export interface Declared {
  pattern: string;
  reason: string;
  rows: RowId[];
}

export interface Problem {
  severity: "error" | "warning" | "information";
  /** Stable, kebab-case: "run-file-unknown-field". */
  code: string;
  message: string;
  nextStep: string;
  site?: Site;
}
