import type { GraphProto, NodeProto, TensorProto } from "onnx-buf";
import { elementCount, elementSize, fromFloat64, toBigInts } from "../core/dtypes.js";
import type { TensorValue } from "../core/tensorValue.js";
import { attributeOf } from "./fields.js";
import { tensorValueOf } from "./tensorProto.js";

/**
 * Values that follow from the model alone: initializers, constants, and what fills or copies them (a parameter that is
 * declared as `zeros(…)` is such an op). undefined for everything that has to be computed.
 */
export function foldedValue(graph: GraphProto): (tensor: string) => TensorValue | undefined {
  const initializers = new Map<string, TensorProto>(graph.initializer.map((t) => [t.name, t]));
  const makers = new Map<string, NodeProto>();
  for (const node of graph.node) for (const output of node.output) makers.set(output, node);

  const valueOf = (tensor: string, depth = 0): TensorValue | undefined => {
    const stored = initializers.get(tensor);
    if (stored) return tensorValueOf(stored);
    const node = makers.get(tensor);
    // A chain this long is no declaration; it also ends a model whose nodes form a circle.
    if (!node || depth > 8) return undefined;
    const input = (index: number): TensorValue | undefined =>
      valueOf(node.input[index] ?? "", depth + 1);
    switch (node.opType) {
      case "Identity":
        return input(0);
      case "Constant":
        return constant(node);
      case "ConstantOfShape": {
        const value = attributeOf(node, "value")?.t;
        return filled(value ? tensorValueOf(value) : zero, input(0));
      }
      case "Expand":
        return filled(input(0), input(1));
      case "Reshape":
        return reshaped(input(0), input(1));
      default:
        return undefined;
    }
  };
  return (tensor) => valueOf(tensor);
}

const zero: TensorValue = { dtype: "float32", shape: [1], bytes: new Uint8Array(4) };

function constant(node: NodeProto): TensorValue | undefined {
  const value = attributeOf(node, "value")?.t;
  if (value) return tensorValueOf(value);
  const single = attributeOf(node, "value_float");
  if (single) return { dtype: "float32", shape: [], bytes: fromFloat64([single.f], "float32") };
  const many = attributeOf(node, "value_floats")?.floats;
  if (!many) return undefined;
  return { dtype: "float32", shape: [many.length], bytes: fromFloat64(many, "float32") };
}

/** One element in every place of the shape; a value of more elements would have to be broadcast and is left out. */
function filled(
  value: TensorValue | undefined,
  shape: TensorValue | undefined,
): TensorValue | undefined {
  const sizes = shape && sizesOf(shape);
  if (!value || !sizes || elementCount(value.shape) !== 1) return undefined;
  const rank = Math.max(sizes.length, value.shape.length);
  const full = [...Array<number>(rank - sizes.length).fill(1), ...sizes];
  const size = elementSize[value.dtype];
  const bytes = new Uint8Array(elementCount(full) * size);
  for (let at = 0; at < bytes.byteLength; at += size) bytes.set(value.bytes, at);
  return { dtype: value.dtype, shape: full, bytes };
}

function reshaped(
  value: TensorValue | undefined,
  shape: TensorValue | undefined,
): TensorValue | undefined {
  const sizes = shape && sizesOf(shape);
  if (!value || !sizes || elementCount(sizes) !== elementCount(value.shape)) return undefined;
  return { ...value, shape: sizes };
}

function sizesOf(shape: TensorValue): number[] | undefined {
  if (shape.dtype !== "int64") return undefined;
  const sizes = [...toBigInts(shape)].map(Number);
  return sizes.every((size) => size >= 0) ? sizes : undefined;
}
