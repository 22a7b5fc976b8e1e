/** The nearest float16 bits of a number, ties to even (IEEE 754 binary16). */
export function halfBits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(Math.fround(value));
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude === Infinity) return sign | 0x7c00;
  if (magnitude === 0) return sign;
  const exponent = Math.max(Math.floor(Math.log2(magnitude)), -14);
  const units = roundHalfEven(magnitude / 2 ** (exponent - 10));
  // `units` has the implicit bit: carrying into the exponent is the right result of rounding up.
  const bits = units < 1024 ? units : ((exponent + 15) << 10) + (units - 1024);
  return sign | Math.min(bits, 0x7c00);
}

export function fromHalfBits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent === 0
    ? sign * fraction * 2 ** -24
    : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

export function toHalf(value: number): number {
  return fromHalfBits(halfBits(value));
}

/** The nearest bfloat16, ties to even, of the float32 nearest to a number. */
export function toBfloat16(value: number): number {
  if (!Number.isFinite(value)) return value;
  const bits = new Uint32Array(new Float32Array([value]).buffer)[0] as number;
  const rounded = (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;
  return new Float32Array(new Uint32Array([rounded]).buffer)[0] as number;
}

export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
