import { spawn } from "node:child_process";
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { defaultCacheFolder } from "../../../engine/cache/cacheFolder.js";
import { createRunCache } from "../../../engine/cache/runCache.js";
import { makeCachedScript, reportOf, settle, signal, type CachedScript } from "./cachedScript.js";

let the: CachedScript;
beforeEach(async () => {
  the = await makeCachedScript();
});
afterEach(() => the.remove());

async function onlyEntry(): Promise<string> {
  const all = await the.cache.list();
  expect(all).toHaveLength(1);
  return (all[0] as (typeof all)[number]).folder;
}

describe("a damaged entry", () => {
  const damages: [string, (folder: string) => Promise<unknown>][] = [
    ["cut short", (folder) => cut(path.join(folder, "entry.json"))],
    ["empty", (folder) => writeFile(path.join(folder, "entry.json"), "")],
    [
      "edited",
      (folder) =>
        edit(path.join(folder, "entry.json"), '"capturedHashes":{"w"', '"capturedHashes":{"v"'),
    ],
    [
      "of another format",
      (folder) => edit(path.join(folder, "entry.json"), '"formatVersion":1', '"formatVersion":2'),
    ],
    ["without its manifest", (folder) => rm(path.join(folder, "entry.json"))],
    ["without its report", (folder) => rm(path.join(folder, "report.json"))],
    ["with a report cut short", (folder) => cut(path.join(folder, "report.json"))],
    ["with another report", (folder) => edit(path.join(folder, "report.json"), "pass", "fail")],
    ["without a trace", (folder) => rm(path.join(folder, "traces/torch.safetensors"))],
    ["with a trace cut short", (folder) => cut(path.join(folder, "traces/deep/tripy.trace.json"))],
  ];

  it.each(damages)("%s: a miss, and it is removed", async (_, damage) => {
    const traces = path.join(the.home, "out");
    await the.write("out/torch.safetensors", "tensors");
    await the.write("out/deep/tripy.trace.json", "{}");
    const request = { ...the.request };
    await the.cache.lookup(request, signal);
    const report = reportOf("pass");
    await the.cache.store(request, the.capture, { w: "00" }, report, signal, traces);
    const hit = await the.ask();
    expect(hit).toMatchObject({ hit: true });
    const folder = await onlyEntry();
    expect(hit).toHaveProperty("traces", path.join(folder, "traces"));
    expect(await readFile(path.join(folder, "traces/torch.safetensors"), "utf8")).toBe("tensors");
    await damage(folder);
    const missed = await the.ask();
    expect(missed).toMatchObject({ hit: false });
    expect(missed).toHaveProperty("reason", expect.stringContaining("damaged"));
    await expect(stat(folder)).rejects.toThrow("ENOENT");
    expect(await the.ask()).toHaveProperty("reason", expect.stringContaining("no earlier run"));
  });

  async function cut(file: string): Promise<void> {
    const text = await readFile(file, "utf8");
    await writeFile(file, text.slice(0, text.length / 2));
  }

  async function edit(file: string, from: string, to: string): Promise<void> {
    const text = await readFile(file, "utf8");
    expect(text).toContain(from);
    await writeFile(file, text.replace(from, to));
  }
});

describe("the size of the cache", () => {
  /** Stores one run for each name, a long time apart. */
  async function fill(cache: CachedScript["cache"], names: readonly string[], from = 0) {
    for (const [index, name] of names.entries()) {
      const request = { ...the.request, args: [name] };
      await cache.lookup(request, signal);
      const report = reportOf("pass", "x".repeat(10_000));
      expect(await cache.store(request, the.capture, {}, report, signal)).toEqual({ stored: true });
      const [newest] = (await cache.list()).filter((entry) => entry.args[0] === name);
      const then = new Date(Date.UTC(2026, 0, 1 + from + index));
      await utimes(path.join(newest?.folder as string, "entry.json"), then, then);
    }
  }

  const kept = async (cache: CachedScript["cache"]) =>
    (await cache.list()).map((entry) => entry.args[0]).sort();

  it("stays below its limit: what was not used for the longest goes first", async () => {
    const cache = createRunCache({ folder: the.folder, maxBytes: 75_000 });
    await fill(cache, ["a", "b", "c"]);
    expect(await kept(cache)).toEqual(["a", "b", "c"]);
    expect(await the.ask({ args: ["a"] })).toMatchObject({ hit: true });
    await fill(cache, ["d"], 10);
    expect(await kept(cache)).toEqual(["a", "c", "d"]);
    const bytes = (await cache.list()).reduce((sum, entry) => sum + entry.bytes, 0);
    expect(bytes).toBeLessThanOrEqual(75_000);
  });

  it("is no reason to fail: a run that is larger than all of it is not kept", async () => {
    const cache = createRunCache({ folder: the.folder, maxBytes: 5_000 });
    const request = { ...the.request };
    await cache.lookup(request, signal);
    const report = reportOf("pass", "x".repeat(10_000));
    expect(await cache.store(request, the.capture, {}, report, signal)).toMatchObject({
      stored: false,
      reason: expect.stringContaining("more than the cache may") as string,
    });
  });

  it("does not grow by runs that replace one another", async () => {
    await the.run();
    await the.run({}, {}, reportOf("fail"));
    expect(await onlyEntry()).toBeTruthy();
    expect(await the.ask()).toMatchObject({ report: { verdict: "fail" } });
  });

  it("keeps eight variants of one script, the last used", async () => {
    for (let edit = 0; edit < 10; edit++) {
      await the.write("project/layers.py", `edit = ${edit}\n`);
      await settle();
      expect(await the.run()).toEqual({ stored: true });
    }
    expect(await the.cache.list()).toHaveLength(8);
    expect(await the.ask()).toMatchObject({ hit: true });
    await the.write("project/layers.py", "edit = 0\n");
    expect(await the.ask()).toMatchObject({ hit: false });
  });

  it("counts nothing that a killed process left: that goes too", async () => {
    const left = path.join(the.folder, "incoming/01234567-89ab-cdef-0123-456789abcdef");
    await mkdir(left, { recursive: true });
    await the.run();
    await stat(left);
    await utimes(left, new Date(0), new Date(0));
    await the.run();
    await expect(stat(left)).rejects.toThrow("ENOENT");
    expect(await readdir(path.join(the.folder, "incoming"))).toEqual([]);
  });
});

