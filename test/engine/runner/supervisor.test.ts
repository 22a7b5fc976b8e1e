import { fork } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "esbuild";
import { TensorProto_DataType } from "onnx-buf";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { TensorValue } from "../../../engine/core/tensorValue.js";
import { serialise } from "../../../engine/onnx/model.js";
import type { DType } from "../../../engine/protocol/tensor.js";
import { RunnerFailure } from "../../../engine/runner/executor.js";
import {
  createRunner,
  type CreateRunnerOptions,
  type Runner,
} from "../../../engine/runner/supervisor.js";
import { bundleRunner, root } from "../../support/bundleRunner.js";
import { floats, smallGraph, smallModel, type SmallNode } from "../../support/onnxModel.js";

let folder: string;
let entry: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-supervisor-"));
  entry = await bundleRunner(path.join(folder, "bundle"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

let tempRoot: string;
const runners: Runner[] = [];
beforeEach(async () => {
  tempRoot = await mkdtemp(path.join(folder, "temp-"));
});
afterEach(async () => {
  for (const runner of runners.splice(0)) runner.dispose();
  // Whatever happened in a test, nothing may be left.
  await eventually(async () => (await readdir(tempRoot)).length === 0);
});

function start(options: Partial<CreateRunnerOptions> = {}): Runner {
  const runner = createRunner({ provider: "cpu", entry, timeoutMs: 30_000, tempRoot, ...options });
  runners.push(runner);
  return runner;
}

/** A child of the test's own in place of the real one. */
async function childThat(does: string): Promise<string> {
  const file = path.join(folder, `child-${Math.random().toString(36).slice(2)}.mjs`);
  await writeFile(file, does);
  return file;
}

async function eventually(check: () => Promise<boolean> | boolean): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await check()) return;
    await sleep(25);
  }
  throw new Error(`it did not happen: ${check.toString()}`);
}

const never = new AbortController().signal;
const one = (op: string, more: Partial<SmallNode> = {}) =>
  serialise(
    smallModel({
      inputs: { x: ["float32", [2]] },
      nodes: [{ op, in: ["x"], out: ["y"], name: "the node", ...more }],
      outputs: ["y"],
    }),
  );
const neg = one("Neg");
const x = floats([2], [1, -2]);
const minusX = floats([2], [-1, 2]);

