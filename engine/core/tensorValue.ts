import type { DType } from "../protocol/tensor.js";

/** A tensor in memory: raw little-endian bytes in C order, exactly as safetensors stores them. */
export interface TensorValue {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}
