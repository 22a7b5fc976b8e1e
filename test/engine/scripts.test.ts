import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Report } from "../../engine/protocol/report.js";
import { bundleRunner, root } from "../support/bundleRunner.js";
import { python, runCli } from "../support/runCli.js";

const sample = path.join(root, "samples/hstu");
let temp: string;
let folder: string;
let runnerEntry: string;

beforeAll(async () => {
  temp = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-scripts-"));
  folder = path.join(temp, "scripts");
  await mkdir(folder);
  runnerEntry = await bundleRunner(path.join(temp, "runner"));
});
afterAll(() => rm(temp, { recursive: true, force: true }));

describe("a script without a run file", { timeout: 120_000 }, () => {
  it.each([
    ["tripy_hstu_example.py", [], 0, "pass", "TripyHstuDense"],
    ["tripy_hstu_example.py", ["--port", "silent_bug"], 1, "fail", "TripyHstuDense"],
    ["tripy_hstu_example.py", ["--port", "wrong_line"], 1, "fail", "TripyHstuDense"],
    ["test_research_pipeline.py", [], 0, "pass", "HstuDense"],
  ])("is judged as its port deserves: %s %s", async (script, args, code, verdict, candidate) => {
    const ended = await run([path.join(sample, script), ...args]);
    expect(ended.code, ended.stderr).toBe(code);
    const report = JSON.parse(ended.stdout) as Report;
    expect(report.verdict).toBe(verdict);
    expect(report.pairs.map((p) => [p.reference, p.candidate])).toEqual([["Hstu", candidate]]);
    // The script's own check, with its loose tolerance, notices nothing.
    expect(ended.stderr).toContain("PASSED");
    expect(report.run.script).toMatchObject({ args, exitCode: 0 });
  });

  it("names the parameters that never came from torch, where they are declared", async () => {
    const ended = await run([path.join(sample, "tripy_hstu_example.py"), "--port", "silent_bug"]);
    const [pair] = (JSON.parse(ended.stdout) as Report).pairs;
    const declared = pair?.origins.map(({ site }) => `${path.basename(site.file)}:${site.line}`);
    expect(declared).toEqual(["tripy_hstu_dense.py:76", "tripy_hstu_dense.py:77"]);
    expect(pair?.repair).toMatchObject({ proves: true, minimal: true });
  });

  it("names the one wrong line of a port whose functions are named otherwise", async () => {
    const ended = await run([path.join(sample, "tripy_hstu_example.py"), "--port", "wrong_line"]);
    const [pair] = (JSON.parse(ended.stdout) as Report).pairs;
    expect(pair?.origins.map(({ site }) => site.file.split("/").slice(-2).join("/"))).toEqual([
      "wrong_line/tripy_attention.py",
    ]);
    expect(pair?.origins[0]).toMatchObject({ site: { line: 30 }, alternatives: [] });
    expect(pair?.repair).toMatchObject({ proves: true, minimal: true });
  });

  it("proves a torch candidate in the user's torch", async () => {
    const script = path.join(folder, "scaled.py");
    await writeFile(script, twoModels("x * 0.5", "x * 0.25"));
    const ended = await run([script]);
    const [pair] = (JSON.parse(ended.stdout) as Report).pairs;
    expect(ended.code, ended.stderr).toBe(1);
    expect(pair?.origins.map(({ site }) => site.line)).toEqual([await lineOf(script, "0.25")]);
    expect(pair?.repair).toMatchObject({ proves: true });
  });

  it("compares a later step on the reference's inputs where the step before it was rounded otherwise", async () => {
    const script = path.join(folder, "steps.py");
    await writeFile(script, twoSteps);
    const ended = await run([script]);
    expect(ended.code, ended.stderr).toBe(0);
    const { pairs } = JSON.parse(ended.stdout) as Report;
    const head = pairs.find(({ reference }) => reference === "Head");
    // The same operations on the same inputs give the same bits; on their own inputs these do not.
    expect(ended.stdout).toContain('"Head"');
    expect(head?.output.relL2).toBe(0);
    expect(ended.stderr).toContain("their own results differ");
  });

  it("compares nothing and says so when two models share no values", async () => {
    const script = path.join(folder, "strangers.py");
    const text = twoModels("x * 0.5", "x * 0.5");
    await writeFile(script, text.replace("port.load_state_dict(model.state_dict())\n", ""));
    const ended = await run([script]);
    expect(ended.code, ended.stderr).toBe(3);
    const { verdict, problems } = JSON.parse(ended.stdout) as Report;
    expect(verdict).toBe("unknown");
    expect(problems.map(({ code }) => code)).toContain("no-shared-values");
  });

  it("says what a script lacks that calls nothing", async () => {
    const script = path.join(folder, "nothing.py");
    await writeFile(script, "print('hello')\n");
    const ended = await run([script]);
    expect(ended.code, ended.stderr).toBe(3);
    const { problems } = JSON.parse(ended.stdout) as Report;
    expect(problems.map(({ code }) => code)).toContain("nothing-captured");
    expect(ended.stderr).toBe("hello\n");
  });

  it("shows the script's own traceback when it raises before anything was called", async () => {
    const script = path.join(folder, "raises.py");
    await writeFile(script, "import torch\nraise ValueError('no data')\n");
    const ended = await run([script]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/Traceback[\s\S]*ValueError: no data/);
    expect(ended.stderr).toMatch(/raises\.py:2:1: .*raised ValueError: no data/);
  });

  it("names the package that an import lacks, with the command that installs it", async () => {
    const script = path.join(folder, "imports.py");
    await writeFile(script, "import a_package_that_nobody_has\n");
    const ended = await run([script]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/-m pip install/);
  });

  it("compares what was called before the script raised, and warns", async () => {
    const script = path.join(folder, "half.py");
    await writeFile(script, `${twoModels("x * 0.5", "x * 0.5")}raise RuntimeError("late")\n`);
    const ended = await run([script]);
    expect(ended.code, ended.stderr).toBe(0);
    const { verdict, pairs, problems } = JSON.parse(ended.stdout) as Report;
    expect(verdict).toBe("warn");
    expect(pairs.map((pair) => pair.verdict)).toEqual(["pass"]);
    expect(problems.map(({ code }) => code)).toContain("script-raised");
  });

  it("ends a script that waits for ever", async () => {
    const script = path.join(folder, "waits.py");
    await writeFile(script, "import time\ntime.sleep(600)\n");
    const ended = await run(["--timeout", "2", script]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/did not end within 2 s/);
  });

  it("is not run again while nothing has changed, and is when a file of it has", async () => {
    const script = path.join(folder, "cached.py");
    await writeFile(script, twoModels("x * 0.5", "x * 0.5"));
    const states: string[] = [];
    for (const text of [undefined, undefined, twoModels("x * 0.5", "x * 0.25")]) {
      if (text !== undefined) await writeFile(script, text);
      // What was written at the time of the start may have been written after it.
      await sleep(100);
      const ended = await run([script], []);
      const { run: itself, verdict, problems } = JSON.parse(ended.stdout) as Report;
      expect(problems.filter(({ code }) => code === "run-not-cached")).toEqual([]);
      states.push(`${itself.cache} ${verdict}`);
    }
    expect(states).toEqual(["miss pass", "hit pass", "miss fail"]);
  });
});

