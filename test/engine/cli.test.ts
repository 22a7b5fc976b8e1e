import { spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Ajv } from "ajv";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Report } from "../../engine/protocol/report.js";
import reportSchema from "../../engine/protocol/schema/report.schema.json" with { type: "json" };
import { writeSafetensors } from "../../engine/trace/safetensors.js";
import { bundleCli } from "../support/bundleCli.js";
import { root } from "../support/bundleRunner.js";
import { storyModel, type StoryModel } from "../support/storyModel.js";

const samples = path.join(root, "samples/hstu");
let home: string;
let cli: string;
/** The bundle beside a runner that ends itself, and beside one that never answers. */
let crashing: string;
let silent: string;
/** A fresh folder for each test: run files go there, and the tool's temporary files into its `temp`. */
let folder: string;
let temp: string;

beforeAll(async () => {
  home = await mkdtemp(path.join(os.tmpdir(), "cli-test-"));
  cli = await bundleCli(path.join(home, "dist"));
  crashing = await besideRunner("crashing", 'console.error("the kernel broke"); process.abort();');
  silent = await besideRunner("silent", "setInterval(() => undefined, 1000);");
}, 60_000);
afterAll(() => rm(home, { recursive: true, force: true }));
beforeEach(async () => {
  folder = await mkdtemp(path.join(home, "run-"));
  temp = path.join(folder, "temp");
  await mkdir(temp);
});

async function besideRunner(name: string, runner: string): Promise<string> {
  const target = path.join(home, name);
  await mkdir(target);
  await copyFile(cli, path.join(target, "cli.mjs"));
  await writeFile(path.join(target, "runner.mjs"), runner);
  return path.join(target, "cli.mjs");
}

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

interface Started {
  readonly ended: Promise<Ended>;
  kill(signal: NodeJS.Signals): void;
}

function start(args: readonly string[], { entry = cli, cwd = folder } = {}): Started {
  const { FORCE_COLOR: _, ...env } = process.env;
  const child = spawn(process.execPath, [entry, ...args], {
    cwd,
    env: { ...env, TMPDIR: temp, TMP: temp, TEMP: temp },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
  return {
    ended: new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => resolve({ code, stdout, stderr }));
    }),
    kill: (signal) => child.kill(signal),
  };
}

function run(
  args: readonly string[],
  where: { entry?: string; cwd?: string } = {},
): Promise<Ended> {
  return start(["run", ...args], where).ended;
}

async function story(name: string): Promise<Record<string, unknown>> {
  const text = await readFile(path.join(samples, `${name}.parity.json`), "utf8");
  return JSON.parse(text) as Record<string, unknown>;
}

/** A story's run file in the test's folder, with changes. */
async function changed(name: string, change: Record<string, unknown>): Promise<string> {
  const file = path.join(folder, "changed.parity.json");
  const given = await story(name);
  const implementations = Object.fromEntries(
    Object.entries(given["implementations"] as Record<string, Record<string, string>>).map(
      ([id, source]) => [
        id,
        Object.fromEntries(
          Object.entries(source).map(([key, value]) => [
            key,
            key === "label" ? value : path.join(samples, value),
          ]),
        ),
      ],
    ),
  );
  await writeFile(file, JSON.stringify({ ...given, implementations, ...change }));
  return file;
}

const rightPort = path.join(samples, "right-port.parity.json");
const silentBug = path.join(samples, "silent-bug.parity.json");

/** More steps between two compared tensors than a comparison says anything about. */
function longChain(file: string): StoryModel {
  const names = Array.from({ length: 40 }, (_, i) => (i === 39 ? "forward.out" : `${file}:t${i}`));
  return {
    file,
    inputs: { x: [2, 4] },
    parameters: {},
    nodes: names.map((output, i) => ({
      op: "Neg",
      inputs: [names[i - 1] ?? "x"],
      output,
      line: 10 + i,
    })),
    outputs: ["forward.out"],
  };
}

