import { fork } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "esbuild";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  createTorchExecutor,
  type CreateTorchExecutorOptions,
  type TorchEvaluation,
  type TorchExecutor,
} from "../../engine/capture/torchExecutor.js";
import { toFloat64 } from "../../engine/core/dtypes.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { TraceFile } from "../../engine/protocol/trace.js";
import { writeSafetensors } from "../../engine/trace/safetensors.js";
import { root } from "../support/bundleRunner.js";
import { floats } from "../support/onnxModel.js";
import { eventually, failure, isAlive, never } from "./runner/runnerHarness.js";

const python = path.join(root, ".venv", "bin", "python");
const agentFolder = path.join(root, "engine", "capture");

let folder: string;
let tempRoot: string;
let small: string;
let endless: string;
const executors: TorchExecutor[] = [];
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-torch-executor-"));
  small = await writeTrace("small", [
    { kind: "torch.Tensor.mul", inputs: [0, 1], outputs: [2], operands: ["self", "other"] },
    { kind: "torch.neg", inputs: [2], outputs: [3], operands: ["self"] },
    {
      kind: "torch.nn.functional.dropout",
      inputs: [3],
      outputs: [4],
      operands: ["input"],
      p: 0.5,
      training: true,
    },
  ]);
  endless = await writeTrace("endless", [
    { kind: "torch.Tensor.repeat", inputs: [0], outputs: [2], operands: ["self"], repeats: [1] },
    {
      kind: "torch.Tensor.expand",
      inputs: [2],
      outputs: [3],
      operands: ["self"],
      size: [2 ** 38, 2],
    },
    { kind: "torch.sum", inputs: [3], outputs: [4], operands: ["input"] },
  ]);
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(async () => {
  tempRoot = await mkdtemp(path.join(folder, "temp-"));
});
afterEach(async () => {
  for (const executor of executors.splice(0)) executor.dispose();
  await eventually(async () => (await readdir(tempRoot)).length === 0);
});

function start(options: Partial<CreateTorchExecutorOptions> = {}): TorchExecutor {
  const executor = createTorchExecutor({
    python,
    agentFolder,
    timeoutMs: 60_000,
    tempRoot,
    ...options,
  });
  executors.push(executor);
  return executor;
}

function asking(trace: string, outputs: string[], more: Partial<TorchEvaluation> = {}) {
  const none = new Map<string, never>();
  return { trace, outputs, replace: none, correct: none, parameters: none, double: false, ...more };
}

/** Tensors 0 (input) and 1 (parameter) are [1, 2] and [3, 5]; each op's attributes beside its places. */
async function writeTrace(
  name: string,
  ops: { kind: string; inputs: number[]; outputs: number[]; [attribute: string]: unknown }[],
): Promise<string> {
  const values = {
    0: floats([2], [1, 2]),
    1: floats([2], [3, 5]),
    2: floats([2], [3, 10]),
    3: floats([2], [-3, -10]),
    4: floats([2], [-6, 0]),
  };
  const trace: TraceFile = {
    formatVersion: 1,
    label: name,
    framework: "torch",
    ranOn: {
      executor: "torch",
      provider: "cpu",
      device: "cpu",
      precision: "float32",
      versions: {},
      standIns: [],
      emulated: [],
      threads: 1,
    },
    tensorsFile: `${name}.safetensors`,
    sources: [],
    frames: [],
    ops: ops.map(({ kind, inputs, outputs, ...attributes }, id) => ({
      ...{ id, kind, inputs, outputs, attributes, stack: [], instance: "" },
    })),
    tensors: Object.keys(values).map((key) => ({
      ...{ id: Number(key), names: [], dtype: "float32" as const, shape: [2], key },
    })),
    parameters: [{ name: "weight", tensor: 1 }],
    inputs: [{ name: "x", tensor: 0 }],
    outputs: [{ name: "output", tensor: 4 }],
  };
  await writeSafetensors(path.join(folder, `${name}.safetensors`), values);
  await writeFile(path.join(folder, `${name}.trace.json`), JSON.stringify(trace));
  return path.join(folder, `${name}.trace.json`);
}

