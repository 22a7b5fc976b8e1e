import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Report } from "../../engine/protocol/report.js";
import type { RunFile } from "../../engine/protocol/runFile.js";
import { bundleRunner, root } from "../support/bundleRunner.js";
import { python, runCli } from "../support/runCli.js";

const sample = path.join(root, "samples/hstu");
let temp: string;
let folder: string;
let runnerEntry: string;

beforeAll(async () => {
  temp = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-script-run-files-"));
  runnerEntry = await bundleRunner(path.join(temp, "runner"));
});
beforeEach(async () => {
  folder = await mkdtemp(path.join(temp, "case-"));
});
afterAll(() => rm(temp, { recursive: true, force: true }));

describe("a run file that names a script", { timeout: 120_000 }, () => {
  it.each([
    ["live.parity.json", "torch", "tripy", 4.9e-8],
    ["live-dense.parity.json", "jagged", "dense", 0],
  ])("compares its calls: %s", async (file, reference, candidate, most) => {
    const ended = await run([path.join(sample, file)]);
    expect(ended.code, ended.stderr).toBe(0);
    const { pairs, implementations, run: itself } = JSON.parse(ended.stdout) as Report;
    expect(pairs.map((p) => [p.reference, p.candidate, p.verdict])).toEqual([
      [reference, candidate, "pass"],
    ]);
    expect(pairs[0]?.output.relL2).toBeLessThanOrEqual(most);
    expect(implementations.map(({ id }) => id)).toEqual([reference, candidate]);
    expect(itself.runFile).toContain(file);
    // Two implementations of one script: it ran once.
    expect(ended.stderr.split("PASSED")).toHaveLength(2);
  });

  it("finds the calls where it does not name them", async () => {
    await writeScript("pair.py", twoModels);
    const file = await writeRunFile({
      right: { python: { script: "pair.py" } },
      port: { python: { script: "pair.py" } },
    });
    const ended = await run([file]);
    expect(ended.code, ended.stderr).toBe(1);
    const [pair] = (JSON.parse(ended.stdout) as Report).pairs;
    expect(pair?.origins.map(({ site }) => site.line)).toEqual([16]);
    expect(pair?.repair).toMatchObject({ proves: true });
  });

  it("runs in its folder, with its arguments and environment, and compares two scripts", async () => {
    const script = (scale: string): string => `import os, sys
import torch

torch.manual_seed(0)
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x):
        hidden = torch.tanh(self.linear(x))
        return hidden * ${scale}

with torch.no_grad():
    Model()(torch.randn(4, 8))
`;
    await mkdir(path.join(folder, "sub"));
    await writeScript("one.py", script("float(sys.argv[1])"));
    await writeScript(
      "sub/two.py",
      script('float(os.environ["SCALE"]) * len(os.getcwd()) / len(os.getcwd())'),
    );
    const file = await writeRunFile({
      one: { python: { script: "one.py", args: ["0.5"] } },
      two: { python: { script: "sub/two.py", env: { SCALE: "0.25" }, cwd: "sub" } },
    });
    const ended = await run([file]);
    expect(ended.code, ended.stderr).toBe(1);
    const [pair] = (JSON.parse(ended.stdout) as Report).pairs;
    expect(pair?.origins.map(({ site }) => `${path.basename(site.file)}:${site.line}`)).toEqual([
      "two.py:12",
    ]);
  });

  it.each([
    [
      { python: { script: "pair.py", function: "Absent" } },
      /called nothing that is named "Absent"[^]*Model, Port/,
    ],
    [{ python: { script: "lone.py" } }, /there is no script/],
    [{ python: { script: "pair.py", module: "pair" } }, /has both "script" and "module"/],
    [{ python: {} }, /has neither "script" nor "module"/],
    [
      { python: { script: "pair.py", interpreter: "./no/python" } },
      /no\/python \([^)]*run file[^)]*\) does not exist/,
    ],
    [{ python: { scripts: "pair.py" } }, /Did you mean "script"/],
  ])("is refused where it cannot be: %j", async (port, said) => {
    await writeScript("pair.py", twoModels);
    const file = await writeRunFile({
      right: { python: { script: "pair.py", function: "Model" } },
      port,
    });
    const ended = await run([file], []);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(said);
  });

  it("has no inputs of its own", async () => {
    await writeScript("pair.py", twoModels);
    const file = await writeRunFile(
      { right: { python: { script: "pair.py" } }, port: { python: { script: "pair.py" } } },
      { inputs: "x.safetensors" },
    );
    const ended = await run([file]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/a script makes its own/);
  });
});

describe("a run of a script", { timeout: 120_000 }, () => {
  it("is saved as the run file that does it again, and never over another file", async () => {
    const script = await writeScript("pair.py", twoModels);
    const file = path.join(folder, "saved.parity.json");
    const first = await run(["--save-run-file", file, script, "--some", "argument"]);
    const saved = JSON.parse(await readFile(file, "utf8")) as RunFile;
    expect(saved.reference).toBe("Model");
    expect(saved.implementations["Port"]).toMatchObject({
      python: { script: "pair.py", args: ["--some", "argument"], function: "Port" },
    });
    const again = await run([file]);
    expect([first.code, again.code]).toEqual([1, 1]);
    const originsOf = (text: string): unknown =>
      (JSON.parse(text) as Report).pairs.map(({ origins }) => origins.map(({ site }) => site.line));
    expect(originsOf(again.stdout)).toEqual(originsOf(first.stdout));

    const before = await readFile(file, "utf8");
    const over = await run(["--save-run-file", file, script]);
    expect(over.code).toBe(2);
    expect(over.stderr).toMatch(/saved\.parity\.json is there already/);
    expect(await readFile(file, "utf8")).toBe(before);
  });

  it("that compared nothing is not saved", async () => {
    const script = await writeScript("nothing.py", "import torch\n");
    const file = path.join(folder, "saved.parity.json");
    const ended = await run(["--save-run-file", file, script]);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/compared nothing/);
  });
});

const twoModels = `import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x):
        hidden = torch.tanh(self.linear(x))
        scaled = hidden * 0.5
        return scaled + hidden

class Port(Model):
    def forward(self, x):
        hidden = torch.tanh(self.linear(x))
        scaled = hidden * 0.25
        return scaled + hidden

torch.manual_seed(0)
model, port = Model(), Port()
port.load_state_dict(model.state_dict())
x = torch.randn(4, 8)
with torch.no_grad():
    print(torch.allclose(model(x), port(x), atol=1))
`;

async function writeScript(name: string, text: string): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, text);
  return file;
}

async function writeRunFile(implementations: object, more: object = {}): Promise<string> {
  const file = path.join(folder, "case.parity.json");
  const [reference] = Object.keys(implementations);
  await writeFile(file, JSON.stringify({ implementations, reference, ...more }));
  return file;
}

function run(args: readonly string[], given: readonly string[] = ["--python", python]) {
  return runCli(["--no-cache", ...given, ...args], {
    cwd: folder,
    runnerEntry,
    env: { VIRTUAL_ENV: path.join(root, ".venv") },
  });
}
