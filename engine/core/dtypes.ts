import type { DType } from "../protocol/tensor.js";
import type { TensorValue } from "./tensorValue.js";

/** Bytes of one element. */
export const elementSize: Readonly<Record<DType, number>> = {
  float64: 8,
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int16: 2,
  int8: 1,
  uint64: 8,
  uint32: 4,
  uint16: 2,
  uint8: 1,
  bool: 1,
};

export type FloatDType = "float64" | "float32" | "float16" | "bfloat16";

/** Exponent and explicit mantissa bits of the IEEE 754 formats and of bfloat16. */
export const floatFormats: Readonly<
  Record<FloatDType, { exponentBits: number; mantissaBits: number; minNormal: number; max: number }>
> = {
  float64: { exponentBits: 11, mantissaBits: 52, minNormal: 2 ** -1022, max: Number.MAX_VALUE },
  float32: {
    exponentBits: 8,
    mantissaBits: 23,
    minNormal: 2 ** -126,
    max: (2 - 2 ** -23) * 2 ** 127,
  },
  float16: { exponentBits: 5, mantissaBits: 10, minNormal: 2 ** -14, max: 65504 },
  bfloat16: {
    exponentBits: 8,
    mantissaBits: 7,
    minNormal: 2 ** -126,
    max: (2 - 2 ** -7) * 2 ** 127,
  },
};

export function isFloat(dtype: DType): dtype is FloatDType {
  return dtype in floatFormats;
}

/** 64-bit integers do not fit a JavaScript number exactly. */
export function is64BitInteger(dtype: DType): dtype is "int64" | "uint64" {
  return dtype === "int64" || dtype === "uint64";
}

/** The float type with fewer mantissa bits; undefined when neither is a float. */
export function narrowerFloat(a: DType, b: DType): FloatDType | undefined {
  if (!isFloat(a)) return isFloat(b) ? b : undefined;
  if (!isFloat(b)) return a;
  return floatFormats[a].mantissaBits <= floatFormats[b].mantissaBits ? a : b;
}

/** Number of elements of a shape; 1 for a 0-d tensor. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** True when the bytes are exactly those that type and shape ask for. */
export function isComplete(value: TensorValue): boolean {
  return (
    value.shape.every((size) => Number.isSafeInteger(size) && size >= 0) &&
    value.bytes.byteLength === elementCount(value.shape) * elementSize[value.dtype]
  );
}

/** All elements as float64: exact for every type except 64-bit integers beyond 2^53, which are rounded. */
export function toFloat64(value: TensorValue): Float64Array {
  const count = Math.floor(value.bytes.byteLength / elementSize[value.dtype]);
  const into = new Float64Array(count);
  float64Reader(value)(0, count, into, 0);
  return into;
}

/** All elements of an integer or boolean tensor, exactly. @throws TypeError for a float tensor. */
export function toBigInts(value: TensorValue): BigInt64Array | BigUint64Array {
  if (isFloat(value.dtype)) throw new TypeError(`${value.dtype} is no integer type`);
  const elements = elementArray(value);
  if (elements instanceof BigInt64Array || elements instanceof BigUint64Array) return elements;
  const isBool = value.dtype === "bool";
  const into = new BigInt64Array(elements.length);
  for (let i = 0; i < elements.length; i++) {
    const x = elements[i] as number;
    into[i] = isBool ? (x === 0 ? 0n : 1n) : BigInt(x);
  }
  return into;
}

/** Rounds float64 numbers to the type, ties to even; integers are truncated and wrap as in C. */
export function fromFloat64(values: ArrayLike<number>, dtype: DType): Uint8Array {
  const bytes = new Uint8Array(values.length * elementSize[dtype]);
  const elements = elementArray({ dtype, shape: [values.length], bytes });
  for (let i = 0; i < values.length; i++) {
    const x = values[i] as number;
    if (elements instanceof BigInt64Array || elements instanceof BigUint64Array) {
      elements[i] = Number.isFinite(x) ? BigInt(Math.trunc(x)) : 0n;
    } else if (dtype === "float16" || dtype === "bfloat16") elements[i] = floatBits(x, dtype);
    else if (dtype === "bool") elements[i] = x === 0 ? 0 : 1;
    else elements[i] = x;
  }
  return bytes;
}

