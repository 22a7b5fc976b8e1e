import { spawnSync } from "node:child_process";
import { compareTensors, relL2 } from "../../engine/core/compare.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";

/**
 * Throughput of the comparison on one thread, in GiB/s of the bytes of both tensors together: 64 MiB of float32 pairs are
 * two tensors of 32 MiB. The best of several rounds is printed, NumPy's beside it where a Python with NumPy is found.
 *
 * Run it with `npm run bench`, or bundle it with esbuild for Node and run that. PYTHON names the Python to use.
 */

const pairs = 8 * 1024 * 1024;
const bytes = pairs * 2 * 4;
const rounds = 7;

function main(): void {
  const random = randomPair((x, noise) => x * (1 + noise * 1e-6));
  const equal = { reference: random.reference, candidate: random.reference };
  const half = randomPair((x, noise) => x + noise);
  print("float32, 64 MiB of pairs, one thread, best of " + rounds);
  print("");
  print("basic set (norms, maxima, cosine, violations, NaN and Inf)");
  const basic = measure("  rounding noise", () => relL2(random.reference, random.candidate));
  measure("  equal tensors", () => relL2(equal.reference, equal.candidate));
  print("all metrics, with ULP, quantiles and histogram");
  const full = measure("  rounding noise", () =>
    compareTensors(random.reference, random.candidate),
  );
  measure("  equal tensors", () => compareTensors(equal.reference, equal.candidate));
  measure("  unrelated tensors", () => compareTensors(half.reference, half.candidate));
  const runs = Array.from({ length: pairs / 50 }, (_, i) => ({
    reference: i * 50,
    candidate: i * 50,
    length: 50,
  }));
  const alignment = { runs, count: runs.length * 50, transform: "rows of 50" };
  measure("  runs of 50 elements", () =>
    compareTensors(random.reference, random.candidate, { alignment }),
  );
  print("");
  compareWithNumpy(basic, full);
}

function measure(label: string, work: () => unknown): number {
  let best = Infinity;
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    work();
    best = Math.min(best, performance.now() - start);
  }
  const speed = bytes / 2 ** 30 / (best / 1000);
  print(`${label.padEnd(32)}${speed.toFixed(2).padStart(6)} GiB/s   ${best.toFixed(0)} ms`);
  return speed;
}

/** The same numbers every time; NumPy makes its own in the same way. */
function randomPair(change: (x: number, noise: number) => number): {
  reference: TensorValue;
  candidate: TensorValue;
} {
  const r = new Float32Array(pairs);
  const c = new Float32Array(pairs);
  let state = 1;
  for (let i = 0; i < pairs; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    r[i] = state / 2 ** 31 - 1;
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    c[i] = change(r[i] as number, state / 2 ** 31 - 1);
  }
  return { reference: value(r), candidate: value(c) };
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
n = ${pairs}
rng = np.random.default_rng(1)
r = rng.uniform(-1, 1, n).astype(np.float32)
c = (r * (1 + rng.uniform(-1, 1, n) * 1e-6)).astype(np.float32)

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
    best = min((lambda t: (work(), time.perf_counter() - t)[1])(time.perf_counter()) for _ in range(3))
    print(name, ${bytes} / 2**30 / best)
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
    const speeds = {
      basic: Number(found.get("basic")),
      full: Number(found.get("full")),
    };
    print(
      `NumPy ${found.get("version") ?? ""} on data made the same way, with the same statistics`,
    );
    print(
      `  basic set${" ".repeat(21)}${speeds.basic.toFixed(2).padStart(6)} GiB/s   ours is ${(basic / speeds.basic).toFixed(1)} times as fast`,
    );
    print(
      `  all metrics${" ".repeat(19)}${speeds.full.toFixed(2).padStart(6)} GiB/s   ours is ${(full / speeds.full).toFixed(1)} times as fast`,
    );
    return;
  }
  print("no Python with NumPy was found to compare with");
}

function print(line: string): void {
  process.stdout.write(line + "\n");
}

main();
