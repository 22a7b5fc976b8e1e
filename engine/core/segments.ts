import type { DType } from "../protocol/tensor.js";
import { isFloat } from "./dtypes.js";
import {
  producers,
  type Observation,
  type ObservedOp,
  type ObservedTensor,
  type TensorKey,
} from "./observation.js";

/** The ops between a candidate tensor and the nearest tensors on which the two sides are compared. */
export interface Segment {
  readonly output: TensorKey;
  /** In execution order; the last one makes `output`. */
  readonly ops: readonly ObservedOp[];
  /** Compared tensors and inputs at which the segment begins. */
  readonly frontier: readonly TensorKey[];
  /** Parameters that the segment reads. */
  readonly parameters: readonly TensorKey[];
}

/** The segment that ends in `output` when the graph is cut at every tensor of `cuts` (but not at `output` itself). */
export function segmentOf(
  output: TensorKey,
  cuts: ReadonlySet<TensorKey>,
  graph: SegmentGraph,
): Segment {
  const ops = new Set<ObservedOp>();
  const frontier = new Set<TensorKey>();
  const parameters = new Set<TensorKey>();
  const open: TensorKey[] = [output];
  const seen = new Set<TensorKey>(open);
  while (open.length > 0) {
    const tensor = open.pop() as TensorKey;
    const op = graph.producerOf.get(tensor);
    if (!op) continue;
    ops.add(op);
    for (const input of op.inputs) {
      if (seen.has(input)) continue;
      seen.add(input);
      if (graph.parameterKeys.has(input)) parameters.add(input);
      else if (cuts.has(input) || graph.inputKeys.has(input)) frontier.add(input);
      else open.push(input);
    }
  }
  const byPosition = (a: ObservedOp, b: ObservedOp): number =>
    (graph.positionOf.get(a) ?? 0) - (graph.positionOf.get(b) ?? 0);
  return {
    output,
    ops: [...ops].sort(byPosition),
    frontier: [...frontier],
    parameters: [...parameters],
  };
}

export interface SegmentGraph {
  readonly producerOf: ReadonlyMap<TensorKey, ObservedOp>;
  readonly positionOf: ReadonlyMap<ObservedOp, number>;
  readonly inputKeys: ReadonlySet<TensorKey>;
  readonly parameterKeys: ReadonlySet<TensorKey>;
}

export function segmentGraph(observation: Observation): SegmentGraph {
  return {
    producerOf: producers(observation),
    positionOf: new Map(observation.ops.map((op, index) => [op, index])),
    inputKeys: new Set(observation.inputs.map((port) => port.tensor)),
    parameterKeys: new Set(observation.parameters.map((parameter) => parameter.tensor)),
  };
}

/** A data op: it makes a float tensor of rank 2 or more. Shape arithmetic and index tensors are not data. */
export function isDataOp(op: ObservedOp, observation: Observation): boolean {
  return op.outputs.some((key) => isDataTensor(observation.tensors.get(key)));
}

export function isDataTensor(tensor: ObservedTensor | undefined): tensor is ObservedTensor {
  return tensor !== undefined && tensor.shape.length >= 2 && isFloat(tensor.dtype);
}

/** The float type in which most data ops compute: parameters in float32 that are all cast to float16 first make float16. */
export function implementationPrecision(observation: Observation): DType {
  const known = precisions.get(observation);
  if (known) return known;
  const counts = new Map<DType, number>();
  for (const op of observation.ops) {
    for (const key of op.outputs) {
      const tensor = observation.tensors.get(key);
      if (!isDataTensor(tensor)) continue;
      counts.set(tensor.dtype, (counts.get(tensor.dtype) ?? 0) + 1);
    }
  }
  const precision = [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "float32";
  precisions.set(observation, precision);
  return precision;
}

const precisions = new WeakMap<Observation, DType>();

/**
 * A segment of more data ops than this proves little about each of them: a small difference can drown in what is added
 * later. Its ops do not count as covered.
 */
export const longestCoveredSegment = 24;

export interface Coverage {
  readonly covered: number;
  readonly total: number;
  /** Of `covered`, those whose own output was compared. */
  readonly paired: number;
  readonly coveredOps: ReadonlySet<string>;
  /** Source ops on a path to an output that are data ops. */
  readonly dataOps: ReadonlySet<string>;
}

/** Share of the candidate's data ops on a path to an output that were compared or lie in a short compared segment. */
export function coverage(
  observation: Observation,
  compared: ReadonlySet<TensorKey>,
  segments: readonly Segment[],
): Coverage {
  const graph = segmentGraph(observation);
  const dataOps = new Set<string>();
  for (const output of observation.outputs) {
    for (const op of segmentOf(output.tensor, new Set(), graph).ops) {
      if (isDataOp(op, observation)) dataOps.add(op.sourceOp);
    }
  }
  const coveredOps = new Set<string>();
  const pairedOps = new Set<string>();
  for (const segment of segments) {
    const data = new Set(
      segment.ops.filter((op) => isDataOp(op, observation)).map((op) => op.sourceOp),
    );
    if (data.size > longestCoveredSegment) continue;
    for (const op of data) if (dataOps.has(op)) coveredOps.add(op);
  }
  for (const key of compared) {
    const op = graph.producerOf.get(key);
    if (!op || !dataOps.has(op.sourceOp)) continue;
    coveredOps.add(op.sourceOp);
    pairedOps.add(op.sourceOp);
  }
  return {
    covered: coveredOps.size,
    total: dataOps.size,
    paired: pairedOps.size,
    coveredOps,
    dataOps,
  };
}

/** A segment's tensors that depend on some of them, the nearest first; looks no further than it is read. */
export function* tensorsAfter(
  keys: readonly TensorKey[],
  segment: Segment,
  readersOf: ReadonlyMap<TensorKey, readonly ObservedOp[]>,
): Iterable<TensorKey> {
  const within = new Set(segment.ops);
  const open = [...keys];
  const seen = new Set(open);
  for (let key = open.shift(); key !== undefined; key = open.shift()) {
    for (const op of readersOf.get(key) ?? []) {
      for (const output of within.has(op) ? op.outputs : []) {
        if (seen.has(output)) continue;
        seen.add(output);
        open.push(output);
        yield output;
      }
    }
  }
}
