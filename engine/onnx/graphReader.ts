import type { GraphProto, ModelProto, NodeProto, TypeProto } from "onnx-buf";
import { isFloat } from "../core/dtypes.js";
import type { Site } from "../protocol/report.js";
import type { TraceFrame, TraceSource } from "../protocol/trace.js";
import { userError } from "../protocol/userError.js";
import {
  DecodeError,
  fields,
  integer,
  list,
  recordOf,
  text,
  type Decode,
} from "../trace/decoder.js";
import { frame, source, traceRun } from "../trace/traceFile.js";
import type {
  CandidateGraph,
  CandidateNode,
  CandidateParameter,
  CandidatePort,
} from "./candidateGraph.js";
import { declaredDType } from "./elementTypes.js";
import { graphOf, metadataOf, readsOf } from "./fields.js";
import { foldedValue } from "./folding.js";
import { framesOfStackTrace, instanceOfNameScopes } from "./torchMetadata.js";
import { tensorValueOf } from "./tensorProto.js";

/**
 * The ops of a model with their source sites, parameters and names, from what our own lowering or torch's exporter wrote
 * into its metadata. What the metadata does not say stays empty; metadata of ours that is malformed is an error.
 * @throws UserError that names the metadata entry.
 */
export function readCandidateGraph(model: ModelProto): CandidateGraph {
  const graph = graphOf(model);
  const metadata = metadataOf(model.metadataProps);
  const entry = <T>(name: string, decode: Decode<T>): T | undefined =>
    decodeEntry(metadata, `${prefix}${name}`, decode);

  const run = entry("run", traceRun);
  const sources = entry("sources", list(source)) ?? [];
  const siteOf = sitesOf(entry("frames", list(frame)) ?? [], sources);
  const names = new Map(Object.entries(entry("names", recordOf(list(text))) ?? {}));
  const declared = entry("parameters", list(parameter));
  const initializers = new Set(graph.initializer.map(({ name }) => name));
  return {
    nodes: readNodes(graph, siteOf),
    inputs: graph.input.filter(({ name }) => !initializers.has(name)).map(readPort),
    outputs: graph.output.map(({ name }) => name),
    parameters: declared ? declaredParameters(graph, declared, siteOf) : guessedParameters(graph),
    namesOf: namesOf(graph, names),
    sources: sources.map(({ file, sha256 }) => ({ file, ...(sha256 !== "" && { sha256 }) })),
    framework: metadata.get(`${prefix}framework`) ?? producerOf(model),
    standIns: run?.standIns ?? [],
    emulated: run?.emulated ?? [],
  };
}

const prefix = "hstu_parity.";

interface DeclaredParameter {
  readonly name: string;
  readonly tensor: string;
  readonly declaredAt?: number;
}

const parameter: Decode<DeclaredParameter> = (value, path) => {
  const f = fields(value, path);
  return {
    name: f.required("name", text),
    tensor: f.required("tensor", text),
    ...f.optional("declaredAt", integer()),
  };
};

type SiteOf = (index: number, where: string) => Site;

function sitesOf(frames: readonly TraceFrame[], sources: readonly TraceSource[]): SiteOf {
  return (index, where) => {
    const found = frames[index];
    const file = found && sources[found.source];
    if (!file) throw malformed(where, `there is no frame ${index} with a source`);
    return {
      file: file.file,
      line: found.line,
      ...(found.column !== undefined && { column: found.column }),
      ...(found.endColumn !== undefined && { endColumn: found.endColumn }),
      function: found.function,
    };
  };
}

function readNodes(graph: GraphProto, siteOf: SiteOf): CandidateNode[] {
  const taken = new Set<string>();
  return graph.node.map((node, index) => {
    const plain = node.name === "" ? `${node.opType}_${index}` : node.name;
    const id = taken.has(plain) ? `${plain}#${index}` : plain;
    taken.add(id);
    return readNode(node, index, id, siteOf);
  });
}

