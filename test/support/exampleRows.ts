import type { Metrics, Row, RowVerdict, Side, Site, Source } from "../../engine/protocol/report.js";

const referenceLines = [
  "def forward(self, x, x_offsets, all_timestamps, invalid_attn_mask):",
  "    normed_x = F.layer_norm(x, normalized_shape=[self._embedding_dim], eps=self._eps)",
  "    batched = F.silu(torch.mm(normed_x, self._uvqk))",
  "    u, v, q, k = torch.split(batched, self._split_sizes, dim=1)",
  "    qk_attn = torch.einsum('bnhd,bmhd->bhnm', padded_q, padded_k)",
  "    qk_attn = qk_attn + self._rel_attn_bias(all_timestamps).unsqueeze(1)",
  "    qk_attn = F.silu(qk_attn) / n",
  "    qk_attn = qk_attn * invalid_attn_mask.unsqueeze(0).unsqueeze(0)",
  "    attn_output = torch.ops.fbgemm.dense_to_jagged(padded_attn, [x_offsets])[0]",
  "    a = self._norm_attn_output(attn_output)",
  "    o_input = u * a",
  "    return self._o(o_input) + x",
];
const candidateLines = [
  "def __call__(self, x, all_timestamps, invalid_attn_mask):",
  "    normed_x = self._input_norm(x)",
  "    batched = tp.silu(normed_x @ self._uvqk)",
  "    u, v, q, k = tp.split(batched, self._split_sizes, dim=2)",
  "    qk_attn = heads(q) @ tp.transpose(heads(k), 2, 3)",
  "    qk_attn = qk_attn + tp.unsqueeze(self._rel_attn_bias(all_timestamps), 1)",
  "    qk_attn = tp.silu(qk_attn) / float(n)",
  "    qk_attn = qk_attn * invalid_attn_mask",
  "    attn_output = tp.reshape(tp.transpose(qk_attn @ heads(v), 1, 2), merged)",
  "    a = self._attn_norm(attn_output)",
  "    o_input = u * a",
  "    return o_input @ self._output_weight + self._output_bias + x",
];
const constructorLines = [
  "self._output_weight = tp.ones((linear_hidden_dim * num_heads, embedding_dim)) * 0.02",
  "self._output_bias = tp.zeros((embedding_dim,))",
];
export const referenceFile = "hstu.py";
export const candidateFile = "tripy_hstu_dense.py";
const referenceStart = 196;
export const candidateStart = 148;
export const constructorStart = 97;

export const exampleSources: Source[] = [
  {
    file: referenceFile,
    sha256: "0".repeat(64),
    language: "python",
    snippets: [{ startLine: referenceStart, text: indented(referenceLines) }],
  },
  {
    file: candidateFile,
    sha256: "1".repeat(64),
    language: "python",
    snippets: [
      { startLine: constructorStart, text: indented(constructorLines) },
      { startLine: candidateStart, text: indented(candidateLines) },
    ],
  },
];

interface Step {
  stage: string;
  name: string;
  /** Index into the source lines above. */
  line: number;
  shape: number[];
  ops: [reference: string, candidate: string];
}

export const blockSteps: readonly Step[] = [
  step("norm", "forward.normed_x", 1, [4, 211, 50], "layer_norm", "LayerNorm"),
  step("uvqk", "forward.mm", 2, [4, 211, 200], "mm", "MatMul"),
  step("uvqk", "forward.batched", 2, [4, 211, 200], "silu", "Mul"),
  step("split", "forward.u", 3, [4, 211, 50], "split", "Slice"),
  step("split", "forward.v", 3, [4, 211, 50], "split", "Slice"),
  step("split", "forward.q", 3, [4, 211, 50], "split", "Slice"),
  step("split", "forward.k", 3, [4, 211, 50], "split", "Slice"),
  step("scores", "forward.qk_attn", 4, [4, 2, 211, 211], "einsum", "MatMul"),
  step("bias", "forward.position_bias", 5, [1, 211, 211], "slice", "Slice"),
  step("bias", "forward.bucketed_timestamps", 5, [4, 211, 211], "clamp", "Min"),
  step("bias", "forward.time_bias", 5, [4, 211, 211], "index", "Gather"),
  step("bias", "forward.qk_attn#1", 5, [4, 2, 211, 211], "add", "Add"),
  step("weights", "forward.silu", 6, [4, 2, 211, 211], "silu", "Mul"),
  step("weights", "forward.qk_attn#2", 6, [4, 2, 211, 211], "div", "Div"),
  step("masked", "forward.qk_attn#3", 7, [4, 2, 211, 211], "mul", "Mul"),
  step("attention", "forward.attn_output", 8, [4, 211, 50], "dense_to_jagged", "Reshape"),
  step("attention_norm", "forward.a", 9, [4, 211, 50], "layer_norm", "LayerNorm"),
  step("gated", "forward.o_input", 10, [4, 211, 50], "mul", "Mul"),
  step("output", "forward.o", 11, [4, 211, 50], "linear", "Add"),
  step("output", "forward.return", 11, [4, 211, 50], "add", "Add"),
];