/** An agent of the test's own in place of the real one. */
async function agentThat(does: string): Promise<string> {
  const agent = await mkdtemp(path.join(folder, "agent-"));
  await mkdir(path.join(agent, "hstu_capture"));
  await writeFile(path.join(agent, "hstu_capture", "__init__.py"), "");
  await writeFile(
    path.join(agent, "hstu_capture", "torch_replay.py"),
    `import json, os, subprocess, sys, time\nrequests, replies = os.fdopen(3), os.fdopen(4, "w")\n${does}\n`,
  );
  return agent;
}

describe("an evaluation in torch", () => {
  it("gives the recorded values again, says what ran it, and keeps the child warm", async () => {
    const executor = start();
    expect([executor.name, executor.pid]).toEqual(["torch", undefined]);
    const first = await executor.evaluate(asking(small, ["2", "3", "0"]), never);
    expect(first.values).toEqual(
      new Map([
        ["2", floats([2], [3, 10])],
        ["3", floats([2], [-3, -10])],
        ["0", floats([2], [1, 2])],
      ]),
    );
    expect(first.unavailable.size).toBe(0);
    expect(executor.name).toMatch(/^torch 2\.\d+/);
    const { pid } = executor;
    expect(pid).toBeGreaterThan(0);
    await executor.evaluate(asking(small, ["3"]), never);
    expect(executor.pid).toBe(pid);
    const [own] = await readdir(tempRoot);
    expect(await readdir(path.join(tempRoot, own as string))).toEqual([]);
  });

  it("replaces, corrects, takes other parameters and computes in float64", async () => {
    const executor = start();
    const outputs = ["2", "3"];
    const values = async (more: Partial<TorchEvaluation>) =>
      Object.fromEntries((await executor.evaluate(asking(small, outputs, more), never)).values);
    const given = (tensor: string, ...numbers: number[]) =>
      new Map([[tensor, floats([2], numbers)]]);
    expect(await values({ replace: given("2", 7, 8) })).toEqual({
      2: floats([2], [3, 10]),
      3: floats([2], [-7, -8]),
    });
    expect(await values({ correct: given("2", 1, -1) })).toEqual({
      2: floats([2], [3, 10]),
      3: floats([2], [-4, -9]),
    });
    expect(await values({ parameters: given("1", 0, 1) })).toEqual({
      2: floats([2], [0, 2]),
      3: floats([2], [-0, -2]),
    });
    expect(await values({ double: true })).toEqual({
      2: floats([2], [3, 10], "float64"),
      3: floats([2], [-3, -10], "float64"),
    });
  });

  it("says which values cannot be computed, and why", async () => {
    const replace = new Map([["0", floats([2], [7, 8])]]);
    const { values, unavailable } = await start().evaluate(
      asking(small, ["3", "4"], { replace }),
      never,
    );
    expect([...values.keys()]).toEqual(["3"]);
    expect(unavailable.get("4")).toContain("dropout is random");
  });

  it("feeds one operand of one op, and nothing else that reads the tensor", async () => {
    const operands = [{ reader: "3", position: 0, value: floats([2], [5, 6]) }];
    const { values } = await start().evaluate(asking(small, ["2", "3"], { operands }), never);
    expect(["2", "3"].map((key) => [...toFloat64(values.get(key) as TensorValue)])).toEqual([
      [3, 10],
      [-5, -6],
    ]);
  });

  it("refuses what does not fit in words, and goes on", async () => {
    const executor = start();
    const correct = new Map([["2", floats([3], [7, 8, 9])]]);
    const shape = await failure(executor.evaluate(asking(small, ["3"], { correct }), never));
    expect([shape.code, shape.message]).toEqual(["bad-feeds", expect.stringContaining("[3]")]);
    const { pid } = executor;
    const missing = path.join(folder, "missing.trace.json");
    expect((await failure(executor.evaluate(asking(missing, ["3"]), never))).code).toBe(
      "model-refused",
    );
    expect((await executor.evaluate(asking(small, ["3"]), never)).values.size).toBe(1);
    expect(executor.pid).toBe(pid);
  });

  it("waits for the one before it", async () => {
    const executor = start();
    const order: number[] = [];
    await Promise.all(
      [1, 2, 3].map(async (n) => {
        const parameters = new Map([["1", floats([2], [n, n])]]);
        const { values } = await executor.evaluate(asking(small, ["2"], { parameters }), never);
        expect(values.get("2")).toEqual(floats([2], [n, 2 * n]));
        order.push(n);
      }),
    );
    expect(order).toEqual([1, 2, 3]);
  });
});