function expectRefusal(ended: Ended, message: RegExp): void {
  expect(ended.stderr).toMatch(message);
  expect(ended.stderr).not.toMatch(/^\s+at .+:\d+:\d+\)?$/m);
  expect(ended.stdout).toBe("");
  expect(ended.code).toBe(2);
}

describe("exit codes", { timeout: 60_000 }, () => {
  it("is 0 for a port that matches, and nothing is left behind", async () => {
    const ended = await run([rightPort]);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(ended.stdout).toMatch(/^PASS · tripy against torch: /);
    expect(await readdir(temp)).toEqual([]);
  });

  it("is 1 for a port that differs, with the lines in both sources", async () => {
    const ended = await run([silentBug], { cwd: root });
    expect(ended).toMatchObject({ code: 1, stderr: "" });
    expect(ended.stdout).toMatch(/^FAIL · tripy against torch: /);
    expect(ended.stdout).toMatch(/samples\/hstu\/tripy_hstu_dense\.py:\d+/);
    expect(ended.stdout).toMatch(/samples\/hstu\/hstu\.py:\d+/);
  });

  it("is 3 where too little could be compared", async () => {
    const inputs = {
      x: { dtype: "float32", shape: [2, 4], bytes: new Uint8Array(32).fill(60) },
    } as const;
    await writeSafetensors(path.join(folder, "inputs.safetensors"), inputs);
    await writeFile(path.join(folder, "a.onnx"), storyModel(longChain("a.py")));
    await writeFile(path.join(folder, "b.onnx"), storyModel(longChain("b.py")));
    const runFile = {
      implementations: { a: { onnx: "a.onnx" }, b: { onnx: "b.onnx" } },
      reference: "a",
      inputs: "inputs.safetensors",
    };
    await writeFile(path.join(folder, "long.parity.json"), JSON.stringify(runFile));
    const ended = await run(["long.parity.json"]);
    expect(ended.stdout).toMatch(/^UNKNOWN · /);
    expect(ended.code).toBe(3);
  });

  it("is 4 when the runner dies, with its last words", async () => {
    const ended = await run([rightPort], { entry: crashing });
    expect(ended.stderr).toMatch(/runner did not survive/);
    expect(ended.stderr).toContain("the kernel broke");
    expect(ended.stdout).toBe("");
    expect(ended.code).toBe(4);
    expect(await readdir(temp)).toEqual([]);
  });

  it("is 4 when the runner does not answer in time", async () => {
    const ended = await run(["--timeout", "0.3", rightPort], { entry: silent });
    expect(ended.stderr).toMatch(/did not answer within 0\.3 s/);
    expect(ended.code).toBe(4);
    expect(await readdir(temp)).toEqual([]);
  });

  it.each(["SIGINT", "SIGTERM"] as const)("is 130 after %s, with no file left", async (signal) => {
    const report = path.join(folder, "report.json");
    const running = start(["run", "--report", report, rightPort], { entry: silent });
    for (let i = 0; i < 200 && (await readdir(temp)).length === 0; i++) await delay(50);
    expect(await readdir(temp)).toHaveLength(1);
    running.kill(signal);
    expect(await running.ended).toEqual({ code: 130, stdout: "", stderr: "cancelled\n" });
    expect(await readdir(temp)).toEqual([]);
    expect(await readdir(folder)).toEqual(["temp"]);
  });
});

