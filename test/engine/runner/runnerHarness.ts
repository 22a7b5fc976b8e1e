import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { serialise } from "../../../engine/onnx/model.js";
import { RunnerFailure } from "../../../engine/runner/executor.js";
import {
  createRunner,
  type CreateRunnerOptions,
  type Runner,
} from "../../../engine/runner/supervisor.js";
import { bundleRunner } from "../../support/bundleRunner.js";
import { floats, smallGraph, smallModel, type SmallNode } from "../../support/onnxModel.js";

/** What the tests of a file share: one bundled child, and for each test runners and a temporary folder of its own. */
export interface RunnerHarness {
  /** Folder of the whole file. */
  readonly folder: string;
  readonly entry: string;
  /** Folder for the temporary files of one test. Each test fails that leaves something in it. */
  readonly tempRoot: string;
  start(options?: Partial<CreateRunnerOptions>): Runner;
  /** The entry of a child of the test's own in place of the real one. */
  childThat(does: string): Promise<string>;
}

export function runnerHarness(): RunnerHarness {
  const state = { folder: "", entry: "", tempRoot: "" };
  const runners: Runner[] = [];
  let children = 0;
  beforeAll(async () => {
    state.folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-supervisor-"));
    state.entry = await bundleRunner(path.join(state.folder, "bundle"));
  });
  afterAll(() => rm(state.folder, { recursive: true, force: true }));
  beforeEach(async () => {
    state.tempRoot = await mkdtemp(path.join(state.folder, "temp-"));
  });
  afterEach(async () => {
    for (const runner of runners.splice(0)) runner.dispose();
    await eventually(async () => (await readdir(state.tempRoot)).length === 0);
  });
  return {
    get folder() {
      return state.folder;
    },
    get entry() {
      return state.entry;
    },
    get tempRoot() {
      return state.tempRoot;
    },
    start(options = {}) {
      const { entry, tempRoot } = state;
      const runner = createRunner({
        provider: "cpu",
        entry,
        timeoutMs: 30_000,
        tempRoot,
        ...options,
      });
      runners.push(runner);
      return runner;
    },
    async childThat(does) {
      const file = path.join(state.folder, `child-${children++}.mjs`);
      await writeFile(file, does);
      return file;
    },
  };
}

export async function eventually(check: () => Promise<boolean> | boolean): Promise<void> {
  for (let i = 0; i < 150; i++) {
    if (await check()) return;
    await sleep(25);
  }
  throw new Error(`it did not happen: ${check.toString()}`);
}

export async function failure(run: Promise<unknown>): Promise<RunnerFailure> {
  const error: unknown = await run.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(RunnerFailure);
  expect((error as RunnerFailure).nextStep).not.toBe("");
  return error as RunnerFailure;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export const never = new AbortController().signal;
export const one = (op: string, more: Partial<SmallNode> = {}) =>
  serialise(
    smallModel({
      inputs: { x: ["float32", [2]] },
      nodes: [{ op, in: ["x"], out: ["y"], name: "the node", ...more }],
      outputs: ["y"],
    }),
  );
export const neg = one("Neg");
export const x = floats([2], [1, -2]);
export const minusX = floats([2], [-1, 2]);

/** Counts to 10^12: it does not come back. */
export const endless = serialise(
  smallModel({
    inputs: { x: ["float32", [2]] },
    initializers: {
      times: {
        dtype: "int64",
        shape: [],
        bytes: new Uint8Array(BigInt64Array.of(10n ** 12n).buffer),
      },
      yes: { dtype: "bool", shape: [], bytes: Uint8Array.of(1) },
    },
    nodes: [
      {
        op: "Loop",
        in: ["times", "yes", "x"],
        out: ["y"],
        attributes: {
          body: smallGraph({
            inputs: { i: ["int64", []], go: ["bool", []], v: ["float32", [2]] },
            nodes: [
              { op: "Identity", in: ["go"], out: ["go_on"] },
              { op: "Neg", in: ["v"], out: ["w"] },
            ],
            valueInfo: {},
            outputs: ["go_on", "w"],
          }),
        },
      },
    ],
    outputs: ["y"],
  }),
);