function run(args: readonly string[], options: readonly string[] = ["--no-cache"]) {
  return runCli(["--python", python, ...options, ...args], {
    cwd: folder,
    runnerEntry,
    env: { HSTU_PARITY_CACHE: path.join(temp, "cache") },
  });
}

function twoModels(reference: string, candidate: string): string {
  return `import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x):
        hidden = torch.relu(self.linear(x))
        x = torch.tanh(hidden)
        scaled = ${reference}
        return scaled + hidden

class Port(Model):
    def forward(self, x):
        hidden = torch.relu(self.linear(x))
        x = torch.tanh(hidden)
        scaled = ${candidate}
        return scaled + hidden

torch.manual_seed(0)
model, port = Model(), Port()
port.load_state_dict(model.state_dict())
x = torch.randn(4, 8)
with torch.no_grad():
    print(torch.allclose(model(x), port(x), atol=1))
`;
}

const twoSteps = `import torch

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(64, 64)

    def forward(self, x):
        return torch.tanh(self.linear(x))

class SplitEncoder(Encoder):
    def forward(self, x):
        half = self.linear.in_features // 2
        first = x[:, :half] @ self.linear.weight[:, :half].T
        second = x[:, half:] @ self.linear.weight[:, half:].T
        return torch.tanh(second + first + self.linear.bias)

class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(64, 8)

    def forward(self, hidden):
        return torch.sigmoid(self.out(hidden))

class PortedHead(Head):
    pass

torch.manual_seed(0)
encoder, port, head, ported = Encoder(), SplitEncoder(), Head(), PortedHead()
port.load_state_dict(encoder.state_dict())
ported.load_state_dict(head.state_dict())
x = torch.randn(32, 64)
with torch.no_grad():
    expected, actual = head(encoder(x)), ported(port(x))
import sys
print("their own results differ" if not torch.equal(expected, actual) else "equal", file=sys.stderr)
`;

async function lineOf(file: string, text: string): Promise<number> {
  const lines = (await readFile(file, "utf8")).split("\n");
  return lines.findIndex((line) => line.includes(text)) + 1;
}
