import type { Row, Side, Site } from "../protocol/report.js";
import { toWire } from "../protocol/wire.js";
import type { Judgement } from "./judge.js";
import { fillGlob, matchGlob, splitTensorName, withoutCount } from "./names.js";
import {
  producers,
  type Observation,
  type ObservedOp,
  type ObservedTensor,
  type TensorKey,
} from "./observation.js";
import { isDataOp, isDataTensor, longestCoveredSegment, type Coverage } from "./segments.js";
import { statisticsOf } from "./statistics.js";

export interface RowOptions {
  readonly reference: Observation;
  readonly candidate: Observation;
  readonly coverage: Coverage;
  readonly refused: ReadonlyMap<TensorKey, string>;
  /** Stages that the run file declares, by glob over the reference's tensor names. */
  readonly stages: Readonly<Record<string, string>>;
}

type UnorderedRow = Omit<Row, "order">;

export function rowId(candidateTensor: TensorKey): string {
  return candidateTensor;
}

/** All rows of one candidate, in the order in which the reference computes them. */
export function makeRows(judgements: readonly Judgement[], options: RowOptions): Row[] {
  const { reference, candidate } = options;
  const candidateSide = sideMaker(candidate);
  const referenceSide = sideMaker(reference);
  const judged = new Map(judgements.map((judgement) => [judgement.pair.candidate, judgement]));
  const readers = new Map<TensorKey, TensorKey[]>();
  for (const judgement of judgements) {
    for (const key of judgement.segment.frontier) {
      if (!judged.has(key)) continue;
      const list = readers.get(key);
      if (list) list.push(judgement.pair.candidate);
      else readers.set(key, [judgement.pair.candidate]);
    }
  }

  const segmentOfOp = new Map<string, Judgement>();
  for (const judgement of judgements) {
    for (const op of judgement.segment.ops) {
      if (!segmentOfOp.has(op.sourceOp)) segmentOfOp.set(op.sourceOp, judgement);
    }
  }
  const anchors = new Map<string, TensorKey>();
  const judgedOps = new Set(judgements.flatMap((j) => j.segment.ops.at(-1)?.sourceOp ?? []));
  const rows: UnorderedRow[] = [];
  const shown = new Set<string>();
  for (const op of candidate.ops) {
    for (const key of op.outputs) {
      const judgement = judged.get(key);
      const tensor = candidate.tensors.get(key);
      if (!tensor) continue;
      if (judgement) {
        const r = reference.tensors.get(judgement.pair.reference);
        rows.push({
          ...identity(r ?? tensor, judgement.stage),
          id: rowId(key),
          key: judgement.pair.reference,
          verdict: judgement.verdict,
          pairedBy: judgement.pair.pairedBy,
          ...(r && { reference: referenceSide(r) }),
          candidate: candidateSide(tensor, judgement.segment.ops),
          inputs: judgement.segment.frontier.filter((input) => judged.has(input)).map(rowId),
          outputs: (readers.get(key) ?? []).map(rowId),
          ...measured(judgement),
        });
        shown.add(op.sourceOp);
      } else if (
        tensor.value &&
        isDataOp(op, candidate) &&
        options.coverage.dataOps.has(op.sourceOp) &&
        !shown.has(op.sourceOp) &&
        !judgedOps.has(op.sourceOp)
      ) {
        shown.add(op.sourceOp);
        const around = segmentOfOp.get(op.sourceOp);
        if (around) anchors.set(rowId(key), around.pair.reference);
        rows.push({
          ...identity(tensor, around?.stage ?? stageOfTensor(tensor, op), op),
          id: rowId(key),
          key: `candidate:${key}`,
          verdict: "unknown",
          absentReason:
            options.refused.get(key) ??
            (options.coverage.coveredOps.has(op.sourceOp)
              ? "has no counterpart of its own; it lies in a short segment whose result was compared"
              : `has no counterpart, and the segment around it has more than ${longestCoveredSegment} operations`),
          candidate: candidateSide(tensor, [op]),
          inputs: [],
          outputs: [],
        });
      }
    }
  }
  rows.push(...referenceOnlyRows(judgements, options, referenceSide));
  return inReferenceOrder(rows, anchors, reference);
}

function referenceOnlyRows(
  judgements: readonly Judgement[],
  { reference, stages }: RowOptions,
  referenceSide: ReturnType<typeof sideMaker>,
): UnorderedRow[] {
  const paired = new Set(judgements.map((judgement) => judgement.pair.reference));
  const rows: UnorderedRow[] = [];
  for (const op of reference.ops) {
    for (const key of op.outputs) {
      const tensor = reference.tensors.get(key);
      // The steps of a fused op are no rows of their own.
      if (!isDataTensor(tensor) || !tensor.value || paired.has(key) || tensor.description) continue;
      rows.push({
        ...identity(tensor, stageOfTensor(tensor, op, stages), op),
        id: `reference:${key}`,
        key,
        verdict: "unknown",
        absentReason: "no tensor of the candidate was paired with it",
        reference: referenceSide(tensor, [op]),
        inputs: [],
        outputs: [],
      });
    }
  }
  return rows;
}

