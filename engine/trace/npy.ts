import { convertFloats } from "../core/conversions.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { DType } from "../protocol/tensor.js";

const codes: Readonly<Partial<Record<DType, string>>> = {
  float64: "<f8",
  float32: "<f4",
  float16: "<f2",
  int64: "<i8",
  int32: "<i4",
  int16: "<i2",
  int8: "|i1",
  uint64: "<u8",
  uint32: "<u4",
  uint16: "<u2",
  uint8: "|u1",
  bool: "|b1",
};

/** A tensor as NumPy's file format 1.0 has it (numpy.lib.format). NumPy has no bfloat16: it becomes float32. */
export function npyBytes(value: TensorValue): Uint8Array {
  const { dtype, shape, bytes } = codes[value.dtype] ? value : convertFloats(value, "float32");
  const sizes = shape.map((size) => `${size},`).join(" ");
  const header = `{'descr': '${codes[dtype]}', 'fortran_order': False, 'shape': (${sizes}), }`;
  // Magic, version and length take ten bytes; with the header they end at a multiple of 64.
  const length = Math.ceil((10 + header.length + 1) / 64) * 64 - 10;
  const head = Buffer.alloc(10 + length, " ");
  head.write("\x93NUMPY\x01\x00", 0, "latin1");
  head.writeUInt16LE(length, 8);
  head.write(header, 10, "latin1");
  head.write("\n", 10 + length - 1, "latin1");
  return Buffer.concat([head, bytes]);
}