describe("trouble with the cache's folder", () => {
  it("is a reason: a file stands where the folder should be", async () => {
    await writeFile(the.folder, "not a folder");
    expect(await the.ask()).toMatchObject({
      hit: false,
      reason: expect.stringContaining("the cache cannot be read") as string,
    });
    expect(await the.run()).toMatchObject({
      stored: false,
      reason: expect.stringContaining("the cache cannot be written") as string,
    });
  });

  it("is a reason: writing breaks off half-way, and nothing of it stays", async () => {
    const traces = path.join(the.home, "out");
    await the.write("out/first.safetensors", "tensors");
    await symlink(path.join(the.home, "gone"), path.join(traces, "second.safetensors"));
    const request = { ...the.request };
    await the.cache.lookup(request, signal);
    const report = reportOf("pass");
    expect(await the.cache.store(request, the.capture, {}, report, signal, traces)).toMatchObject({
      stored: false,
      reason: expect.stringContaining("the cache cannot be written") as string,
    });
    expect(await readdir(path.join(the.folder, "incoming"))).toEqual([]);
    expect(await readdir(path.join(the.folder, "runs"))).toEqual([]);
  });

  it("does not let a cancelled run go on", async () => {
    const controller = new AbortController();
    controller.abort(new Error("cancelled"));
    await expect(the.cache.lookup(the.request, controller.signal)).rejects.toThrow("cancelled");
    await the.cache.lookup(the.request, signal);
    await expect(
      the.cache.store(the.request, the.capture, {}, reportOf("pass"), controller.signal),
    ).rejects.toThrow("cancelled");
  });

  it("is nobody else's: only its owner can read what lies there", async () => {
    await the.run();
    const folder = await onlyEntry();
    const mode = async (file: string) => (await stat(file)).mode & 0o077;
    expect(await mode(path.join(the.folder, "runs"))).toBe(0);
    expect(await mode(path.join(folder, "entry.json"))).toBe(0);
    const text = await readFile(path.join(folder, "entry.json"), "utf8");
    expect(text).toContain('"CONFIG"');
    // Values of variables may be secrets.
    expect(text.replace("--config", "")).not.toMatch(/CONFIG":"tiny/);
    await chmod(folder, 0o700);
  });
});