export const outerSteps: readonly Step[] = [
  step("preprocess", "forward.user_embeddings", 0, [4, 211, 50], "mul", "Mul"),
  step("preprocess", "forward.valid_mask", 0, [4, 211, 1], "ne", "NotEqual"),
  step("postprocess", "forward.norm", 11, [4, 211, 1], "linalg.norm", "Sqrt"),
  step("postprocess", "forward.output_embeddings", 11, [4, 211, 50], "div", "Div"),
  step("current", "forward.current", 11, [4, 50], "index", "Gather"),
];

function step(
  stage: string,
  name: string,
  line: number,
  shape: number[],
  reference: string,
  candidate: string,
): Step {
  return { stage, name, line, shape, ops: [reference, candidate] };
}

/** The rows of both layers and what is around them, in execution order. */
export function hstuRows(blocks: number, faulty: boolean, candidate: string): Row[] {
  const rows: Row[] = [];
  const add = (item: Step, stage: string, instance: string, block: number): void => {
    rows.push(exampleRow(item, stage, instance, block, rows, faulty, candidate));
  };
  outerSteps.slice(0, 2).forEach((item) => add(item, item.stage, "_input_features_preproc", -1));
  for (let block = 0; block < blocks; block++) {
    for (const item of blockSteps) {
      add(item, `layers.${block}.${item.stage}`, `_hstu._attention_layers.${block}`, block);
    }
  }
  outerSteps.slice(2).forEach((item) => add(item, item.stage, "_output_postproc", blocks));
  for (const row of rows) {
    for (const input of row.inputs) rows[Number(input.slice(1))]?.outputs.push(row.id);
  }
  return rows;
}

/** Before the first fault the error is rounding; the fault is in each block's output; the rest carries it. */
function exampleRow(
  item: Step,
  stage: string,
  instance: string,
  block: number,
  before: readonly Row[],
  faulty: boolean,
  candidate: string,
): Row {
  const order = before.length;
  const wobble = 0.6 + 0.8 * fraction(order * 7919 + 13);
  const isOrigin = faulty && item.stage === "output" && item.name === "forward.o";
  const after = faulty && (block > 0 || item.name === "forward.return");
  const exact = candidate === "dense" || item.ops[0] === "clamp" || item.ops[0] === "slice";
  const rounding = exact ? 0 : 4e-8 * wobble * (1 + Math.max(block, 0));
  const carried = item.stage === "attention_norm" ? 0.34 : 0.0117;
  const introduced = isOrigin ? 0.904 * wobble : rounding;
  const inherited = after && !exact ? carried * wobble * (1 + block / 4) : 0;
  const relL2 = Math.max(introduced, inherited);
  const verdict = verdictOf(item, { isOrigin, inherited, exact });
  const gateValue = 4 * 6e-8 * (1 + Math.max(block, 0));
  const last = before.at(-1);
  const boolean = item.ops[0] === "ne";
  const unpaired = item.name === "forward.position_bias" && block === 1;
  const row: Row = {
    id: `r${order}`,
    key: `k${order}`,
    order,
    name: item.name,
    stage,
    instance,
    verdict: unpaired ? "unknown" : verdict,
    reference: side(item, instance, "reference"),
    inputs: last ? [last.id] : [],
    outputs: [],
  };
  if (unpaired)
    return {
      ...row,
      absentReason: "the candidate makes this bias in another way",
    };
  Object.assign(row, {
    pairedBy: item.stage === "attention" ? "declared" : "normalisedName",
    candidate: side(item, instance, "candidate"),
    introduced,
    inherited,
    gate: {
      value: gateValue,
      from: exact ? "floor" : "noise",
      ...(!exact && { noise: gateValue / 4 }),
    },
    accumulatedGate: { value: gateValue * 2, from: "noise" },
  } satisfies Partial<Row>);
  if (boolean) {
    return {
      ...row,
      metrics: { count: 512, mismatches: 0 },
      undefined: {
        relL2: "a boolean tensor has no relative error",
        cosine: "a boolean tensor",
      },
    };
  }
  return {
    ...row,
    ...measurements(item, relL2, order),
    ...(isOrigin && { cause: neverCopied }),
  };
}