describe("the report", { timeout: 60_000 }, () => {
  const validate = new Ajv({ allErrors: true }).compile(reportSchema);

  it("is all that --format json prints, fits its schema, and --report writes the same", async () => {
    const file = path.join(folder, "silent.parity-report.json");
    const ended = await run(["--format", "json", silentBug, "--report", file]);
    const report = JSON.parse(ended.stdout) as Report;
    validate(report);
    expect(validate.errors).toBeNull();
    expect(report.verdict).toBe("fail");
    expect(report.tool.version).toBe("1.2.3-test");
    expect(report.run.command.slice(0, 3)).toEqual(["hstu-parity", "run", "--format"]);
    expect(await readFile(file, "utf8")).toBe(ended.stdout);
    expect(ended.code).toBe(1);
  });

  it("names files relative to the working folder where the run file lies inside it, else to the run file", async () => {
    const inside = JSON.parse(
      (await run(["--format", "json", silentBug], { cwd: root })).stdout,
    ) as Report;
    expect(inside.run).toMatchObject({
      base: root,
      runFile: "samples/hstu/silent-bug.parity.json",
    });
    const outside = JSON.parse((await run(["--format", "json", silentBug])).stdout) as Report;
    expect(outside.run).toMatchObject({ base: samples, runFile: "silent-bug.parity.json" });
  });

  it("does not fit the schema once a field is missing", async () => {
    const { verdict: _, ...rest } = JSON.parse(
      (await run(["--format", "json", rightPort])).stdout,
    ) as Report;
    expect(validate(rest)).toBe(false);
  });

  it.each([
    ["in a folder that is not there", ["nowhere", "report.json"], /its folder does not exist/],
    ["that is a folder", ["temp"], /it is a folder/],
  ])("is refused before the run when its path is one %s", async (_, parts, message) => {
    const report = path.join(folder, ...parts);
    // A run would end with exit code 4 here.
    expectRefusal(await run(["--report", report, rightPort], { entry: crashing }), message);
  });

  it("has only the candidates that were chosen, against the reference that was chosen", async () => {
    const given = await story("right-port");
    const sources = given["implementations"] as Record<string, Record<string, string>>;
    const torch = { trace: path.join(samples, "artefacts/tiny/torch.trace.json") };
    const onnx = path.join(samples, sources["tripy"]?.["onnx"] ?? "");
    const implementations = { torch, again: torch, port: { onnx }, other: { onnx } };
    const file = await changed("right-port", { implementations });
    const ended = await run(
      ["--reference", "again", "--candidate", "port", "--candidate", "other"].concat([
        "--format",
        "json",
        file,
      ]),
    );
    const { reference, pairs } = JSON.parse(ended.stdout) as Report;
    expect(reference).toBe("again");
    expect(pairs.map(({ candidate }) => candidate)).toEqual(["port", "other"]);
  });
});

