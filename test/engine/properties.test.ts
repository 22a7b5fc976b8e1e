import fc from "fast-check";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { ModelProto } from "onnx-buf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fromFloat64, toFloat64 } from "../../engine/core/dtypes.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { Pair } from "../../engine/protocol/report.js";
import type { Layout } from "../../engine/protocol/tensor.js";
import { compareCandidate, type ComparedCandidate } from "../../engine/run/compareCandidate.js";
import type { ObservedImplementation } from "../../engine/run/observe.js";
import { observeModel } from "../../engine/run/observeModel.js";
import type { Executor } from "../../engine/runner/executor.js";
import { createRunner } from "../../engine/runner/supervisor.js";
import { bundleRunner } from "../support/bundleRunner.js";
import {
  faultyPlans,
  plans,
  render,
  rows,
  rowwise,
  width,
  type Plan,
} from "../support/randomModel.js";
import { pseudoRandom } from "../support/storyModel.js";

/** What holds for any model. More runs: PROPERTY_RUNS=500, another sample of them: PROPERTY_SEED=7. */
const numRuns = Number(process.env["PROPERTY_RUNS"] ?? 20);
const seed = Number(process.env["PROPERTY_SEED"] ?? 2026);
const timeout = 60_000 + 3000 * numRuns;

let folder: string;
let executor: Executor;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-properties-"));
  const entry = await bundleRunner(path.join(folder, "runner"));
  executor = createRunner({ provider: "cpu", entry, timeoutMs: 60_000 });
});
afterAll(async () => {
  executor.dispose();
  await rm(folder, { recursive: true, force: true });
});

const { signal } = new AbortController();
const statementsOf = () => [];

function input(plan: Plan): TensorValue {
  const shape = [rows, width];
  return {
    dtype: "float32",
    shape,
    bytes: fromFloat64(pseudoRandom(rows * width, plan.seed + 5), "float32"),
  };
}

function observed(id: string, model: ModelProto, x: TensorValue): Promise<ObservedImplementation> {
  const inputs = new Map([["x", x]]);
  return observeModel({ id, label: id, model, folder, base: folder, executor, signal, inputs });
}

const lengthsOfSamples = fc.array(fc.integer({ min: 1, max: rows }), {
  minLength: 1,
  maxLength: 4,
});

function jaggedLayout(lengths: readonly number[]): Layout {
  const offsets = [0];
  for (const length of lengths) offsets.push((offsets.at(-1) as number) + length);
  return { kind: "jagged", offsets };
}

function paddedLayout(lengths: readonly number[]): Layout {
  return { kind: "padded", lengths: [...lengths], batchAxis: 0, axes: [1], pad: 0 };
}

/** The same samples one after the other, [ΣL, width], and padded to [samples, rows, width] with random numbers. */
async function inLayouts(plan: Plan, lengths: readonly number[]) {
  const total = lengths.reduce((a, b) => a + b, 0);
  const valid = pseudoRandom(total * width, plan.seed + 5);
  const values = pseudoRandom(lengths.length * rows * width, plan.seed + 6);
  let from = 0;
  for (const [b, length] of lengths.entries()) {
    const own = valid.slice(from, (from += length * width));
    values.splice(b * rows * width, own.length, ...own);
  }
  const observe = (id: string, model: ModelProto, shape: number[], x: number[]) =>
    observed(id, model, { dtype: "float32", shape, bytes: fromFloat64(x, "float32") });
  const samples = lengths.length;
  return {
    jagged: await observe("jagged", render(plan, { rows: total }), [total, width], valid),
    padded: await observe("padded", render(plan, { samples }), [samples, rows, width], values),
  };
}

/** What a recorded reference says about its tensors; an ONNX model says nothing. */
function withLayout(
  implementation: ObservedImplementation,
  layout: Layout,
): ObservedImplementation {
  const { observation } = implementation;
  const parameters = new Set(observation.parameters.map((parameter) => parameter.tensor));
  const tensors = new Map(
    [...observation.tensors].map(([key, tensor]) => [
      key,
      parameters.has(key) ? tensor : { ...tensor, layout },
    ]),
  );
  return { ...implementation, observation: { ...observation, tensors } };
}

