import type { TensorStatistics } from "../protocol/tensor.js";
import { toWire } from "../protocol/wire.js";
import { toFloat64 } from "./dtypes.js";
import type { TensorValue } from "./tensorValue.js";

/** Summary of all elements; NaN and ±Inf are counted and left out of min, max, mean and rms. */
export function statisticsOf(value: TensorValue): TensorStatistics {
  const values = toFloat64(value);
  let min = Infinity;
  let max = -Infinity;
  let sum = 0;
  let squares = 0;
  let finite = 0;
  let nan = 0;
  let inf = 0;
  let zeros = 0;
  for (const x of values) {
    if (Number.isNaN(x)) nan++;
    else if (!Number.isFinite(x)) inf++;
    else {
      finite++;
      if (x === 0) zeros++;
      if (x < min) min = x;
      if (x > max) max = x;
      sum += x;
      squares += x * x;
    }
  }
  return {
    min: toWire(finite > 0 ? min : NaN),
    max: toWire(finite > 0 ? max : NaN),
    mean: toWire(finite > 0 ? sum / finite : NaN),
    rms: toWire(finite > 0 ? Math.sqrt(squares / finite) : NaN),
    nan,
    inf,
    zeros,
  };
}