describe("two processes at once", () => {
  it("store, find, replace and evict without ever seeing half an entry", async () => {
    const other = () => createRunCache({ folder: the.folder, maxBytes: 20_000 });
    const caches = [other(), other(), other(), other()];
    const results = await Promise.all(
      caches.map(async (cache, index) => {
        const seen: unknown[] = [];
        for (let turn = 0; turn < 12; turn++) {
          const request = { ...the.request, args: [String(turn % 3)] };
          const found = await cache.lookup(request, signal);
          seen.push(found.hit ? found.report.summary : found.reason);
          const report = reportOf("pass", ` ${index} ${"x".repeat(3000)}`);
          seen.push(await cache.store(request, the.capture, {}, report, signal));
        }
        return seen;
      }),
    );
    const words = JSON.stringify(results);
    expect(words).not.toContain("cannot be");
    expect(words).not.toMatch(/its report changed|its text changed|no JSON|not whole/);
    expect(words).toContain('"stored":true');
    const left = await the.cache.list();
    expect(left.length).toBeGreaterThan(0);
    // None counts what another removed as still there, and so removes more than is needed.
    expect(left.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(20_000);
  });

  it("one of which is killed while it writes leaves no entry", async () => {
    await the.run();
    const program = `
      const fs = require("node:fs"), path = require("node:path");
      const folder = path.join(process.argv[1], "incoming", "01234567-89ab-cdef-0123-456789abcdef");
      fs.mkdirSync(folder, { recursive: true });
      fs.writeFileSync(path.join(folder, "report.json"), "{");
      process.kill(process.pid, "SIGKILL");`;
    const child = spawn(process.execPath, ["-e", program, the.folder]);
    await new Promise((resolve) => child.once("close", resolve));
    expect(await the.cache.list()).toHaveLength(1);
    expect(await the.ask()).toMatchObject({ hit: true });
  });
});

describe("clearing", () => {
  it("removes all entries, says how much, and leaves everything else that lies there", async () => {
    await the.run();
    await the.run({ args: ["other"] });
    const size = (await the.cache.list()).reduce((sum, entry) => sum + entry.bytes, 0);
    const [entry] = await the.cache.list();
    const key = path.basename(path.dirname(entry?.folder as string));
    const others = [
      "cache/runs/2026-11-23/01234567-89ab-cdef-0123-456789abcdef/model.pt",
      `cache/runs/${key}/mine/model.pt`,
      "cache/mine.txt",
      "cache/incoming/mine/x",
    ];
    for (const name of others) await the.write(name, "mine");
    expect(await the.cache.clear()).toEqual({ entries: 2, bytes: size });
    expect(await the.cache.list()).toEqual([]);
    for (const name of others) await stat(path.join(the.home, name));
    expect(await the.ask()).toMatchObject({ hit: false });
    expect(new Set(await readdir(path.join(the.folder, "runs")))).toEqual(
      new Set(["2026-11-23", key]),
    );
  });

  it("and listing a cache that was never used finds nothing", async () => {
    const cache = createRunCache({ folder: path.join(the.home, "never") });
    expect(await cache.list()).toEqual([]);
    expect(await cache.clear()).toEqual({ entries: 0, bytes: 0 });
    await expect(stat(path.join(the.home, "never"))).rejects.toThrow("ENOENT");
  });
});

describe("an entry in the list", () => {
  it("says what was run, with what result", async () => {
    const script = { script: path.join(the.home, "project/sub/port.py") };
    await the.run({ program: script }, {}, reportOf("fail"));
    expect(await the.cache.list()).toMatchObject([
      {
        program: "sub/port.py",
        args: ["--config", "tiny"],
        cwd: path.join(the.home, "project"),
        verdict: "fail",
        summary: "a run that ends with fail",
        capturedHashes: { w: "00ff" },
      },
    ]);
    await settle();
    await the.run({ program: { module: "package.port" } });
    expect((await the.cache.list()).map((entry) => entry.program)).toEqual([
      "-m package.port",
      "sub/port.py",
    ]);
  });
});

describe("a lookup", () => {
  it("is quick for a script of the usual size", async () => {
    const sources: string[] = [];
    for (let file = 0; file < 60; file++) {
      sources.push(await the.write(`project/p${file % 6}/m${file}.py`, "x = 1\n".repeat(3000)));
    }
    const packages = "venv/lib/python3.11/site-packages";
    for (let one = 0; one < 150; one++)
      await the.write(`${packages}/p${one}-1.0.dist-info/METADATA`, "");
    await settle();
    expect(await the.run({}, { sources: [...the.capture.sources, ...sources] })).toEqual({
      stored: true,
    });
    const times: number[] = [];
    for (let turn = 0; turn < 5; turn++) {
      const started = performance.now();
      expect(await the.ask()).toMatchObject({ hit: true });
      times.push(performance.now() - started);
    }
    expect(Math.min(...times)).toBeLessThan(100);
  });
});

describe("the folder by default", () => {
  it("is the platform's for caches, unless the environment names one", () => {
    const home = { HOME: "/home/me" };
    expect(defaultCacheFolder(home, "linux")).toBe("/home/me/.cache/hstu-parity");
    expect(defaultCacheFolder({ ...home, XDG_CACHE_HOME: "/big" }, "linux")).toBe(
      "/big/hstu-parity",
    );
    expect(defaultCacheFolder({ ...home, XDG_CACHE_HOME: "big" }, "linux")).toBe(
      "/home/me/.cache/hstu-parity",
    );
    expect(defaultCacheFolder(home, "darwin")).toBe("/home/me/Library/Caches/hstu-parity");
    expect(defaultCacheFolder({ LOCALAPPDATA: "C:\\Users\\me\\AppData\\Local" }, "win32")).toBe(
      "C:\\Users\\me\\AppData\\Local\\hstu-parity\\Cache",
    );
    expect(defaultCacheFolder({ ...home, HSTU_PARITY_CACHE: "/mine" }, "linux")).toBe("/mine");
  });
});