function readNode(node: NodeProto, index: number, id: string, siteOf: SiteOf): CandidateNode {
  const metadata = metadataOf(node.metadataProps);
  const stack = decodeEntry(metadata, `${prefix}stack`, list(integer()));
  const constructedAt = decodeEntry(metadata, `${prefix}constructedAt`, integer());
  const call = Number(metadata.get(`${prefix}call`) ?? 0);
  return {
    index,
    id,
    kind: metadata.get(`${prefix}kind`) ?? node.opType,
    onnxType: node.opType,
    inputs: withCaptured(node),
    outputs: [...node.output],
    sourceOp: metadata.get(`${prefix}op`) ?? id,
    frames:
      stack?.map((frameIndex) => siteOf(frameIndex, `${prefix}stack of the node "${id}"`)) ??
      framesOfStackTrace(metadata.get("pkg.torch.onnx.stack_trace") ?? ""),
    instance:
      metadata.get(`${prefix}instance`) ??
      instanceOfNameScopes(metadata.get("pkg.torch.onnx.name_scopes") ?? ""),
    ...(Number.isSafeInteger(call) && call > 0 && { call }),
    ...(constructedAt !== undefined && {
      constructedAt: siteOf(constructedAt, `${prefix}constructedAt of the node "${id}"`),
    }),
  };
}

/** What a branch or a loop body takes from outside is an input of the node as well. */
function withCaptured(node: NodeProto): string[] {
  const own = new Set(node.input);
  return [...node.input, ...readsOf(node).filter((name) => !own.has(name))];
}

function readPort({ name, type }: { name: string; type?: TypeProto }): CandidatePort {
  const dtype = declaredDType(type);
  const shape = type?.value.case === "tensorType" ? type.value.value.shape : undefined;
  return {
    name,
    ...(dtype && { dtype }),
    ...(shape && {
      shape: shape.dim.map(({ value }) =>
        value.case === "dimValue" ? Number(value.value) : undefined,
      ),
    }),
  };
}

function declaredParameters(
  graph: GraphProto,
  declared: readonly DeclaredParameter[],
  siteOf: SiteOf,
): CandidateParameter[] {
  const valueOf = foldedValue(graph);
  return declared.flatMap(({ name, tensor, declaredAt }) => {
    const value = valueOf(tensor);
    if (!value) return [];
    const site = declaredAt === undefined ? undefined : siteOf(declaredAt, `${prefix}parameters`);
    return [{ name, tensor, value, ...(site && { declaredAt: site }) }];
  });
}

/** Exporters keep a state dict's keys as the names of parameters and make up names for constants. */
function guessedParameters(graph: GraphProto): CandidateParameter[] {
  return graph.initializer.flatMap((tensor) => {
    const value = tensorValueOf(tensor);
    const isParameter =
      value && isFloat(value.dtype) && value.shape.length > 0 && !looksGenerated(tensor.name);
    return isParameter ? [{ name: tensor.name, tensor: tensor.name, value }] : [];
  });
}

function looksGenerated(name: string): boolean {
  return /^(onnx::|val_|_val|_?const|lifted_tensor|_tensor_constant|_to_copy|scalar_tensor|t?\d+$)|^\/|_(output|default)_\d+$/i.test(
    name,
  );
}

function namesOf(
  graph: GraphProto,
  given: ReadonlyMap<string, readonly string[]>,
): Map<string, readonly string[]> {
  const tensors = [
    ...graph.input.map(({ name }) => name),
    ...graph.initializer.map(({ name }) => name),
    ...graph.node.flatMap((node) => node.output),
  ];
  return new Map(
    tensors
      .filter((tensor) => tensor !== "")
      .map((tensor) => [tensor, [...new Set([...(given.get(tensor) ?? []), tensor])]]),
  );
}

function producerOf({ producerName }: ModelProto): string {
  return /torch/i.test(producerName) ? "torch" : "onnx";
}

function decodeEntry<T>(
  metadata: ReadonlyMap<string, string>,
  key: string,
  decode: Decode<T>,
): T | undefined {
  const json = metadata.get(key);
  if (json === undefined) return undefined;
  try {
    return decode(JSON.parse(json), "");
  } catch (error) {
    throw malformed(key, error instanceof DecodeError ? error.message : "it is not JSON");
  }
}

function malformed(key: string, what: string) {
  return userError(
    "model-metadata",
    `the model's metadata ${key} cannot be used: ${what}`,
    "Make the model again with this version of the tool.",
  );
}