describe("a wrong request", { timeout: 60_000 }, () => {
  it.each([
    ["no command", [], /Usage/],
    ["an unknown command", ["compare-all"], /unknown command/],
    ["no run file", ["run"], /a run file or a script is missing/],
    ["two run files", ["run", rightPort, silentBug], /one run file at a time/],
    ["an unknown option", ["run", "--frmat", "json", rightPort], /unknown option.*\n.*--format/],
    ["an unknown format", ["run", "--format", "yaml", rightPort], /Allowed choices are text, json/],
    ["an unknown provider", ["run", "--provider", "tpu", rightPort], /Allowed choices are auto/],
    ["a time that is no number", ["run", "--timeout", "soon", rightPort], /number of seconds/],
    ["a time of nothing", ["run", "--timeout", "0", rightPort], /number of seconds/],
    [
      "a script that is not there",
      ["run", "train.py", "--format", "x"],
      /there is no script train\.py/,
    ],
    [
      "a Python that is not there",
      ["run", "--python", "no/python", "-m", "my.model", "--x"],
      /no\/python/,
    ],
    [
      "an unknown candidate",
      ["run", "--candidate", "tripi", rightPort],
      /no implementation "tripi"[\s\S]*torch, tripy/,
    ],
    ["an unknown reference", ["run", "--reference", "jax", rightPort], /no implementation "jax"/],
  ])("is refused: %s", async (_, args, message) => {
    expectRefusal(await start(args).ended, message);
  });

  it("is refused: a run file that is not there", async () => {
    expectRefusal(await run(["none.parity.json"]), /^none\.parity\.json:1:1: there is no run file/);
  });

  it("is refused: a run file that is a folder", async () => {
    expectRefusal(await run(["temp"]), /^temp:1:1: .*cannot be read/);
  });

  it("is refused: an unknown field, at its place and with what was meant", async () => {
    const text =
      '{\n  "implementations": {\n    "a": { "trace": "a.trace.json" },\n    "b": { "onxx": "b.onnx" }\n  },\n  "reference": "a"\n}\n';
    await writeFile(path.join(folder, "typo.parity.json"), text);
    expectRefusal(await run(["typo.parity.json"]), /^typo\.parity\.json:4:12: .*onxx[\s\S]*"onnx"/);
  });

  it("is refused: a field of the wrong type", async () => {
    const file = await changed("right-port", { coverageThreshold: "most" });
    expectRefusal(
      await run([file]),
      /changed\.parity\.json:1:\d+: coverageThreshold must be a number/,
    );
  });

  it.each([
    ["a model that is not there", "onnx", undefined, /there is no|does not exist|missing/],
    ["a model that is not ONNX", "onnx", "not a model at all", /ONNX/],
    ["a trace that is not there", "trace", undefined, /there is no trace/],
    ["a trace that is no JSON", "trace", "{", /trace/],
  ])("is refused: %s", async (_, kind, content, message) => {
    const bad = path.join(folder, "bad.file");
    if (content !== undefined) await writeFile(bad, content);
    const good = {
      torch: { trace: path.join(samples, "artefacts/tiny/torch.trace.json") },
      tripy: { onnx: path.join(samples, "artefacts/tiny/right-port.onnx") },
    };
    const implementations =
      kind === "onnx" ? { ...good, tripy: { onnx: bad } } : { ...good, torch: { trace: bad } };
    const file = await changed("right-port", { implementations });
    const ended = await run([file]);
    expectRefusal(ended, message);
    expect(ended.stderr).toContain("bad.file");
  });

  it("is refused: a model that ends in the middle", async () => {
    const whole = await readFile(path.join(samples, "artefacts/tiny/right-port.onnx"));
    await writeFile(path.join(folder, "half.onnx"), whole.subarray(0, whole.length >> 1));
    const implementations = {
      torch: { trace: path.join(samples, "artefacts/tiny/torch.trace.json") },
      tripy: { onnx: path.join(folder, "half.onnx") },
    };
    expectRefusal(await run([await changed("right-port", { implementations })]), /half\.onnx/);
  });
});

describe("what is said", { timeout: 60_000 }, () => {
  it("has help with examples and the exit codes, on stdout", async () => {
    const ended = await run(["--help"]);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(ended.stdout).toMatch(/Examples:\n {2}\$ hstu-parity run /);
    expect(ended.stdout).toMatch(/130 {2}cancelled/);
    expect(ended.stdout).toMatch(/-m <module>/);
    expect(Math.max(...ended.stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(
      80,
    );
    expect(await start(["--version"]).ended).toMatchObject({ code: 0, stdout: "1.2.3-test\n" });
  });

  it("has progress on stderr only when it is asked for", async () => {
    const ended = await run(["--log-level", "info", rightPort]);
    expect(ended.stderr).toMatch(/^Reading torch \(5 %\)\nRunning tripy \(10 %\)\nComparing /);
    expect(ended.stdout).toMatch(/^PASS/);
  });

  it("is the same for two runs at once", async () => {
    const [right, wrong] = await Promise.all([run([rightPort]), run([silentBug])]);
    expect([right.code, wrong.code]).toEqual([0, 1]);
    expect(right.stdout).toMatch(/^PASS/);
    expect(wrong.stdout).toMatch(/^FAIL/);
    expect(await readdir(temp)).toEqual([]);
  });
});
