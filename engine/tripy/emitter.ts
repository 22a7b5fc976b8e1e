import { create } from "@bufbuild/protobuf";
import {
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  NodeProtoSchema,
  TensorProtoSchema,
  type AttributeProto,
  type NodeProto,
  type TensorProto,
} from "onnx-buf";
import type { DType } from "../protocol/tensor.js";
import { onnxTypes } from "../onnx/tensorProto.js";
import { isFloat } from "../core/dtypes.js";

/** An attribute of an ONNX node; a real number must be wrapped, so that 1 and 1.0 are not confused. */
export type AttributeInput = number | string | readonly number[] | { readonly float: number };

/**
 * Collects the ONNX nodes of one Tripy op. Every method returns the name of the value that it makes, so that a lowering
 * reads as an expression; `finish` gives the last values the names of the op's own tensors.
 */
export class Emitter {
  readonly nodes: NodeProto[] = [];
  private fresh = 0;

  constructor(
    private readonly prefix: string,
    private readonly constants: ConstantPool,
  ) {}

  node(
    opType: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeInput>> = {},
  ): string {
    return this.split(opType, inputs, 1, attributes)[0] as string;
  }

  /** A node with several outputs. */
  split(
    opType: string,
    inputs: readonly string[],
    count: number,
    attributes: Readonly<Record<string, AttributeInput>> = {},
    domain = "",
  ): string[] {
    const outputs = Array.from({ length: count }, () => `%${this.prefix}.${this.fresh++}`);
    this.nodes.push(
      create(NodeProtoSchema, {
        opType,
        ...(domain && { domain }),
        input: [...inputs],
        output: [...outputs],
        attribute: Object.entries(attributes).map(([name, value]) => attributeProto(name, value)),
      }),
    );
    return outputs;
  }

  cast(value: string, from: DType, to: DType): string {
    if (from === to) return value;
    // The CPU provider casts bfloat16 only from and to float types.
    if (from === "bfloat16" && !isFloat(to))
      return this.cast(this.cast(value, from, "float32"), "float32", to);
    if (to === "bfloat16" && !isFloat(from))
      return this.cast(this.cast(value, from, "float32"), "float32", to);
    return this.node("Cast", [value], { to: onnxTypes[to] });
  }

  /** A 1-D int64 constant, the form in which ONNX takes shapes and axes. */
  int64s(values: readonly (number | bigint)[]): string {
    return this.constants.get("int64", values, [values.length]);
  }

  /** A 0-d constant of a float or integer type that holds `value` exactly. */
  scalar(dtype: "float32" | "float64" | "int32" | "int64", value: number): string {
    return this.constants.get(dtype, [value], []);
  }

  int32s(values: readonly number[]): string {
    return this.constants.get("int32", values, [values.length]);
  }

  float32s(values: readonly number[]): string {
    return this.constants.get("float32", values, [values.length]);
  }

  /** A constant without elements: one of `sizes` is 0. */
  empty(dtype: DType, sizes: readonly bigint[]): string {
    return this.constants.get(dtype, [], sizes);
  }

  /**
   * Names the op's results. A result that is no fresh value of this op (an operand passed through) or that is asked for
   * twice gets an Identity, because in ONNX a value has exactly one name.
   */
  finish(results: readonly string[], names: readonly string[]): NodeProto[] {
    const renamed = new Map<string, string>();
    const own = new Set(this.nodes.flatMap((node) => node.output));
    names.forEach((name, index) => {
      const result = results[index] as string;
      if (own.has(result) && !renamed.has(result)) renamed.set(result, name);
      else
        this.nodes.push(
          create(NodeProtoSchema, {
            opType: "Identity",
            input: [result],
            output: [name],
          }),
        );
    });
    for (const node of this.nodes) {
      node.input = node.input.map((value) => renamed.get(value) ?? value);
      node.output = node.output.map((value) => renamed.get(value) ?? value);
    }
    this.nodes.forEach((node, index) => {
      node.name = index === this.nodes.length - 1 ? this.prefix : `${this.prefix}/${index}`;
    });
    return this.nodes;
  }
}

/** Small constants that lowerings add, shared by value. */
export class ConstantPool {
  private readonly byKey = new Map<string, TensorProto>();

  get(
    dtype: DType,
    values: readonly (number | bigint)[],
    dims: readonly (number | bigint)[],
  ): string {
    const key = `%${dtype}[${dims.join(",")}](${values.map(wordOf).join(",")})`;
    if (!this.byKey.has(key)) {
      this.byKey.set(
        key,
        create(TensorProtoSchema, {
          name: key,
          dataType: onnxTypes[dtype],
          dims: dims.map((size) => BigInt(size)),
          rawData: bytesOf(dtype, values),
        }),
      );
    }
    return key;
  }

  tensors(): TensorProto[] {
    return [...this.byKey.values()];
  }
}

function wordOf(value: number | bigint): string {
  return Object.is(value, -0) ? "-0" : String(value);
}

function bytesOf(dtype: DType, values: readonly (number | bigint)[]): Uint8Array<ArrayBuffer> {
  if (values.length === 0) return new Uint8Array(0);
  switch (dtype) {
    case "int64":
      return new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    case "int32":
      return new Uint8Array(Int32Array.from(values, Number).buffer);
    case "float32":
      return new Uint8Array(Float32Array.from(values, Number).buffer);
    case "float64":
      return new Uint8Array(Float64Array.from(values, Number).buffer);
    default:
      throw new Error(`no constant of type ${dtype} is ever made here`);
  }
}

function attributeProto(name: string, value: AttributeInput): AttributeProto {
  if (typeof value === "number")
    return create(AttributeProtoSchema, {
      name,
      type: AttributeType.INT,
      i: BigInt(value),
    });
  if (typeof value === "string")
    return create(AttributeProtoSchema, {
      name,
      type: AttributeType.STRING,
      s: new TextEncoder().encode(value),
    });
  if (isList(value))
    return create(AttributeProtoSchema, {
      name,
      type: AttributeType.INTS,
      ints: value.map(BigInt),
    });
  return create(AttributeProtoSchema, {
    name,
    type: AttributeType.FLOAT,
    f: value.float,
  });
}

function isList(value: AttributeInput): value is readonly number[] {
  return Array.isArray(value);
}
