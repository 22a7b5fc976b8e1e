import { create } from "@bufbuild/protobuf";
import { NodeProtoSchema, type ModelProto } from "onnx-buf";
import type { DType } from "../protocol/tensor.js";
import { typedPort } from "./edit.js";
import { graphOf, withGraph, withReads } from "./fields.js";

export interface Correction {
  readonly tensor: string;
  /** Name of the new graph input with what is added to `tensor`; of the same shape and type. */
  readonly input: string;
  readonly dtype: DType;
}

/**
 * Adds a given value to tensors: everything that reads `tensor` reads `tensor + input` instead, while `tensor` itself is
 * computed as before. Errors that come in with the op's inputs still pass, which a replaced value would stop.
 */
export function correctAt(model: ModelProto, corrections: readonly Correction[]): ModelProto {
  const graph = graphOf(model);
  const corrected = (tensor: string): string => `${tensor}@corrected`;
  const renamed = new Map(corrections.map(({ tensor }) => [tensor, corrected(tensor)]));
  const byTensor = new Map(corrections.map((correction) => [correction.tensor, correction]));
  return withGraph(model, {
    node: graph.node.flatMap((node) => [
      withReads(node, renamed),
      ...node.output.flatMap((tensor) => {
        const correction = byTensor.get(tensor);
        if (!correction) return [];
        return [
          create(NodeProtoSchema, {
            opType: "Add",
            name: corrected(tensor),
            input: [tensor, correction.input],
            output: [corrected(tensor)],
          }),
        ];
      }),
    ]),
    input: [...graph.input, ...corrections.map(({ input, dtype }) => typedPort(input, dtype))],
  });
}