/** Counts to 10^12: it does not come back. */
const endless = serialise(
  smallModel({
    inputs: { x: ["float32", [2]] },
    initializers: {
      times: { dtype: "int64", shape: [], bytes: new Uint8Array(BigInt64Array.of(10n ** 12n).buffer) },
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

async function failure(run: Promise<unknown>): Promise<RunnerFailure> {
  const error: unknown = await run.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(RunnerFailure);
  expect((error as RunnerFailure).nextStep).not.toBe("");
  return error as RunnerFailure;
}

describe("an evaluation", () => {
  it("gives the outputs, says what ran it, and keeps the child warm", async () => {
    const runner = start();
    expect(runner.pid).toBeUndefined();
    expect(runner.name).toBe("onnxruntime-node 1.30.0");
    expect(runner.provider).toBe("cpu");
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
    const { pid } = runner;
    expect(pid).toBeGreaterThan(0);
    // The same model again, another one, and the first once more.
    expect(await runner.evaluate(neg, { x: minusX }, ["y"], never)).toEqual({ y: x });
    expect(await runner.evaluate(one("Abs"), { x }, ["y"], never)).toEqual({ y: floats([2], [1, 2]) });
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
    expect(runner.pid).toBe(pid);
  });

  it("keeps every bit of every element type", async () => {
    const runner = start();
    const bytes: [DType, number[], ArrayBuffer][] = [
      ["float64", [1], Float64Array.of(0.1).buffer],
      ["float32", [4], Uint32Array.of(0x7fc12345, 0x80000000, 0xff800000, 1).buffer],
      ["float16", [2], Uint16Array.of(0x3c01, 0x8000).buffer],
      ["bfloat16", [3], Uint16Array.of(0x3f81, 0x8000, 0x7f80).buffer],
      ["int64", [2], BigInt64Array.of(-1n, 2n ** 62n + 1n).buffer],
      ["uint64", [1], BigUint64Array.of(2n ** 64n - 1n).buffer],
      ["int32", [], Int32Array.of(-7).buffer],
      ["uint32", [1, 1], Uint32Array.of(2 ** 32 - 1).buffer],
      ["int16", [1], Int16Array.of(-300).buffer],
      ["uint16", [1], Uint16Array.of(65535).buffer],
      ["int8", [2], Int8Array.of(-1, 5).buffer],
      ["uint8", [2], Uint8Array.of(255, 5).buffer],
      ["bool", [3], Uint8Array.of(1, 0, 1).buffer],
      ["float32", [0, 3], new ArrayBuffer(0)],
    ];
    for (const [dtype, shape, buffer] of bytes) {
      const value: TensorValue = { dtype, shape, bytes: new Uint8Array(buffer) };
      const model = smallModel({
        inputs: { x: [dtype, shape] },
        nodes: [{ op: "Identity", in: ["x"], out: ["y"] }],
        outputs: ["y"],
      });
      const { y } = await runner.evaluate(serialise(model), { x: value }, ["y"], never);
      expect([y?.dtype, y?.shape], dtype).toEqual([dtype, shape]);
      expect(Buffer.from(y?.bytes ?? []), dtype).toEqual(Buffer.from(value.bytes));
    }
  });

  it("hands over bfloat16 that the model makes inside, beside other types", async () => {
    const to = (type: TensorProto_DataType) => ({ to: BigInt(type) });
    const model = smallModel({
      inputs: { x: ["float32", [2]] },
      initializers: { w: floats([1], [1.5], "bfloat16") },
      nodes: [
        { op: "Cast", in: ["x"], out: ["narrow"], attributes: to(TensorProto_DataType.BFLOAT16) },
        { op: "Cast", in: ["narrow"], out: ["wide"], attributes: to(TensorProto_DataType.FLOAT) },
        { op: "Neg", in: ["wide"], out: ["y"] },
      ],
      outputs: ["narrow", "w", "y"],
    });
    const values = await start().evaluate(serialise(model), { x: floats([2], [1.0001, 3]) }, ["narrow", "w", "y"], never);
    expect(values).toEqual({
      narrow: floats([2], [1, 3], "bfloat16"),
      w: floats([1], [1.5], "bfloat16"),
      y: floats([2], [-1, -3]),
    });
  });

  it("gives only the outputs that were asked for", async () => {
    const model = smallModel({
      inputs: { x: ["float32", [2]] },
      nodes: [
        { op: "Neg", in: ["x"], out: ["a"] },
        { op: "Abs", in: ["a"], out: ["b"] },
      ],
      outputs: ["a", "b"],
    });
    expect(Object.keys(await start().evaluate(serialise(model), { x }, ["b"], never))).toEqual(["b"]);
  });

  it("waits for the one before it", async () => {
    const runner = start();
    const order: number[] = [];
    const results = await Promise.all(
      [1, 2, 3, 4].map(async (n) => {
        const value = await runner.evaluate(neg, { x: floats([2], [n, n]) }, ["y"], never);
        order.push(n);
        return value["y"];
      }),
    );
    expect(order).toEqual([1, 2, 3, 4]);
    expect(results).toEqual([1, 2, 3, 4].map((n) => floats([2], [-n, -n])));
  });

  it("leaves no file behind, and no folder after the end", async () => {
    const runner = start();
    await runner.evaluate(neg, { x }, ["y"], never);
    const [own] = await readdir(tempRoot);
    expect(await readdir(path.join(tempRoot, own as string))).toEqual([]);
    await failure(runner.evaluate(one("NoSuchOp"), { x }, ["y"], never));
    expect(await readdir(path.join(tempRoot, own as string))).toEqual([]);
    runner.dispose();
    expect(await readdir(tempRoot)).toEqual([]);
    await expect(runner.evaluate(neg, { x }, ["y"], never)).rejects.toThrow("disposed");
  });

  it("keeps as many sessions as it may, and makes the others anew", async () => {
    const runner = start();
    const models = Array.from({ length: 35 }, (_, i) => one("Neg", { name: `n${i}` }));
    for (const model of [...models, ...models.slice(0, 3)]) {
      expect(await runner.evaluate(model, { x }, ["y"], never)).toEqual({ y: minusX });
    }
  });

  it("computes the same with and without graph optimisation, and with one thread", async () => {
    const options = [{ graphOptimizationLevel: "all" as const }, { intraOpNumThreads: 1 }, {}];
    const values = await Promise.all(
      options.map((more) => start(more).evaluate(one("Tanh"), { x }, ["y"], never)),
    );
    expect(values[1]).toEqual(values[0]);
    expect(values[2]).toEqual(values[0]);
  });
});

describe("what ONNX Runtime refuses", () => {
  const cases: [string, Uint8Array, Record<string, TensorValue>, string[], string, RegExp, string?][] = [
    ["an op that nobody knows", one("NoSuchOp"), { x }, ["y"], "operator-missing", /no implementation of NoSuchOp/, "NoSuchOp"],
    ["an op of an unknown domain", one("Thing", { domain: "hstu_parity.unsupported" }), { x }, ["y"], "operator-missing", /no implementation of Thing/, "Thing"],
    ["a type that an op has no kernel for", serialise(smallModel({ inputs: { x: ["float64", [2]] }, nodes: [{ op: "Erf", in: ["x"], out: ["y"], name: "the node" }], outputs: ["y"] })), { x: floats([2], [1, 2], "float64") }, ["y"], "operator-missing", /no implementation of Erf \(node "the node"\)/, "Erf"],
    ["what is not ONNX", Buffer.from("hello"), { x }, ["y"], "model-refused", /ONNX Runtime refuses the model/],
    ["half a model", neg.subarray(0, neg.length / 2), { x }, ["y"], "model-refused", /ONNX Runtime refuses the model/],
    ["an attribute that is no such", one("Neg", { attributes: { nonsense: 1n } }), { x }, ["y"], "model-refused", /nonsense/],
    ["an output that is not there", neg, { x }, ["z"], "model-refused", /no output "z"/],
    ["a missing input", neg, {}, ["y"], "bad-feeds", /"x" is missing/],
    ["an input too many", neg, { x, q: x }, ["y"], "bad-feeds", /no input "q"/],
    ["a wrong size", neg, { x: floats([3], [1, 2, 3]) }, ["y"], "bad-feeds", /"x" takes float32 \[2\], not float32 \[3\]/],
    ["a wrong rank", neg, { x: floats([2, 1], [1, 2]) }, ["y"], "bad-feeds", /not float32 \[2, 1\]/],
    ["a wrong type", neg, { x: floats([2], [1, 2], "float64") }, ["y"], "bad-feeds", /not float64 \[2\]/],
    [
      "shapes that do not fit when it runs",
      serialise(smallModel({ inputs: { x: ["float32", ["n"]], z: ["float32", ["m"]] }, nodes: [{ op: "Add", in: ["x", "z"], out: ["y"], name: "the node" }], outputs: ["y"] })),
      { x, z: floats([3], [1, 2, 3]) },
      ["y"],
      "model-refused",
      /Add "the node" cannot be computed on these inputs/,
      "Add",
    ],
  ];
  it.each(cases)("is told in the user's terms: %s", async (_, model, feeds, outputs, code, message, op) => {
    const runner = start();
    const error = await failure(runner.evaluate(model, feeds, outputs, never));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain(tempRoot);
    expect(error.op).toBe(op);
    // It costs nothing but this evaluation.
    const { pid } = runner;
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
    expect(runner.pid).toBe(pid);
  });

  it("does not take another provider for the one that was asked for", async () => {
    const error = await failure(start({ provider: "tensorrt" }).evaluate(neg, { x }, ["y"], never));
    expect(error.code).toBe("provider-unavailable");
    expect(error.message).toContain("tensorrt");
    const auto = start({ provider: "auto" });
    expect(auto.provider).toBe("cpu");
    expect(await auto.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
  });
});

describe("a child that dies", () => {
  it("costs the evaluation that it was at, and the next one has another child", async () => {
    const runner = start();
    await runner.evaluate(neg, { x }, ["y"], never);
    const { pid } = runner;
    const running = failure(runner.evaluate(endless, { x }, ["y"], never));
    await sleep(150);
    process.kill(pid as number, "SIGSEGV");
    const error = await running;
    expect(error.code).toBe("runner-crashed");
    expect(error.message).toContain("SIGSEGV");
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
    expect(runner.pid).not.toBe(pid);
    await eventually(async () => (await readdir(tempRoot)).length === 1);
  });

  it("costs nothing while it waits for work", async () => {
    const runner = start();
    await runner.evaluate(neg, { x }, ["y"], never);
    process.kill(runner.pid as number, "SIGKILL");
    await eventually(() => runner.pid === undefined);
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
  });

  it("leaves its last words", async () => {
    const aborting = await childThat(
      `process.on("message", () => { process.stderr.write("a".repeat(9000) + "\\nfree(): invalid pointer\\n", () => process.abort()); });`,
    );
    const error = await failure(start({ entry: aborting }).evaluate(neg, { x }, ["y"], never));
    expect(error.code).toBe("runner-crashed");
    expect(error.message).toMatch(/SIGABRT; its last words: free\(\): invalid pointer$/);
    expect(error.lastWords).toMatch(/^a+\nfree\(\): invalid pointer$/);
    expect(error.lastWords.length).toBeLessThanOrEqual(4096);
  });

  it("may end by itself, or never have begun", async () => {
    const exiting = await childThat(`process.on("message", () => process.exit(3));`);
    expect((await failure(start({ entry: exiting }).evaluate(neg, { x }, ["y"], never))).message).toContain("exit code 3");
    const missing = path.join(folder, "missing.mjs");
    const error = await failure(start({ entry: missing }).evaluate(neg, { x }, ["y"], never));
    expect(error.code).toBe("runner-crashed");
    expect(error.lastWords).toContain("missing.mjs");
  });

  it("is not waited for when something that it started holds its output open", async () => {
    const leaving = await childThat(
      `import { spawn } from "node:child_process";
       process.on("message", () => { spawn("sleep", ["5"], { stdio: ["ignore", "ignore", "inherit"], detached: true }).unref(); setTimeout(() => process.exit(4), 50); });`,
    );
    const started = performance.now();
    const error = await failure(start({ entry: leaving }).evaluate(neg, { x }, ["y"], never));
    expect(error.message).toContain("exit code 4");
    expect(performance.now() - started).toBeLessThan(4000);
  });
});

describe("a child that never answers", () => {
  it("is ended when its time is over", async () => {
    const silent = await childThat(`process.on("message", () => {}); console.error("thinking");`);
    const runner = start({ entry: silent, timeoutMs: 400 });
    const error = await failure(runner.evaluate(neg, { x }, ["y"], never));
    expect(error.code).toBe("runner-timeout");
    expect(error.message).toContain("0.4 s");
    expect(error.lastWords).toBe("thinking");
    expect(runner.pid).toBeUndefined();
  });

  it("is ended in the middle of a computation too, and the next evaluation runs", async () => {
    const runner = start({ timeoutMs: 1500 });
    expect((await failure(runner.evaluate(endless, { x }, ["y"], never))).code).toBe("runner-timeout");
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
  });
});

describe("a cancel", () => {
  const reason = new Error("the user has had enough");

  it("before the start starts nothing", async () => {
    const runner = start();
    await expect(runner.evaluate(neg, { x }, ["y"], AbortSignal.abort(reason))).rejects.toBe(reason);
    expect(runner.pid).toBeUndefined();
    expect(await readdir(tempRoot)).toEqual([]);
  });

  it.each([0, 1, 5, 20, 60, 120, 250, 500])("after %i ms ends the child at once", async (ms) => {
    const runner = start();
    const controller = new AbortController();
    const running = expect(runner.evaluate(endless, { x }, ["y"], controller.signal)).rejects.toBe(reason);
    await sleep(ms);
    const { pid } = runner;
    const cancelled = performance.now();
    controller.abort(reason);
    await running;
    expect(performance.now() - cancelled).toBeLessThan(200);
    if (ms >= 60 && pid !== undefined) await eventually(() => !isAlive(pid));
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
  });

  it("of one that waits for its turn leaves the others alone", async () => {
    const runner = start();
    const controller = new AbortController();
    const first = runner.evaluate(neg, { x }, ["y"], never);
    const second = runner.evaluate(endless, { x }, ["y"], controller.signal);
    const third = runner.evaluate(neg, { x: minusX }, ["y"], never);
    controller.abort(reason);
    await expect(second).rejects.toBe(reason);
    const { pid } = runner;
    expect(await first).toEqual({ y: minusX });
    expect(await third).toEqual({ y: x });
    expect(runner.pid).toBe(pid);
  });

  it("of the one that runs lets the next one run", async () => {
    const runner = start();
    const controller = new AbortController();
    const first = runner.evaluate(endless, { x }, ["y"], controller.signal);
    const second = runner.evaluate(neg, { x }, ["y"], never);
    await sleep(200);
    controller.abort(reason);
    await expect(first).rejects.toBe(reason);
    expect(await second).toEqual({ y: minusX });
  });
});

describe("the end", () => {
  it("of the runner ends what runs", async () => {
    const runner = start();
    const running = failure(runner.evaluate(endless, { x }, ["y"], never));
    await sleep(150);
    const { pid } = runner;
    runner.dispose();
    expect((await running).message).toContain("shut down");
    await eventually(() => !isAlive(pid as number));
  });

  /** A program that evaluates once, says so, and then does what the test asks. */
  async function host(then: string) {
    const file = path.join(folder, `host-${Math.random().toString(36).slice(2)}`);
    await mkdir(file);
    await writeFile(path.join(file, "model.onnx"), neg);
    await build({
      absWorkingDir: root,
      stdin: {
        contents: `
          import { readFileSync } from "node:fs";
          import { createRunner } from "./engine/runner/supervisor.ts";
          const runner = createRunner({ provider: "cpu", entry: ${JSON.stringify(entry)}, timeoutMs: 30000, tempRoot: ${JSON.stringify(tempRoot)} });
          const x = { dtype: "float32", shape: [2], bytes: new Uint8Array(8) };
          const model = readFileSync(${JSON.stringify(path.join(file, "model.onnx"))});
          await runner.evaluate(model, { x }, ["y"], new AbortController().signal);
          process.send({ pid: runner.pid });
          process.channel.unref();
          ${then}`,
        resolveDir: root,
        loader: "ts",
      },
      outfile: path.join(file, "host.mjs"),
      bundle: true,
      platform: "node",
      format: "esm",
      logLevel: "error",
    });
    const child = fork(path.join(file, "host.mjs"), { execArgv: [], stdio: ["ignore", "ignore", "inherit", "ipc"] });
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    const { pid } = await new Promise<{ pid: number }>((resolve) => child.once("message", (m) => resolve(m as { pid: number })));
    return { child, ended, runnerPid: pid };
  }

  it("of the host needs no dispose: a waiting child does not hold it up, and nothing is left", async () => {
    const { ended, runnerPid } = await host("");
    expect(await ended).toBe(0);
    await eventually(() => !isAlive(runnerPid));
    expect(await readdir(tempRoot)).toEqual([]);
  });

  it("of the host by process.exit leaves nothing", async () => {
    const { ended, runnerPid } = await host("process.exit(5);");
    expect(await ended).toBe(5);
    await eventually(() => !isAlive(runnerPid));
    expect(await readdir(tempRoot)).toEqual([]);
  });

  it("of the host by SIGKILL ends the child, which cleans up", async () => {
    const { child, ended, runnerPid } = await host("setInterval(() => {}, 1000);");
    expect(await readdir(tempRoot)).toHaveLength(1);
    child.kill("SIGKILL");
    await ended;
    await eventually(() => !isAlive(runnerPid));
    expect(await readdir(tempRoot)).toEqual([]);
  });
});

describe("the child's environment", () => {
  const echo = `process.on("message", ({ job }) => process.send({ type: "failed", job, held: [], code: "model-refused", nextStep: "-", message: JSON.stringify([process.env.ORT_DISABLE_TELEMETRY, process.env.EXTRA, process.execArgv, JSON.parse(process.argv[2]).graphOptimizationLevel]) }));`;

  it("has no telemetry, what the caller adds, and not the host's debugger", async () => {
    const runner = start({ entry: await childThat(echo), env: { EXTRA: "yes" } });
    const { message } = await failure(runner.evaluate(neg, { x }, ["y"], never));
    expect(JSON.parse(message)).toEqual(["1", "yes", [], "disabled"]);
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
