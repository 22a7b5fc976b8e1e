import type { TensorStatistics } from "../protocol/tensor.js";
import { toWire } from "../protocol/wire.js";
import { elementCount, float64Reader } from "./dtypes.js";
import type { TensorValue } from "./tensorValue.js";

/** Summary of all elements; NaN and ±Inf are counted and left out of min, max, mean and rms. */
export function statisticsOf(value: TensorValue): TensorStatistics {
  const read = float64Reader(value);
  const count = elementCount(value.shape);
  const chunk = new Float64Array(Math.min(count, 4096));
  let min = Infinity;
  let max = -Infinity;
  let sum = 0;
  let squares = 0;
  let finite = 0;
  let nan = 0;
  let zeros = 0;
  for (let done = 0; done < count; done += chunk.length) {
    const length = Math.min(chunk.length, count - done);
    read(done, length, chunk, 0);
    for (let i = 0; i < length; i++) {
      const x = chunk[i] as number;
      // Only a finite number leaves nothing when it is taken from itself.
      if (x - x !== 0) {
        if (x !== x) nan++;
        continue;
      }
      finite++;
      if (x === 0) zeros++;
      if (x < min) min = x;
      if (x > max) max = x;
      sum += x;
      squares += x * x;
    }
  }
  const inf = count - finite - nan;
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