/** Reads `count` elements from `start` into `into` at `at`, widened to float64. */
export type Float64Reader = (start: number, count: number, into: Float64Array, at: number) => void;

export function float64Reader(value: TensorValue): Float64Reader {
  const elements = elementArray(value);
  if (elements instanceof BigInt64Array || elements instanceof BigUint64Array) {
    return (start, count, into, at) => {
      for (let i = 0; i < count; i++) into[at + i] = Number(elements[start + i]);
    };
  }
  if (value.dtype === "float16" || value.dtype === "bfloat16") {
    const table = halfTable(value.dtype);
    return (start, count, into, at) => {
      for (let i = 0; i < count; i++) {
        into[at + i] = table[elements[start + i] as number] as number;
      }
    };
  }
  if (value.dtype === "bool") {
    return (start, count, into, at) => {
      for (let i = 0; i < count; i++) into[at + i] = elements[start + i] === 0 ? 0 : 1;
    };
  }
  return (start, count, into, at) => into.set(elements.subarray(start, start + count), at);
}

/** The elements as they are stored: a view where the bytes are aligned, a copy where they are not. */
export function elementArray(value: TensorValue): ElementArray {
  const size = elementSize[value.dtype];
  const length = Math.floor(value.bytes.byteLength / size);
  const bytes = value.bytes.byteOffset % size === 0 ? value.bytes : new Uint8Array(value.bytes);
  return new arrayTypes[value.dtype](bytes.buffer as ArrayBuffer, bytes.byteOffset, length);
}

/** The bits of the nearest float16 or bfloat16 number (ties to even, once: not by way of float32). */
export function floatBits(x: number, dtype: "float16" | "bfloat16"): number {
  const { exponentBits, mantissaBits } = floatFormats[dtype];
  const infinity = ((1 << exponentBits) - 1) << mantissaBits;
  if (Number.isNaN(x)) return infinity | (1 << (mantissaBits - 1));
  scratch[0] = x;
  const high = scratchWords[1] as number;
  const sign = high < 0 ? 1 << (exponentBits + mantissaBits) : 0;
  const lowest = 2 - (1 << (exponentBits - 1));
  const exponent = Math.max(((high >>> 20) & 0x7ff) - 1023, lowest);
  const scaled = Math.abs(x) * 2 ** (mantissaBits - exponent);
  const whole = Math.floor(scaled);
  const rest = scaled - whole;
  const rounded = rest > 0.5 || (rest === 0.5 && whole % 2 === 1) ? whole + 1 : whole;
  return sign | Math.min(rounded + ((exponent - lowest) << mantissaBits), infinity);
}

export type ElementArray = InstanceType<(typeof arrayTypes)[DType]>;

const arrayTypes = {
  float64: Float64Array,
  float32: Float32Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint64: BigUint64Array,
  uint32: Uint32Array,
  uint16: Uint16Array,
  uint8: Uint8Array,
  bool: Uint8Array,
} as const;

const scratch = new Float64Array(1);
const scratchWords = new Int32Array(scratch.buffer);
const halfTables = new Map<string, Float64Array>();

/** The value of each of the 65,536 bit patterns. */
function halfTable(dtype: "float16" | "bfloat16"): Float64Array {
  let table = halfTables.get(dtype);
  if (!table) {
    const { exponentBits, mantissaBits } = floatFormats[dtype];
    const maxExponent = (1 << exponentBits) - 1;
    const bias = maxExponent >> 1;
    table = Float64Array.from({ length: 1 << 16 }, (_, bits) => {
      const sign = bits >>> 15 ? -1 : 1;
      const exponent = (bits >>> mantissaBits) & maxExponent;
      const mantissa = bits & ((1 << mantissaBits) - 1);
      if (exponent === maxExponent) return mantissa ? NaN : sign * Infinity;
      const significand = exponent === 0 ? mantissa : mantissa + (1 << mantissaBits);
      return sign * significand * 2 ** (Math.max(exponent, 1) - bias - mantissaBits);
    });
    halfTables.set(dtype, table);
  }
  return table;
}
