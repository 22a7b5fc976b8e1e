import { create } from "@bufbuild/protobuf";
import {
  GraphProtoSchema,
  ModelProtoSchema,
  ValueInfoProtoSchema,
  type GraphProto,
  type ModelProto,
} from "onnx-buf";
import { UNSUPPORTED_DOMAIN, type LoweredTrace } from "./lower.js";

export interface RunnablePart {
  /**
   * The model without the ops that cannot be lowered and without everything that depends on them. Where no output is
   * left, its outputs are the values that the ops which cannot run would have read.
   */
  readonly model: ModelProto;
  /** Names of the graph outputs that cannot be computed, in their order. */
  readonly lostOutputs: readonly string[];
  /** Names of all values that cannot be computed, the outputs among them. */
  readonly lost: ReadonlySet<string>;
}

/** What of a lowered trace can be run although some of its ops cannot; all of it where every op can. */
export function runnablePart({ model }: LoweredTrace): RunnablePart {
  const graph = model.graph ?? create(GraphProtoSchema);
  const known = new Set([
    "",
    ...graph.input.map(({ name }) => name),
    ...graph.initializer.map(({ name }) => name),
  ]);
  const lost = new Set<string>();
  const read = new Set<string>();
  const nodes = graph.node.filter((node) => {
    const runs = node.domain !== UNSUPPORTED_DOMAIN && node.input.every((name) => known.has(name));
    for (const name of node.output) (runs ? known : lost).add(name);
    if (!runs) {
      for (const name of node.input) (known.has(name) ? read : lost).add(name);
    }
    return runs;
  });
  const kept = graph.output.filter(({ name }) => known.has(name));
  const lostOutputs = graph.output.flatMap(({ name }) => (known.has(name) ? [] : [name]));
  for (const name of lostOutputs) lost.add(name);
  const output = kept.length > 0 ? kept : frontier(graph, nodes, read);
  const outputNames = new Set(output.map(({ name }) => name));
  return {
    lost,
    lostOutputs,
    model: create(ModelProtoSchema, {
      ...model,
      opsetImport: model.opsetImport.filter(({ domain }) => domain !== UNSUPPORTED_DOMAIN),
      graph: create(GraphProtoSchema, {
        ...graph,
        node: nodes,
        output,
        valueInfo: graph.valueInfo.filter(({ name }) => known.has(name) && !outputNames.has(name)),
      }),
    }),
  };
}

/** The computed values that only lost nodes read, in the order in which they are computed. */
function frontier(
  graph: GraphProto,
  nodes: GraphProto["node"],
  read: ReadonlySet<string>,
): GraphProto["output"] {
  const types = new Map(graph.valueInfo.map((info) => [info.name, info]));
  return nodes
    .flatMap((node) => node.output)
    .filter((name) => read.has(name))
    .map((name) => types.get(name) ?? create(ValueInfoProtoSchema, { name }));
}
