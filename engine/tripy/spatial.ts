import { widened } from "./elementwise.js";
import { isFloat } from "../core/dtypes.js";
import type { AttributeInput, Emitter } from "./emitter.js";
import type { Lowering } from "./opTable.js";
import { sizesOf } from "./shape.js";
import {
  UnsupportedOp,
  booleanAttribute,
  intListAttribute,
  operand,
  optionalNumberList,
  type SourceOp,
} from "./sourceOp.js";

/** Pooling and resizing (nvtripy/trace/ops/{pooling,resize}.py). */
export const SPATIAL: Readonly<Record<string, Lowering>> = {
  MaxPooling: (op, emit) => {
    const { dtype } = operand(op, 0);
    if (dtype !== "int8") return widenedFloat(op, emit, ([x]) => maxPool(op, emit, x));
    // float32 holds every int8, and the largest of them is the same in any scale.
    const pooled = maxPool(op, emit, emit.cast(operand(op, 0).name, dtype, "float32"));
    return emit.cast(pooled, "float32", dtype);
  },
  AvgPooling: (op, emit) =>
    widenedFloat(op, emit, ([x]) =>
      emit.node("AveragePool", [x], {
        ...windowOf(op),
        count_include_pad: booleanAttribute(op, "avg_excludes_padding") ? 0 : 1,
      }),
    ),
  ResizeNearest: resize(() => ({
    mode: "nearest",
    coordinate_transformation_mode: "asymmetric",
    nearest_mode: "floor",
  })),
  ResizeLinear: resize((op) => ({ mode: "linear", ...alignment(op) })),
  ResizeCubic: resize((op) => ({
    mode: "cubic",
    cubic_coeff_a: { float: -0.75 },
    ...alignment(op),
  })),
};

function maxPool(op: SourceOp, emit: Emitter, input: string): string {
  return emit.node("MaxPool", [input], windowOf(op));
}

function widenedFloat(
  op: SourceOp,
  emit: Emitter,
  compute: (inputs: [string, ...string[]]) => string,
): string {
  const { dtype } = operand(op, 0);
  // How TensorRT rounds an int8 average depends on its scales, which the trace does not have.
  if (!isFloat(dtype)) throw new UnsupportedOp(`${op.kind} of ${dtype}`);
  return widened(op, emit, compute);
}

function windowOf(op: SourceOp): Record<string, AttributeInput> {
  return {
    kernel_shape: intListAttribute(op, "kernel_dims"),
    strides: intListAttribute(op, "stride"),
    pads: [...intListAttribute(op, "pre_padding"), ...intListAttribute(op, "post_padding")],
  };
}

function alignment(op: SourceOp): Record<string, AttributeInput> {
  return {
    coordinate_transformation_mode: booleanAttribute(op, "align_corners")
      ? "align_corners"
      : "half_pixel",
  };
}

/** Data, and the output's shape where there are no scales. */
function resize(attributes: (op: SourceOp) => Record<string, AttributeInput>): Lowering {
  return (op, emit) => {
    const [data, shape] = op.inputs;
    if (!data) throw new UnsupportedOp(`${op.kind} has no input`);
    const scales = optionalNumberList(op, "scales");
    if (!shape && !scales) throw new UnsupportedOp(`${op.kind} has neither a shape nor scales`);
    if (!isFloat(data.dtype) && op.kind !== "ResizeNearest")
      throw new UnsupportedOp(`${op.kind} of ${data.dtype}`);
    const carrier = data.dtype === "float32" ? data.dtype : "float32";
    // A value here is copied or interpolated in float32, which holds every float16, bfloat16 and int8.
    const x = emit.cast(data.name, data.dtype, carrier);
    const how = attributes(op);
    const resized = shape
      ? emit.node("Resize", [x, "", "", sizesOf(emit, shape)], how)
      : emit.node("Resize", [x, "", emit.float32s(scales ?? [])], how);
    return emit.cast(resized, carrier, data.dtype);
  };
}