describe("an interpreter that cannot do it", () => {
  it("has no torch", async () => {
    const agent = path.join(folder, "no-torch");
    await mkdir(agent);
    const hiding = `raise ModuleNotFoundError("No module named 'torch'")\n`;
    await writeFile(path.join(agent, "torch.py"), hiding);
    // The real agent, behind a torch that says that it is not there.
    await writeFile(
      path.join(agent, "hstu_capture.py"),
      `__path__ = [${JSON.stringify(path.join(agentFolder, "hstu_capture"))}]\n__version__ = "0"\n`,
    );
    const error = await failure(
      start({ agentFolder: agent }).evaluate(asking(small, ["3"]), never),
    );
    expect(error.code).toBe("provider-unavailable");
    expect(error.message).toBe(`${python} has no torch`);
    expect(error.nextStep).toContain(`${python} -m pip install torch`);
  });

  it("is not there at all", async () => {
    const missing = path.join(folder, "no-python");
    const executor = start({ python: missing });
    const error = await failure(executor.evaluate(asking(small, ["3"]), never));
    expect(error.code).toBe("provider-unavailable");
    expect(error.message).toContain(missing);
    expect(executor.pid).toBeUndefined();
  });
});

describe("a child that dies", () => {
  it("costs the evaluation that it was at, and the next one has another child", async () => {
    const executor = start();
    await executor.evaluate(asking(small, ["3"]), never);
    const { pid } = executor;
    const running = failure(executor.evaluate(asking(endless, ["4"]), never));
    await sleep(300);
    process.kill(pid as number, "SIGSEGV");
    const error = await running;
    expect([error.code, error.message]).toEqual([
      "runner-crashed",
      expect.stringContaining("SIGSEGV"),
    ]);
    expect((await executor.evaluate(asking(small, ["3"]), never)).values.size).toBe(1);
    expect(executor.pid).not.toBe(pid);
  });

  it("leaves its last words", async () => {
    const agent = await agentThat(
      `requests.readline(); sys.stderr.write("a" * 9000 + "\\nfree(): invalid pointer\\n"); sys.exit(3)`,
    );
    const error = await failure(
      start({ agentFolder: agent }).evaluate(asking(small, ["3"]), never),
    );
    expect(error.message).toMatch(/exit code 3; its last words: free\(\): invalid pointer$/);
    expect(error.lastWords.length).toBeLessThanOrEqual(4096);
  });

  it("ends all that it started when its time is over", async () => {
    const agent = await agentThat(
      `requests.readline(); print(subprocess.Popen(["sleep", "60"]).pid, file=sys.stderr, flush=True); time.sleep(60)`,
    );
    const executor = start({ agentFolder: agent, timeoutMs: 1500 });
    const error = await failure(executor.evaluate(asking(small, ["3"]), never));
    expect([error.code, error.message]).toEqual([
      "runner-timeout",
      expect.stringContaining("1.5 s"),
    ]);
    expect(Number(error.lastWords)).toBeGreaterThan(0);
    await eventually(() => !isAlive(Number(error.lastWords)));
    expect(executor.pid).toBeUndefined();
  });
});

