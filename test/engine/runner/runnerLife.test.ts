import { fork } from "node:child_process";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "esbuild";
import { describe, expect, it } from "vitest";
import { root } from "../../support/bundleRunner.js";
import {
  endless,
  eventually,
  failure,
  isAlive,
  minusX,
  neg,
  never,
  runnerHarness,
  x,
} from "./runnerHarness.js";

const harness = runnerHarness();

describe("a child that dies", () => {
  it("costs the evaluation that it was at, and the next one has another child", async () => {
    const runner = harness.start();
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
    await eventually(async () => (await readdir(harness.tempRoot)).length === 1);
  });

  it("costs nothing while it waits for work", async () => {
    const runner = harness.start();
    await runner.evaluate(neg, { x }, ["y"], never);
    process.kill(runner.pid as number, "SIGKILL");
    await eventually(() => runner.pid === undefined);
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
  });

  it("leaves its last words", async () => {
    const aborting = await harness.childThat(
      `process.on("message", () => { process.stderr.write("a".repeat(9000) + "\\nfree(): invalid pointer\\n", () => process.abort()); });`,
    );
    const error = await failure(
      harness.start({ entry: aborting }).evaluate(neg, { x }, ["y"], never),
    );
    expect(error.code).toBe("runner-crashed");
    expect(error.message).toMatch(/SIGABRT; its last words: free\(\): invalid pointer$/);
    expect(error.lastWords).toContain("aaaa\nfree(): invalid pointer");
    expect(error.lastWords.length).toBeLessThanOrEqual(4096);
  });

  it("may end by itself, or never have begun", async () => {
    const exiting = await harness.childThat(`process.on("message", () => process.exit(3));`);
    expect(
      (await failure(harness.start({ entry: exiting }).evaluate(neg, { x }, ["y"], never))).message,
    ).toContain("exit code 3");
    const missing = path.join(harness.folder, "missing.mjs");
    const error = await failure(
      harness.start({ entry: missing }).evaluate(neg, { x }, ["y"], never),
    );
    expect(error.code).toBe("runner-crashed");
    expect(error.lastWords).toContain("missing.mjs");
  });

  it("is not waited for when something that it started holds its output open", async () => {
    const leaving = await harness.childThat(
      `import { spawn } from "node:child_process";
       process.on("message", () => { spawn(process.execPath, ["-e", "setTimeout(() => {}, 5000)"], { stdio: ["ignore", "ignore", "inherit"], detached: true }).unref(); setTimeout(() => process.exit(4), 50); });`,
    );
    const started = performance.now();
    const error = await failure(
      harness.start({ entry: leaving }).evaluate(neg, { x }, ["y"], never),
    );
    expect(error.message).toContain("exit code 4");
    expect(performance.now() - started).toBeLessThan(4000);
  });
});

describe("a child that never answers", () => {
  it("is ended when its time is over", async () => {
    const silent = await harness.childThat(
      `process.on("message", () => console.error("thinking"));`,
    );
    const runner = harness.start({ entry: silent, timeoutMs: 1200 });
    const error = await failure(runner.evaluate(neg, { x }, ["y"], never));
    expect(error.code).toBe("runner-timeout");
    expect(error.message).toContain("1.2 s");
    expect(error.lastWords).toBe("thinking");
    expect(runner.pid).toBeUndefined();
  });

  it("is ended in the middle of a computation too, and the next evaluation runs", async () => {
    const runner = harness.start({ timeoutMs: 1500 });
    expect((await failure(runner.evaluate(endless, { x }, ["y"], never))).code).toBe(
      "runner-timeout",
    );
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
  });
});

describe("a cancel", () => {
  const reason = new Error("the user has had enough");

  it("before the start starts nothing", async () => {
    const runner = harness.start();
    await expect(runner.evaluate(neg, { x }, ["y"], AbortSignal.abort(reason))).rejects.toBe(
      reason,
    );
    expect(runner.pid).toBeUndefined();
    expect(await readdir(harness.tempRoot)).toEqual([]);
  });

  it.each([0, 1, 5, 20, 60, 120, 250, 500])("after %i ms ends the child at once", async (ms) => {
    const runner = harness.start();
    const controller = new AbortController();
    const running = expect(runner.evaluate(endless, { x }, ["y"], controller.signal)).rejects.toBe(
      reason,
    );
    await sleep(ms);
    const { pid } = runner;
    const cancelled = performance.now();
    controller.abort(reason);
    await running;
    expect(performance.now() - cancelled).toBeLessThan(200);
    // A child that had not got the request yet may live on; one that had it is dead.
    if (pid !== undefined && runner.pid === undefined) await eventually(() => !isAlive(pid));
    expect(await runner.evaluate(neg, { x }, ["y"], never)).toEqual({ y: minusX });
  });

  it("of one that waits for its turn leaves the others alone", async () => {
    const runner = harness.start();
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
    const runner = harness.start();
    const controller = new AbortController();
    const first = runner.evaluate(endless, { x }, ["y"], controller.signal);
    const second = runner.evaluate(neg, { x }, ["y"], never);
    await sleep(200);
    controller.abort(reason);
    await expect(first).rejects.toBe(reason);
    expect(await second).toEqual({ y: minusX });
  });
});

