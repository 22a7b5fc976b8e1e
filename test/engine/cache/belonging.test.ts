import { chmod, mkdir, rename, rm, symlink, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { CacheRequest } from "../../../engine/cache/cacheKey.js";
import { makeCachedScript, reportOf, settle, type CachedScript } from "./cachedScript.js";

let the: CachedScript;
beforeEach(async () => {
  the = await makeCachedScript();
});
afterEach(() => the.remove());

const stale = { hit: false };
const fresh = { hit: true };

describe("an unchanged script", () => {
  it("has its report, with the hashes of what it computed with", async () => {
    expect(await the.ask()).toMatchObject(stale);
    expect(await the.run()).toEqual({ stored: true });
    expect(await the.ask()).toMatchObject({
      hit: true,
      report: reportOf("pass"),
      capturedHashes: { w: "00ff" },
    });
  });

  it("keeps it when something changes that it does not read", async () => {
    await the.run();
    await the.write("project/notes.txt", "other notes");
    await the.write("project/data.csv", "new");
    await the.write("project/__pycache__/layers.cpython-311.pyc", "compiled");
    await the.write("editable/README.md", "new");
    await the.write("agent/hstu_capture/__pycache__/x.pyc", "compiled");
    expect(await the.ask({ env: { ...the.request.env, UNRELATED: "2", NEW: "1" } })).toMatchObject(
      fresh,
    );
  });

  it("keeps it when a file is written again with the same content", async () => {
    await the.run();
    await the.write("project/layers.py", "import editable\n");
    expect(await the.ask()).toMatchObject(fresh);
  });

  it("keeps it whatever the order of the options' fields", async () => {
    await the.run();
    const { provider, candidates } = the.request.options;
    expect(await the.ask({ options: { candidates, provider } })).toMatchObject(fresh);
  });

  it("has both its reports back after an edit and its undoing", async () => {
    await the.run();
    await the.write("project/layers.py", "import editable # edited\n");
    await settle();
    await the.run({}, {}, reportOf("fail"));
    expect(await the.ask()).toMatchObject({ hit: true, report: { verdict: "fail" } });
    await the.write("project/layers.py", "import editable\n");
    expect(await the.ask()).toMatchObject({ hit: true, report: { verdict: "pass" } });
  });
});

describe("what is known before Python runs", () => {
  const interpreter =
    (changes: Partial<CacheRequest["interpreter"]>) => (): Partial<CacheRequest> => ({
      interpreter: { ...the.request.interpreter, ...changes },
    });
  const env = (changes: NodeJS.ProcessEnv) => (): Partial<CacheRequest> => ({
    env: { ...the.request.env, ...changes },
  });
  const options = (changes: Record<string, unknown>) => (): Partial<CacheRequest> => ({
    options: { ...the.request.options, ...changes },
  });
  /** The request does not change: something on disk does. */
  const disk = (change: () => Promise<unknown>) => async (): Promise<Partial<CacheRequest>> => {
    await change();
    return {};
  };
  const site = "venv/lib/python3.11/site-packages";

  it.each<[string, () => Partial<CacheRequest> | Promise<Partial<CacheRequest>>]>([
    ["another script", () => ({ program: { script: path.join(the.home, "project/layers.py") } })],
    ["a module instead of the script", () => ({ program: { module: "port" } })],
    ["an argument", () => ({ args: ["--config", "large"] })],
    ["the order of the arguments", () => ({ args: ["tiny", "--config"] })],
    ["the same text cut into other arguments", () => ({ args: ["--config tiny"] })],
    ["the working directory", () => ({ cwd: the.home })],
    ["the interpreter's path", interpreter({ path: "/usr/bin/python3" })],
    ["the interpreter's version", interpreter({ version: "3.11.8" })],
    ["its prefix", interpreter({ prefix: "/elsewhere" })],
    ["its search path", interpreter({ searchPath: [] })],
    ["the version of a package", interpreter({ packages: { torch: "2.9.1", numpy: "2.3.1" } })],
    ["one package less", interpreter({ packages: { torch: "2.9.0" } })],
    ["the tool's version", () => ({ tool: { ...the.request.tool, version: "1.0.1" } })],
    ["the provider", options({ provider: "cuda" })],
    ["the candidates", options({ candidates: ["dense"] })],
    ["the run file's text", options({ runFile: "{}" })],
    ["a device", () => ({ devices: ["cpu", "H200"] })],
    ["a variable of Python", env({ PYTHONHASHSEED: "1" })],
    ["a variable of Python that goes", env({ PYTHONHASHSEED: undefined })],
    ["a variable of torch", env({ TORCH_LOGS: "all" })],
    ["the visible GPUs", env({ CUDA_VISIBLE_DEVICES: "1" })],
    ["TF32", env({ NVIDIA_TF32_OVERRIDE: "0" })],
    ["the threads", env({ OMP_NUM_THREADS: "1" })],
    ["the threads of MKL", env({ MKL_NUM_THREADS: "1" })],
    ["the locale", env({ LC_ALL: "C" })],
    ["the search path of libraries", env({ LD_LIBRARY_PATH: "/opt" })],
    ["the tool's bundle", disk(() => the.write("tool/cli.mjs", "compare(1)\n"))],
    ["a file of the agent", disk(() => the.write("agent/hstu_capture/__main__.py", "watch(1)\n"))],
    ["a new file of the agent", disk(() => the.write("agent/hstu_capture/new.py", ""))],
    ["the interpreter's binary", disk(() => the.write("venv/bin/python", "#!/bin/bash\n"))],
    [
      "the interpreter that a link leads to",
      disk(async () => {
        const other = await the.write("other/python", "#!/bin/sh\n");
        await rm(path.join(the.home, "venv/bin/python"));
        await symlink(other, path.join(the.home, "venv/bin/python"));
      }),
    ],
    ["an installed package", disk(() => the.write(`${site}/new-1.0.dist-info/METADATA`, ""))],
    [
      "a removed package",
      disk(() => rm(path.join(the.home, site, "torch-2.9.0.dist-info"), { recursive: true })),
    ],
    [
      "a package installed again",
      disk(() =>
        utimes(path.join(the.home, site, "torch-2.9.0.dist-info"), new Date(), new Date()),
      ),
    ],
    [
      "an editable install's link",
      disk(() => the.write(`${site}/__editable__.editable.pth`, "elsewhere")),
    ],
    ["a module beside an editable one", disk(() => the.write("editable/src/torch.py", ""))],
  ])("%s: a miss", async (_, change) => {
    await the.run();
    const changes = await change();
    expect(await the.ask(changes)).toMatchObject(stale);
  });

  it("what cannot be read is a miss with its reason", async () => {
    await the.run();
    await rm(path.join(the.home, "tool/cli.mjs"));
    expect(await the.ask()).toMatchObject({
      hit: false,
      reason: expect.stringContaining("the cache cannot be read") as string,
    });
  });
});

describe("what the script read", () => {
  it.each([
    ["the script itself", "project/port.py"],
    ["an imported helper module", "project/layers.py"],
    ["a file of an editable install", "editable/src/editable/__init__.py"],
    ["a data file", "data/weights.bin"],
  ])("%s: a miss that names it", async (_, name) => {
    await the.run();
    const file = path.join(the.home, name);
    // As long as before and of the same age: neither is trusted.
    const age = new Date("2026-01-01T00:00:00Z");
    await utimes(file, age, age);
    await settle();
    await the.run();
    const before = { "data/weights.bin": "weights" }[name] ?? "";
    await writeFile(file, before === "" ? "import layerz\n" : "weighty");
    await utimes(file, age, age);
    expect(await the.ask()).toEqual({ hit: false, reason: `${file} changed` });
    await rm(file);
    expect(await the.ask()).toEqual({ hit: false, reason: `${file} is gone` });
  });

  it("an environment variable: a miss that names it, set or not before", async () => {
    await the.run();
    const env = the.request.env;
    expect(await the.ask({ env: { ...env, CONFIG: "large" } })).toEqual({
      hit: false,
      reason: "the environment variable CONFIG changed",
    });
    expect(await the.ask({ env: { ...env, CONFIG: undefined } })).toMatchObject(stale);
    expect(await the.ask({ env: { ...env, NOT_SET: "" } })).toMatchObject(stale);
  });

  it.each(["project/torch.py", "project/numpy/__init__.py", "editable/src/editable/new.so"])(
    "a module that may take another's place, %s: a miss",
    async (name) => {
      await the.run();
      await the.write(name, "");
      expect(await the.ask()).toMatchObject({
        hit: false,
        reason: expect.stringContaining("the modules in") as string,
      });
    },
  );

  it("a folder that it listed: a miss when a file is new there", async () => {
    expect(await the.run({}, { listed: [path.join(the.home, "data")] })).toEqual({ stored: true });
    expect(await the.ask()).toMatchObject(fresh);
    await the.write("data/more.bin", "");
    expect(await the.ask()).toMatchObject(stale);
  });

  it("a file that it looked for in vain: a miss once it is there", async () => {
    await the.run({}, { absent: [path.join(the.home, "data/local.cfg")] });
    expect(await the.ask()).toMatchObject(fresh);
    await the.write("data/local.cfg", "");
    expect(await the.ask()).toMatchObject(stale);
  });

  it("a file through a link: a miss when the link leads elsewhere", async () => {
    const link = path.join(the.home, "data/link.bin");
    await symlink(path.join(the.home, "data/weights.bin"), link);
    await settle();
    await the.run({}, { opened: [link] });
    expect(await the.ask()).toMatchObject(fresh);
    await rm(link);
    await symlink(await the.write("data/other.bin", "other"), link);
    expect(await the.ask()).toMatchObject(stale);
  });

  it("the kernel's view of the machine does not count", async () => {
    expect(await the.run({}, { opened: ["/proc/self/maps", "/sys/gone", "/dev/null"] })).toEqual({
      stored: true,
    });
    expect(await the.ask()).toMatchObject(fresh);
  });
});

describe("a run that is not kept", () => {
  const because = (reason: RegExp) => ({
    stored: false,
    reason: expect.stringMatching(reason) as string,
  });
  const seeded: string[] = [];

  it.each([
    [
      "draws without a seed",
      { randomness: { unseeded: ["torch"], seeded } },
      /without a seed \(torch\)/,
    ],
    ["was killed", { exitCode: null }, /was ended/],
    ["ended by a signal", { exitCode: -9 }, /signal/],
    ["ended by a signal in a shell", { exitCode: 137 }, /signal/],
    ["starts processes", { childProcesses: 1 }, /starts processes/],
    [
      "raised",
      { exitCode: 1, error: { type: "OSError", message: "", frames: [] } },
      /raised OSError/,
    ],
    ["reads random bytes", { opened: ["/dev/urandom"] }, /not a regular file/],
    ["reads a file that is gone", { opened: ["/no/such/file"] }, /is gone/],
  ])("one that %s", async (_, seen, reason) => {
    expect(await the.run({}, seen)).toEqual(because(reason));
    expect(await the.ask()).toMatchObject(stale);
  });

  it("one that leaves by sys.exit(3) is kept all the same", async () => {
    expect(await the.run({}, { exitCode: 3 })).toEqual({ stored: true });
  });

  /** A run in which something happens between its start and its end. */
  async function runWhile(
    happening: (request: CacheRequest) => Promise<unknown>,
    seen: Partial<CachedScript["capture"]> = {},
  ) {
    const { cache, capture, request } = the;
    const own = { ...request };
    const { signal } = new AbortController();
    await cache.lookup(own, signal);
    await happening(own);
    return cache.store(own, { ...capture, ...seen }, {}, reportOf("pass"), signal);
  }

  it("one whose module was edited meanwhile, even with its old time", async () => {
    const file = path.join(the.home, "project/layers.py");
    const result = await runWhile(async () => {
      await writeFile(file, "import edited\n");
      await utimes(file, new Date(0), new Date(0));
    });
    expect(result).toEqual(because(/layers\.py changed while the script ran/));
  });

  it("one whose module was replaced by an older file meanwhile", async () => {
    const older = await the.write("older.py", "older");
    await settle();
    const result = await runWhile(() => rename(older, path.join(the.home, "project/layers.py")));
    expect(result).toEqual(because(/layers\.py changed while the script ran/));
  });

  it("one that read what it wrote itself", async () => {
    const file = path.join(the.home, "data/engine.bin");
    const result = await runWhile(() => writeFile(file, "made"), { opened: [file] });
    expect(result).toEqual(because(/engine\.bin changed while the script ran/));
  });

  it("one beside whose modules another appeared meanwhile", async () => {
    const result = await runWhile(() => the.write("project/torch.py", ""));
    expect(result).toEqual(because(/torch\.py changed while the script ran/));
  });

  it("one that listed a folder that changed meanwhile, or missed a file that came", async () => {
    const data = path.join(the.home, "data");
    expect(await runWhile(() => the.write("data/new", ""), { listed: [data] })).toEqual(
      because(/which the script listed/),
    );
    const late = path.join(data, "late");
    expect(await runWhile(() => the.write("data/late", ""), { absent: [late] })).toEqual(
      because(/appeared/),
    );
  });

  it("one during which a package was installed", async () => {
    const result = await runWhile(() =>
      mkdir(path.join(the.home, "venv/lib/python3.11/site-packages/new-1.0.dist-info")),
    );
    expect(result).toEqual(because(/packages or the tool changed/));
  });

  it("one that was started without looking into the cache", async () => {
    const { cache, capture, request } = the;
    const { signal } = new AbortController();
    expect(await cache.store({ ...request }, capture, {}, reportOf("pass"), signal)).toEqual(
      because(/without looking/),
    );
  });

  it("one with a module that cannot be read", async () => {
    const file = path.join(the.home, "project/layers.py");
    await rm(file);
    await mkdir(file);
    await settle();
    expect(await the.run()).toEqual(because(/not a regular file/));
    await chmod(file, 0o755);
  });
});