export const neverCopied = {
  kind: "parameterNotFromReference",
  text: "_output_weight and _output_bias kept their own initialisation; no value came from the reference.",
  confidence: "certain",
  evidence: {
    candidate: "_output_weight",
    reference: "_o.weight",
    equalElements: 0,
    of: 2500,
  },
} as const;

function verdictOf(
  item: Step,
  { isOrigin, inherited, exact }: { isOrigin: boolean; inherited: number; exact: boolean },
): RowVerdict {
  if (isOrigin) return "origin";
  if (exact || inherited === 0) return "match";
  if (item.stage === "attention_norm") return "amplifier";
  return item.stage === "current" ? "masking" : "carrier";
}

function measurements(item: Step, relL2: number, order: number): Partial<Row> {
  const count = item.shape.reduce((product, size) => product * size, 1);
  const rms = 0.08 + fraction(order);
  const maxAbs = relL2 * rms * 4.1;
  const metrics: Metrics = {
    count,
    relL2,
    linfRel: relL2 * 1.3,
    maxAbs,
    maxAbsIndex: item.shape.map((size) => Math.floor(size / 3)),
    meanAbs: relL2 * rms * 0.8,
    rmse: relL2 * rms,
    violations: relL2 > 1e-3 ? Math.min(1, relL2 * 1.07) : 0,
    cosine: 1 - (relL2 * relL2) / 2,
    snrDb: relL2 === 0 ? "Infinity" : -20 * Math.log10(relL2),
    maxUlp: relL2 === 0 ? 0 : Math.ceil(relL2 * 1.6e7),
    p50Abs: relL2 * rms * 0.6,
    p99Abs: relL2 * rms * 2.6,
    zeroReference: item.stage === "masked" ? 178_084 : 0,
  };
  const top = maxAbs === 0 ? -8 : Math.ceil(Math.log10(maxAbs));
  const log10Edges = Array.from({ length: 9 }, (_, index) => top - 8 + index);
  return {
    metrics,
    ...(item.stage === "masked" && {
      undefined: { maxRel: "the reference is 0 at 178084 elements" },
    }),
    histogram: {
      log10Edges,
      counts: [1, 3, 12, 60, 310, 1400, 3900, 900].map((part) =>
        relL2 === 0 ? 0 : Math.round((part / 7000) * count),
      ),
      zeros: relL2 === 0 ? count : Math.round(count * 0.05),
    },
    worst: [0, 1, 2, 3].map((k) => {
      const reference = (k % 2 ? -1 : 1) * rms * (3 - k / 2);
      const difference = (maxAbs * (4 - k)) / 4;
      const index = item.shape.map((size, axis) =>
        Math.floor(fraction(order + k * 17 + axis) * size),
      );
      return {
        index,
        reference,
        candidate: reference + difference,
        difference,
      };
    }),
    byAxis: [
      { axis: "batch", relL2: [0.9, 1.1, 1, 0.7].map((part) => part * relL2) },
      {
        axis: "sequence",
        relL2: Array.from({ length: 211 }, (_, k) => relL2 * fraction(k + order)),
      },
    ],
  };
}

function side(item: Step, instance: string, which: "reference" | "candidate"): Side {
  const isReference = which === "reference";
  const start = isReference ? referenceStart : candidateStart;
  const site: Site = {
    file: isReference ? referenceFile : candidateFile,
    line: start + item.line,
    column: 9,
    function: isReference ? "forward" : "__call__",
    instance,
  };
  const kind = item.ops[isReference ? 0 : 1];
  return {
    ops: [{ id: `${which}-${item.name}`, kind, name: `${instance}/${item.name}` }],
    site,
    dtype: item.ops[0] === "ne" ? "bool" : "float32",
    shape: isReference ? [512, ...item.shape.slice(2)] : item.shape,
    layout: isReference
      ? { kind: "jagged", offsets: [0, 128, 256, 384, 512] }
      : {
          kind: "padded",
          lengths: [128, 128, 128, 128],
          batchAxis: 0,
          axes: [1],
          pad: 0,
        },
    statistics: {
      min: -2.11,
      max: 2.3,
      mean: 0.0012,
      rms: 0.571,
      nan: 0,
      inf: 0,
      zeros: 12,
    },
  };
}

function indented(lines: readonly string[]): string {
  return lines.map((line) => `    ${line}`).join("\n");
}

/** A number in [0, 1) that looks random and is the same on every call. */
function fraction(seed: number): number {
  const value = Math.sin(seed * 12.9898 + 78.233) * 43758.5453;
  return value - Math.floor(value);
}