describe("the line", () => {
  /** Says how many evaluations the child has at once, after a while. */
  const counting = `let active = 0; process.on("message", ({ job }) => { const message = String(++active); setTimeout(() => { active--; process.send({ type: "failed", job, held: [], code: "model-refused", nextStep: "-", message }); }, 150); });`;

  it("lets one evaluation in at a time, also when one in between gives up", async () => {
    const runner = harness.start({ entry: await harness.childThat(counting) });
    const controller = new AbortController();
    const evaluate = (signal = never) => runner.evaluate(neg, { x }, ["y"], signal);
    const first = failure(evaluate());
    const second = expect(evaluate(controller.signal)).rejects.toThrow("enough");
    const third = failure(evaluate());
    const fourth = failure(evaluate());
    controller.abort(new Error("enough"));
    await second;
    const errors = await Promise.all([first, third, fourth]);
    expect(errors.map(({ message }) => message)).toEqual(["1", "1", "1"]);
  });
});

describe("the end", () => {
  it("of the runner ends what runs", async () => {
    const runner = harness.start();
    const running = failure(runner.evaluate(endless, { x }, ["y"], never));
    await sleep(150);
    const { pid } = runner;
    runner.dispose();
    expect((await running).message).toContain("shut down");
    await eventually(() => !isAlive(pid as number));
  });

  /** A program that evaluates once, says so, and then does what the test asks. */
  async function host(then: string) {
    const file = path.join(harness.folder, `host-${Math.random().toString(36).slice(2)}`);
    await mkdir(file);
    await writeFile(path.join(file, "model.onnx"), neg);
    await build({
      absWorkingDir: root,
      stdin: {
        contents: `
          import { readFileSync } from "node:fs";
          import { createRunner } from "./engine/runner/supervisor.ts";
          const runner = createRunner({ provider: "cpu", entry: ${JSON.stringify(harness.entry)}, timeoutMs: 30000, tempRoot: ${JSON.stringify(harness.tempRoot)} });
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
    const child = fork(path.join(file, "host.mjs"), {
      execArgv: [],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    const { pid } = await new Promise<{ pid: number }>((resolve) =>
      child.once("message", (m) => resolve(m as { pid: number })),
    );
    return { child, ended, runnerPid: pid };
  }

  it("of the host needs no dispose: a waiting child does not hold it up, and nothing is left", async () => {
    const { ended, runnerPid } = await host("");
    expect(await ended).toBe(0);
    await eventually(() => !isAlive(runnerPid));
    expect(await readdir(harness.tempRoot)).toEqual([]);
  });

  it("of the host by process.exit leaves nothing", async () => {
    const { ended, runnerPid } = await host("process.exit(5);");
    expect(await ended).toBe(5);
    await eventually(() => !isAlive(runnerPid));
    expect(await readdir(harness.tempRoot)).toEqual([]);
  });

  it("of the host by SIGKILL ends the child, which cleans up", async () => {
    const { child, ended, runnerPid } = await host("setInterval(() => {}, 1000);");
    expect(await readdir(harness.tempRoot)).toHaveLength(1);
    child.kill("SIGKILL");
    await ended;
    await eventually(() => !isAlive(runnerPid));
    expect(await readdir(harness.tempRoot)).toEqual([]);
  });
});

describe("the child's environment", () => {
  const echo = `process.on("message", ({ job }) => process.send({ type: "failed", job, held: [], code: "model-refused", nextStep: "-", message: JSON.stringify([process.env.ORT_DISABLE_TELEMETRY, process.env.EXTRA, process.execArgv, JSON.parse(process.argv[2]).graphOptimizationLevel]) }));`;

  it("has no telemetry, what the caller adds, and not the host's debugger", async () => {
    const runner = harness.start({ entry: await harness.childThat(echo), env: { EXTRA: "yes" } });
    const { message } = await failure(runner.evaluate(neg, { x }, ["y"], never));
    expect(JSON.parse(message)).toEqual(["1", "yes", [], "disabled"]);
  });
});
