import { spawnSync } from "node:child_process";
import { compareTensors, relL2 } from "../../engine/core/compare.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";

/**
 * Throughput of the comparison on one thread, in GiB/s of the bytes of both tensors together: 64 MiB of float32 pairs are
 * two tensors of 32 MiB, cut into 16 slices that are compared one after the other. Each slice is timed by itself in every
 * round and its best time counts, so that a busy machine does not decide the figure. NumPy's figures, taken in the same way,
 * stand beside ours where a Python with NumPy is found.
 *
 * Run it with `npm run bench`, or bundle it with esbuild for Node and run that. PYTHON names the Python to use.
 */

const pairs = 8 * 1024 * 1024;
const slices = 16;
const sliceLength = pairs / slices;
const bytes = pairs * 2 * 4;
const rounds = 15;

interface TensorPair {
  readonly reference: TensorValue;
  readonly candidate: TensorValue;
}

function main(): void {
  const near = makeSlices((x, noise) => x * (1 + noise * 1e-6));
  const equal = near.map(({ reference }) => ({ reference, candidate: reference }));
  const unrelated = makeSlices((x, noise) => x + noise);
  const runs = Array.from({ length: Math.floor(sliceLength / 50) }, (_, i) => ({
    reference: i * 50,
    candidate: i * 50,
    length: 50,
  }));
  const alignment = { runs, count: runs.length * 50, transform: "rows of 50" };

  print("64 MiB of float32 pairs, one thread, GiB/s of both tensors together");
  print("basic set: norms, maxima, zeros, NaN and Inf");
  const basic = measure("  rounding noise", near, ({ reference, candidate }) =>
    relL2(reference, candidate),
  );
  measure("  equal tensors", equal, ({ reference, candidate }) => relL2(reference, candidate));
  print("all metrics, with ULP, quantiles and histogram");
  const full = measure("  rounding noise", near, ({ reference, candidate }) =>
    compareTensors(reference, candidate),
  );
  measure("  equal tensors", equal, ({ reference, candidate }) =>
    compareTensors(reference, candidate),
  );
  measure("  unrelated tensors", unrelated, ({ reference, candidate }) =>
    compareTensors(reference, candidate),
  );
  measure("  noise, runs of 50 elements", near, ({ reference, candidate }) =>
    compareTensors(reference, candidate, { alignment }),
  );
  compareWithNumpy(basic, full);
}

function measure(
  label: string,
  data: readonly TensorPair[],
  work: (pair: TensorPair) => unknown,
): number {
  const best = new Array<number>(slices).fill(Infinity);
  for (let round = 0; round < rounds; round++) {
    for (const [i, pair] of data.entries()) {
      const start = performance.now();
      work(pair);
      best[i] = Math.min(best[i] as number, performance.now() - start);
    }
  }
  const milliseconds = best.reduce((sum, time) => sum + time, 0);
  const speed = bytes / 2 ** 30 / (milliseconds / 1000);
  print(`${label.padEnd(32)}${speed.toFixed(2).padStart(6)}   ${milliseconds.toFixed(0)} ms`);
  return speed;
}

/** The same numbers every time, uniform in −1 … 1. */
function makeSlices(change: (x: number, noise: number) => number): TensorPair[] {
  let state = 1;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
  return Array.from({ length: slices }, () => {
    const r = new Float32Array(sliceLength);
    const c = new Float32Array(sliceLength);
    for (let i = 0; i < sliceLength; i++) {
      r[i] = next();
      c[i] = change(r[i] as number, next());
    }
    return { reference: value(r), candidate: value(c) };
  });
}

function value(data: Float32Array): TensorValue {
  return {
    dtype: "float32",
    shape: [data.length],
    bytes: new Uint8Array(data.buffer),
  };
}

const numpyProgram = `
import time
import numpy as np
rng = np.random.default_rng(1)

def make():
    r = rng.uniform(-1, 1, ${sliceLength}).astype(np.float32)
    return r, (r * (1 + rng.uniform(-1, 1, ${sliceLength}) * 1e-6)).astype(np.float32)

slices = [make() for _ in range(${slices})]

def ordinals(x):
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))

def basic():
    r64 = r.astype(np.float64); c64 = c.astype(np.float64)
    d = c64 - r64; ad = np.abs(d); ar = np.abs(r64)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(ar > 0, ad / ar, 0)
    return (ad.max(), ad.argmax(), ad.mean(), np.sqrt((d * d).mean()), (ad > 1e-5 + 1.3e-6 * ar).mean(), relative.max(),
            np.linalg.norm(d) / np.linalg.norm(r64), ar.max(), np.dot(c64, r64), np.linalg.norm(c64),
            np.isnan(r).sum(), np.isnan(c).sum(), np.isinf(r).sum(), np.isinf(c).sum()), ad, relative

def full():
    basics, ad, relative = basic()
    ulp = np.abs(ordinals(c) - ordinals(r))
    bins = np.bincount((ad.view(np.int64) >> 49), minlength=16384)
    ratios = np.bincount((relative.view(np.int64) >> 49), minlength=16384)
    return basics, ulp.max(), ulp.mean(), bins, ratios

for name, work in (("basic", basic), ("full", full)):
    best = [1e9] * ${slices}
    for _ in range(4):
        for i, (r, c) in enumerate(slices):
            start = time.perf_counter()
            work()
            best[i] = min(best[i], time.perf_counter() - start)
    print(name, ${bytes} / 2**30 / sum(best))
print("version", np.__version__)
`;

function compareWithNumpy(basic: number, full: number): void {
  const candidates = [process.env["PYTHON"], ".venv/bin/python", "python3"];
  for (const python of candidates) {
    if (!python) continue;
    const result = spawnSync(python, ["-c", numpyProgram], {
      encoding: "utf8",
      env: {
        ...process.env,
        OMP_NUM_THREADS: "1",
        OPENBLAS_NUM_THREADS: "1",
        MKL_NUM_THREADS: "1",
      },
    });
    if (result.status !== 0) continue;
    const found = new Map(
      result.stdout.split("\n").map((line) => line.split(" ") as [string, string]),
    );
    print(`NumPy ${found.get("version") ?? ""}, the same statistics on data made alike`);
    for (const [label, key, ours] of [
      ["  basic set", "basic", basic],
      ["  all metrics", "full", full],
    ] as const) {
      const speed = Number(found.get(key));
      const times = (ours / speed).toFixed(1);
      print(`${label.padEnd(32)}${speed.toFixed(2).padStart(6)}   ours is ${times} times as fast`);
    }
    return;
  }
  print("no Python with NumPy was found to compare with");
}

function print(line: string): void {
  process.stdout.write(line + "\n");
}

main();
