import type {
  AttributeProto,
  GraphProto,
  ModelProto,
  NodeProto,
  StringStringEntryProto,
} from "onnx-buf";

/** A shallow copy with some fields replaced. Defaults of ONNX messages stand in their prototype, which a spread loses. */
export function withFields<T extends object>(message: T, changes: Partial<T>): T {
  const copy = Object.create(Object.getPrototypeOf(message) as object | null) as T;
  return Object.assign(copy, message, changes);
}

export function withGraph(model: ModelProto, changes: Partial<GraphProto>): ModelProto {
  return withFields(model, { graph: withFields(graphOf(model), changes) });
}

export function graphOf(model: ModelProto): GraphProto {
  if (!model.graph) throw new Error("the model has no graph");
  return model.graph;
}

export function attributeOf(node: NodeProto, name: string): AttributeProto | undefined {
  return node.attribute.find((attribute) => attribute.name === name);
}

export function metadataOf(entries: readonly StringStringEntryProto[]): Map<string, string> {
  return new Map(entries.map(({ key, value }) => [key, value]));
}

/** The graphs inside a node: branches of If, bodies of Loop and Scan. */
export function subgraphsOf(node: NodeProto): GraphProto[] {
  return node.attribute.flatMap((attribute) => [
    ...(attribute.g ? [attribute.g] : []),
    ...attribute.graphs,
  ]);
}

/** Every value that a node reads, those that its subgraphs take from outside included; absent inputs ("") left out. */
export function readsOf(node: NodeProto): string[] {
  const own = node.input.filter((name) => name !== "");
  const captured = subgraphsOf(node).flatMap(capturedBy);
  return captured.length === 0 ? own : [...new Set([...own, ...captured])];
}

function capturedBy(graph: GraphProto): string[] {
  const local = new Set<string>([
    ...graph.input.map(({ name }) => name),
    ...graph.initializer.map(({ name }) => name),
    ...graph.node.flatMap((node) => node.output),
  ]);
  const read = [...graph.node.flatMap(readsOf), ...graph.output.map(({ name }) => name)];
  return [...new Set(read.filter((name) => !local.has(name)))];
}

/** The node with every read of one value replaced by a read of another; what it makes keeps its name. */
export function withReads(node: NodeProto, renamed: ReadonlyMap<string, string>): NodeProto {
  if (!readsOf(node).some((name) => renamed.has(name))) return node;
  const rename = (name: string): string => renamed.get(name) ?? name;
  const inGraph = (graph: GraphProto): GraphProto => {
    const captured = new Set(capturedBy(graph));
    const inner = new Map([...renamed].filter(([name]) => captured.has(name)));
    if (inner.size === 0) return graph;
    return withFields(graph, {
      node: graph.node.map((one) => withReads(one, inner)),
      output: graph.output.map((port) =>
        inner.has(port.name) ? withFields(port, { name: inner.get(port.name) ?? port.name }) : port,
      ),
    });
  };
  return withFields(node, {
    input: node.input.map(rename),
    attribute: node.attribute.map((attribute) =>
      attribute.g || attribute.graphs.length > 0
        ? withFields(attribute, {
            ...(attribute.g && { g: inGraph(attribute.g) }),
            graphs: attribute.graphs.map(inGraph),
          })
        : attribute,
    ),
  });
}