/**
 * Rows as the reference computes them, which is how its author thinks of the model; a lazy candidate may compute layer 1
 * before the mask of layer 0. What only the candidate has stands before the result of its segment.
 */
function inReferenceOrder(
  rows: readonly UnorderedRow[],
  anchors: ReadonlyMap<string, TensorKey>,
  reference: Observation,
): Row[] {
  const position = new Map(
    reference.ops.flatMap((op, index) => op.outputs.map((key) => [key, index] as const)),
  );
  const place = (row: UnorderedRow): number => {
    const anchor = anchors.get(row.id);
    return anchor === undefined
      ? (position.get(row.key) ?? Infinity)
      : (position.get(anchor) ?? Infinity) - 0.5;
  };
  return rows
    .map((row) => ({ row, at: place(row) }))
    .sort((x, y) => (x.at === y.at ? 0 : x.at - y.at))
    .map(({ row }, order) => ({ ...row, order }));
}

/** The step of the model that a tensor belongs to: declared, else the module instance path and the function. */
export function stageOfTensor(
  tensor: ObservedTensor,
  op: ObservedOp | undefined,
  declared: Readonly<Record<string, string>> = {},
): string {
  for (const [glob, stage] of Object.entries(declared)) {
    for (const name of sourceNames(tensor, op)) {
      const captures = matchGlob(glob, name);
      const filled = captures && fillGlob(stage, captures);
      if (filled !== undefined) return filled;
    }
  }
  const name = sourceNames(tensor, op)[0];
  const { instance, local } =
    name !== undefined && name.includes("/")
      ? splitTensorName(name)
      : { instance: op?.instance ?? "", local: op?.frames[0]?.function ?? "" };
  const dot = local.lastIndexOf(".");
  const functionName = dot < 0 ? local : local.slice(0, dot);
  return [instance, functionName].filter((part) => part !== "").join(".") || "main";
}

/** The names in the user's source; a tensor that no variable holds is called after the op that makes it. */
function sourceNames(tensor: ObservedTensor, maker: ObservedOp | undefined): string[] {
  const named = tensor.names.filter((name) => /[./]/.test(name) && !name.startsWith("%"));
  if (named.length > 0 || !maker) return named;
  const kind = maker.kind.slice(maker.kind.lastIndexOf(".") + 1);
  return [`${maker.instance}/${maker.frames[0]?.function ?? ""}.${kind}`];
}

function identity(
  tensor: ObservedTensor,
  stage: string,
  maker?: ObservedOp,
): Pick<Row, "name" | "stage" | "instance"> {
  if (tensor.description !== undefined) return { name: tensor.description, stage };
  const name = sourceNames(tensor, maker)[0] ?? tensor.names[0] ?? tensor.key;
  const { instance, local } = splitTensorName(name);
  return { name: withoutCount(local), stage, ...(instance !== "" && { instance }) };
}

function sideMaker(observation: Observation) {
  const makerOf = producers(observation);
  return (tensor: ObservedTensor, ops?: readonly ObservedOp[]): Side => {
    const maker = makerOf.get(tensor.key);
    const shown = (ops ?? (maker ? [maker] : [])).filter((op) => isDataOp(op, observation));
    const distinct = new Map(shown.map((op) => [op.sourceOp, op]));
    const [site, ...callers] = maker?.frames ?? ([] as readonly Site[]);
    return {
      ops: [...distinct.values()].map((op) => ({
        id: op.id,
        kind: op.kind,
        name: op.outputs[0] ?? "",
      })),
      ...(site && {
        site: { ...site, ...(maker && maker.instance !== "" && { instance: maker.instance }) },
      }),
      ...(callers.length > 0 && { callers: [...callers] }),
      dtype: tensor.dtype,
      shape: [...tensor.shape],
      layout: tensor.layout,
      statistics: statisticsOf(
        tensor.value ?? { dtype: tensor.dtype, shape: [0], bytes: new Uint8Array() },
      ),
    };
  };
}

function measured(judgement: Judgement): Partial<Row> {
  const { comparison } = judgement;
  return {
    gate: judgement.gate,
    accumulatedGate: judgement.accumulatedGate,
    ...(judgement.introduced !== undefined && { introduced: toWire(judgement.introduced) }),
    ...(judgement.inherited !== undefined && { inherited: toWire(judgement.inherited) }),
    ...(judgement.amplification !== undefined && {
      amplification: toWire(judgement.amplification),
    }),
    ...(comparison && {
      metrics: comparison.metrics,
      undefined: comparison.undefined,
      worst: [...comparison.worst],
      byAxis: comparison.byAxis.map((errors) => ({ ...errors, relL2: [...errors.relL2] })),
      histogram: comparison.histogram,
      ...(comparison.padding && { padding: comparison.padding }),
    }),
    ...(judgement.pair.shapeReason !== undefined && { absentReason: judgement.pair.shapeReason }),
  };
}