describe("a cancel", () => {
  const reason = new Error("the user has had enough");

  it("before the start starts nothing", async () => {
    const executor = start();
    const aborted = AbortSignal.abort(reason);
    await expect(executor.evaluate(asking(small, ["3"]), aborted)).rejects.toBe(reason);
    expect([executor.pid, await readdir(tempRoot)]).toEqual([undefined, []]);
  });

  it("in the middle ends the child at once, and the next one runs", async () => {
    const executor = start();
    await executor.evaluate(asking(small, ["3"]), never);
    for (const ms of [0, 20, 300]) {
      const controller = new AbortController();
      const running = expect(
        executor.evaluate(asking(endless, ["4"]), controller.signal),
      ).rejects.toBe(reason);
      const next = executor.evaluate(asking(small, ["3"]), never);
      await sleep(ms);
      const { pid } = executor;
      const cancelled = performance.now();
      controller.abort(reason);
      await running;
      expect(performance.now() - cancelled).toBeLessThan(200);
      expect((await next).values.size).toBe(1);
      if (ms === 300) {
        expect(executor.pid).not.toBe(pid);
        await eventually(() => !isAlive(pid as number));
      }
    }
  });

  it("of one that waits for its turn leaves the others alone", async () => {
    const executor = start();
    const controller = new AbortController();
    const first = executor.evaluate(asking(small, ["3"]), never);
    const second = executor.evaluate(asking(endless, ["4"]), controller.signal);
    const third = executor.evaluate(asking(small, ["2"]), never);
    controller.abort(reason);
    await expect(second).rejects.toBe(reason);
    const { pid } = executor;
    expect((await first).values.size + (await third).values.size).toBe(2);
    expect(executor.pid).toBe(pid);
  });
});

describe("the end", () => {
  it("of the executor ends what runs", async () => {
    const executor = start();
    await executor.evaluate(asking(small, ["3"]), never);
    const running = failure(executor.evaluate(asking(endless, ["4"]), never));
    await sleep(200);
    const { pid } = executor;
    executor.dispose();
    expect((await running).message).toContain("shut down");
    await eventually(() => !isAlive(pid as number));
    await expect(executor.evaluate(asking(small, ["3"]), never)).rejects.toThrow("disposed");
  });

  /** A program that evaluates once, says so, starts an endless evaluation if asked to, and then does what the test asks. */
  async function host(then: string) {
    const file = await mkdtemp(path.join(folder, "host-"));
    const options = JSON.stringify({ python, agentFolder, timeoutMs: 60_000, tempRoot });
    await build({
      absWorkingDir: root,
      stdin: {
        contents: `
          import { createTorchExecutor } from "./engine/capture/torchExecutor.ts";
          const executor = createTorchExecutor(${options});
          const none = new Map();
          const evaluate = (trace, output) => executor.evaluate({ trace, outputs: [output], replace: none, correct: none, parameters: none, double: false }, new AbortController().signal);
          await evaluate(${JSON.stringify(small)}, "3");
          const endless = () => void evaluate(${JSON.stringify(endless)}, "4");
          process.send({ pid: executor.pid });
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
    const child = fork(path.join(file, "host.mjs"), {
      execArgv: [],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    const { pid } = await new Promise<{ pid: number }>((resolve) =>
      child.once("message", (m) => resolve(m as { pid: number })),
    );
    return { child, ended, pid };
  }

  it("of the host needs no dispose: a waiting child does not hold it up, and nothing is left", async () => {
    const { ended, pid } = await host("");
    expect(await ended).toBe(0);
    await eventually(() => !isAlive(pid));
    expect(await readdir(tempRoot)).toEqual([]);
  });

  it("of the host by SIGKILL ends the child in the middle of its work, and it cleans up", async () => {
    const { child, ended, pid } = await host("endless(); setInterval(() => {}, 1000);");
    await sleep(300);
    expect(isAlive(pid)).toBe(true);
    expect(await readdir(tempRoot)).toHaveLength(1);
    child.kill("SIGKILL");
    await ended;
    await eventually(() => !isAlive(pid));
    expect(await readdir(tempRoot)).toEqual([]);
  });
});
