import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { bundleRunner, root } from "../support/bundleRunner.js";
import { python, runCli } from "../support/runCli.js";

const scripts = path.join(root, "test/scripts");
let temp: string;
let runnerEntry: string;

beforeAll(async () => {
  temp = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-foreign-"));
  runnerEntry = await bundleRunner(path.join(temp, "runner"));
});
afterEach(() => {
  vi.unstubAllEnvs();
});
afterAll(() => rm(temp, { recursive: true, force: true }));

/** Scripts in the habits of others than the sample's author; none of them has a run file. */
describe("somebody else's script", { timeout: 120_000 }, () => {
  it.each([
    ["plain functions and a dictionary of weights", "functions", ["gated_attention.py"]],
    ["a trainer in a package", "recsys", ["-m", "recsys.trainer"]],
    ["a notebook that evaluates as it goes", "notebook", ["mlp_port.py"]],
    ["two exported programs, one after the other", "exported", ["two_towers.py"]],
    ["an engine that is built, saved and loaded", "stale", ["reuse_engine.py"]],
    ["unit tests", "checks", ["-m", "unittest", "test_embedding_bag.BagCase"]],
    ["experts, token by token and all at once", "experts", ["moe.py"]],
    ["a trained model and its fused form, in inference mode", "ctr", ["-m", "ctr.train"]],
    ["two compiled programs with renamed, transposed weights", "deploy", ["serve_classifier.py"]],
    ["a copy of a language model", "lm", ["compare_precision.py", "--torch_dtype", "float32"]],
    ["a notebook whose cells were run again", "playground", ["attention_port.py"]],
    ["a model that is warmed up on other values", "batches", ["warm.py"]],
    ["several batches of one shape", "batches", ["validate.py"]],
    ["unit tests over several sizes", "suite", ["-m", "unittest", "test_pooling.TestPooling"]],
  ])("passes when the port is right: %s", async (_, folder, args) => {
    const { code, report, stderr } = await run(folder, args);
    expect(code, stderr).toBe(0);
    expect(report.verdict).toBe("pass");
    expect(report.pairs.length).toBeGreaterThan(0);
    expect(report.pairs.map(({ origins }) => origins)).toEqual(report.pairs.map(() => []));
  });

  it.each([
    ["functions", ["gated_attention.py", "--slip", "scale"], "# the scale slip"],
    ["functions", ["gated_attention.py", "--slip", "gate"], "# the gate slip"],
    ["recsys", ["-m", "recsys.trainer", "--fast-gelu"], "approximate=self.approximation"],
    ["recsys", ["-m", "recsys.trainer", "--pool", "root"], "# pooled by the root"],
    ["notebook", ["mlp_port.py", "activation"], "hidden * 1.702"],
    ["exported", ["two_towers.py", "--slip", "length"], "# another norm"],
    ["exported", ["two_towers.py", "--slip", "temperature"], "scores / self.temperature"],
    ["exported", ["two_towers.py", "--slip", "weights"], "self.lin2 = "],
    ["stale", ["reuse_engine.py", "--retrain"], "self.weight = weight"],
    ["experts", ["moe.py", "--bug", "residual"], "return h + mixed"],
    ["ctr", ["-m", "ctr.train", "--bug", "mask"], "# sees the future"],
    ["lm", ["compare_precision.py", "--scaled", "--torch_dtype", "float32"], "hidden_size**0.5"],
    ["deploy", ["serve_classifier.py", "--bug", "pool"], "tp.max(h, dim=1)"],
    ["deploy", ["serve_classifier.py", "--bug", "relu"], "tp.gelu(hidden)"],
  ])("is wrong at exactly one line: %s %s", async (folder, args, text) => {
    const { code, report, stderr } = await run(folder, args);
    expect(code, stderr).toBe(1);
    const sites = report.pairs.flatMap(({ origins }) =>
      origins.map(({ site }) => `${path.basename(site.file)}:${site.line}`),
    );
    expect([...new Set(sites)]).toEqual([await placeOf(folder, text)]);
    const failed = report.pairs.filter(({ verdict }) => verdict === "fail");
    expect(failed.flatMap(({ origins }) => origins.flatMap((o) => o.alternatives))).toEqual([]);
  });

  it("blames the settings of a library's layer where they are made, its use after them", async () => {
    const { report } = await run("checks", ["-m", "unittest", "test_embedding_bag.WrongBagCase"]);
    const lines = report.pairs.flatMap(({ origins }) =>
      origins.map((o) => [o.site, ...o.alternatives.map((a) => a.site)].map((site) => site.line)),
    );
    const lineOf = async (text: string) =>
      Number((await placeOf("checks", text)).split(":").at(-1));
    expect(lines).toEqual([[await lineOf("nn.EmbeddingBag("), await lineOf("return self.bag(")]]);
  });

  // The reference goes row by row, so nothing between the inputs and the result has a counterpart: a list of lines.
  it.each([
    ["experts", ["moe.py", "--bug", "act"], "hidden = F.gelu(g) * u"],
    ["experts", ["moe.py", "--bug", "share"], "torch.topk(everyone, TOP)"],
    ["suite", ["-m", "unittest", "test_pooling.TestPoolingOffByOne"], "steps <= lengths"],
  ])(
    "lists the wrong line where nothing around it has a counterpart: %s %s",
    async (folder, args, text) => {
      const { code, report, stderr } = await run(folder, args);
      expect(code, stderr).toBe(1);
      const place = await placeOf(folder, text);
      for (const { origins } of report.pairs) {
        expect(origins).toHaveLength(1);
        const sites = origins.flatMap(({ site, alternatives }) => [
          site,
          ...alternatives.map((a) => a.site),
        ]);
        expect(sites.map(({ file, line }) => `${path.basename(file)}:${line}`)).toContain(place);
      }
    },
  );

  it.each([
    ["scale", "scores / d**0.5"],
    ["axis", "tp.softmax(scores, dim=1)"],
  ])("finds the wrong line of a port of a function over layers: %s", async (BUG, text) => {
    vi.stubEnv("BUG", BUG);
    const { code, report, stderr } = await run("playground", ["attention_port.py"]);
    expect(code, stderr).toBe(1);
    // Once evaluated eagerly, once compiled.
    expect(report.pairs.map(({ reference, verdict }) => [reference, verdict])).toEqual([
      ["block.2", "fail"],
      ["block.2", "fail"],
    ]);
    const origins = report.pairs.flatMap((pair) => pair.origins);
    const places = origins.map(({ site }) => `${path.basename(site.file)}:${site.line}`);
    expect([...new Set(places)]).toEqual([await placeOf("playground", text)]);
    expect(origins.flatMap(({ alternatives }) => alternatives)).toEqual([]);
  });

  it("finds a bug that the first of several batches of one shape cannot show", async () => {
    const { code, report, stderr } = await run("batches", ["validate.py", "--bug"]);
    expect(code, stderr).toBe(1);
    expect(report.pairs.map(({ verdict }) => verdict)).toEqual(["pass", "fail", "fail"]);
    const sites = report.pairs.flatMap(({ origins }) => origins.map(({ site }) => site));
    const places = sites.map(({ file, line }) => `${path.basename(file)}:${line}`);
    expect([...new Set(places)]).toEqual([await placeOf("batches", "return total / x.shape[1]")]);
  });

  it("lists every parameter of a port that got none of the reference's", async () => {
    const { code, report, stderr } = await run("strangers", ["nothing_copied.py"]);
    expect(code, stderr).toBe(1);
    const origins = report.pairs.flatMap((pair) => pair.origins);
    expect(
      origins.map(({ kind, site }) => [kind, `${path.basename(site.file)}:${site.line}`]),
    ).toEqual([
      ["parameter", await placeOf("strangers", "self.first = tp.Linear")],
      ["parameter", await placeOf("strangers", "self.second = tp.Linear")],
    ]);
    expect(origins.flatMap(({ parameters }) => parameters).sort()).toEqual([
      "first.bias",
      "first.weight",
      "second.bias",
      "second.weight",
    ]);
  });

  it("says that a check of two models with nothing in common proves nothing", async () => {
    const { code, report } = await run("strangers", ["two_models.py"]);
    expect(code).toBe(3);
    expect(report.verdict).toBe("unknown");
    expect(report.pairs).toEqual([]);
    const [problem] = report.problems.filter((one) => one.code === "no-shared-values");
    expect(problem?.message).toMatch(
      /Old and New .* proves nothing, and the script does \(torch.allclose\)/,
    );
  });

  it("compares an engine that an earlier process saved, and says when it has become stale", async () => {
    const folder = await mkdtemp(path.join(temp, "phases-"));
    await run("twophase", ["pipeline.py", "train=1+build", folder]);
    const fresh = await run("twophase", ["pipeline.py", "serve", folder]);
    expect(fresh.report.verdict, fresh.stderr).toBe("pass");
    const { code, report } = await run("twophase", ["pipeline.py", "tune+serve", folder]);
    expect(code).toBe(1);
    const [problem] = report.problems.filter((one) => one.code === "stale-engine");
    expect(problem?.message).toMatch(
      /scorer\.engine, which was saved with other parameters: 1 of 4/,
    );
    expect(`${path.basename(problem?.site?.file ?? "")}:${problem?.site?.line}`).toBe(
      await placeOf("twophase", "tp.Executable.load"),
    );
  });

  it.each(["bfloat16", "float16"])("is a warning at most as a whole in %s", async (type) => {
    const { code, report } = await run("lm", ["compare_precision.py", "--torch_dtype", type]);
    expect([code, report.verdict]).toEqual([0, "warn"]);
    expect(report.pairs.flatMap(({ origins }) => origins)).toEqual([]);
  });

  it("says nothing of parameters that are the reference's in one matrix", async () => {
    const { report } = await run("ctr", ["-m", "ctr.train"]);
    const fused = report.implementations.find(({ label }) => label === "FusedClickModel");
    expect(fused?.parameters.notFromReference).toEqual([]);
    expect(fused?.parameters.missing).toEqual([]);
  });

  it("calls an executable stale that was saved before its parameters changed", async () => {
    const { report } = await run("stale", ["reuse_engine.py", "--retrain"]);
    const [problem] = report.problems.filter(({ code }) => code === "stale-engine");
    expect(problem?.message).toMatch(/engine\.tpymodel, which was saved with other parameters/);
    expect(`${path.basename(problem?.site?.file ?? "")}:${problem?.site?.line}`).toBe(
      await placeOf("stale", "tp.Executable.load"),
    );
  });
});

async function placeOf(folder: string, text: string): Promise<string> {
  const files = {
    functions: "gated_attention.py",
    recsys: "recsys/serving.py",
    notebook: "mlp_port.py",
    exported: "two_towers.py",
    stale: "reuse_engine.py",
    checks: "test_embedding_bag.py",
    batches: "validate.py",
    experts: "moe.py",
    playground: "attention_port.py",
    ctr: "ctr/fused.py",
    lm: "compare_precision.py",
    deploy: "serve_classifier.py",
    suite: "test_pooling.py",
    strangers: "nothing_copied.py",
    twophase: "pipeline.py",
  };
  const file = files[folder as keyof typeof files];
  const lines = (await readFile(path.join(scripts, folder, file), "utf8")).split("\n");
  return `${path.basename(file)}:${lines.findIndex((line) => line.includes(text)) + 1}`;
}

function run(folder: string, args: readonly string[]) {
  return runCli(["--no-cache", "--python", python, ...args], {
    cwd: path.join(scripts, folder),
    runnerEntry,
  });
}
