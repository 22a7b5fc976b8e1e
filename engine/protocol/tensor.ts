import type { WireNumber } from "./wire.js";

/** Element types, named as NumPy and PyTorch name them. */
export type DType =
  | "float64"
  | "float32"
  | "float16"
  | "bfloat16"
  | "int64"
  | "int32"
  | "int16"
  | "int8"
  | "uint64"
  | "uint32"
  | "uint16"
  | "uint8"
  | "bool";

/** Where the bytes of a tensor lie: little-endian, C order, read by range. `file` is relative to the file that holds the reference. */
export interface TensorRef {
  file: string;
  dtype: DType;
  shape: number[];
  byteOffset: number;
  byteLength: number;
}

/**
 * Which elements of a tensor mean something.
 * - `dense`: all of them.
 * - `jagged`: axis 0 holds the rows of all samples one after the other, sample b in rows offsets[b] … offsets[b+1]−1.
 * - `padded`: along each of `axes` only the first lengths[b] positions of sample b (index on `batchAxis`) are valid;
 *   an attention matrix [B, H, N, N] is padded on axes 2 and 3.
 */
export type Layout =
  | { kind: "dense" }
  | { kind: "jagged"; offsets: number[] }
  | { kind: "padded"; lengths: number[]; batchAxis: number; axes: number[]; pad: WireNumber };

/** Summary of the valid elements of one tensor. NaN and ±Inf are counted and left out of min, max, mean and rms. */
export interface TensorStatistics {
  min: WireNumber;
  max: WireNumber;
  mean: WireNumber;
  rms: WireNumber;
  nan: number;
  inf: number;
  zeros: number;
}