async function compared(
  plan: Plan,
  reference: ModelProto,
  candidate: ModelProto,
): Promise<{ result: ComparedCandidate; change: number }> {
  const x = input(plan);
  const r = await observed("reference", reference, x);
  const c = await observed("port", candidate, x);
  const result = await compareCandidate(r, c, { rules: {}, signal, statementsOf });
  return { result, change: changeAt("out", r, c) };
}

/** ‖c − r‖ / ‖r‖ at a tensor that has this name on both sides. */
function changeAt(key: string, r: ObservedImplementation, c: ObservedImplementation): number {
  const [a, b] = [r, c].map(({ observation }) =>
    toFloat64(observation.tensors.get(key)?.value as TensorValue),
  ) as [Float64Array, Float64Array];
  const norm = (values: Float64Array): number => Math.sqrt(values.reduce((n, v) => n + v * v, 0));
  return norm(a.map((v, i) => (b[i] as number) - v)) / norm(a);
}

const lines = (pair: Pair): number[] => pair.origins.map((o) => o.site.line).sort((a, b) => a - b);
const findings = ({ pair }: ComparedCandidate) => ({ verdict: pair.verdict, lines: lines(pair) });

async function check<T>(
  arbitrary: fc.Arbitrary<T>,
  predicate: (value: T) => Promise<void>,
): Promise<void> {
  await fc.assert(fc.asyncProperty(arbitrary, predicate), { seed, numRuns });
}

describe("any model", () => {
  it("matches itself", { timeout }, () =>
    check(plans(), async (plan) => {
      const { result } = await compared(plan, render(plan), render(plan));
      expect(findings(result)).toEqual({ verdict: "pass", lines: [] });
    }),
  );

  it("is matched by a port of other names", { timeout }, () =>
    check(plans(), async (plan) => {
      const { result } = await compared(plan, render(plan), render(plan, { renamed: true }));
      expect(findings(result)).toEqual({ verdict: "pass", lines: [] });
    }),
  );

  it("is matched in another layout, whatever lies in the padding", { timeout }, () =>
    check(
      fc.tuple(plans(rowwise), lengthsOfSamples, fc.boolean()),
      async ([plan, lengths, turned]) => {
        const { jagged, padded } = await inLayouts(plan, lengths);
        const [reference, candidate] = turned ? [padded, jagged] : [jagged, padded];
        const laidOut = withLayout(
          reference,
          turned ? paddedLayout(lengths) : jaggedLayout(lengths),
        );
        const result = await compareCandidate(laidOut, candidate, {
          rules: {},
          signal,
          statementsOf,
        });
        expect(lines(result.pair)).toEqual([]);
        expect(["pass", "warn"]).toContain(result.pair.verdict);
        const compared = result.pair.rows.filter((row) => row.reference && row.candidate);
        expect(compared.length).toBeGreaterThanOrEqual(plan.steps.length);
      },
    ),
  );

  it("is matched by an honest rewriting", { timeout }, () =>
    check(plans(), async (plan) => {
      const { result } = await compared(plan, render(plan), render(plan, { rewritten: true }));
      expect(result.pair.origins.map((o) => o.site.line)).toEqual([]);
      expect(result.pair.verdict).toBe("pass");
    }),
  );
});

describe("a fault", () => {
  it("is found in any order of independent ops, with the same figures", { timeout }, () =>
    check(
      fc.tuple(faultyPlans, fc.integer({ min: 1, max: 1e6 })),
      async ([{ plan, fault }, order]) => {
        const reference = render(plan);
        const one = await compared(plan, reference, render(plan, { fault }));
        const other = await compared(plan, reference, render(plan, { fault, reordered: order }));
        expect(findings(other.result)).toEqual(findings(one.result));
        const figures = ({ pair }: ComparedCandidate) =>
          Object.fromEntries(
            pair.rows.flatMap((row) => (row.metrics ? [[row.id, row.metrics]] : [])),
          );
        expect(figures(other.result)).toEqual(figures(one.result));
      },
    ),
  );

  it("is found at the same lines whatever things are called", { timeout }, () =>
    check(faultyPlans, async ({ plan, fault }) => {
      const reference = render(plan);
      const one = await compared(plan, reference, render(plan, { fault }));
      // What changes nothing that comes out is not to be found where names do not say what corresponds.
      fc.pre(one.change > 1e-5);
      const other = await compared(plan, reference, render(plan, { fault, renamed: true }));
      expect(findings(other.result)).toEqual(findings(one.result));
    }),
  );
});
