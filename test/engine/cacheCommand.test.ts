import { mkdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { formatEntries } from "../../engine/cli/cacheCommand.js";
import { runCommandLine } from "../../engine/cli/commandLine.js";
import { makeCachedScript, reportOf, type CachedScript } from "./cache/cachedScript.js";

let the: CachedScript;
beforeEach(async () => {
  the = await makeCachedScript();
});
afterEach(() => the.remove());

async function command(...args: string[]) {
  let stdout = "";
  let stderr = "";
  const code = await runCommandLine(args, {
    cwd: the.home,
    env: { HSTU_PARITY_CACHE: the.folder },
    stdout: { write: (text) => (stdout += text), columns: 120 },
    stderr: { write: (text) => (stderr += text) },
    runnerEntry: "",
    agentFolder: "",
  });
  return { code, stdout, stderr };
}

describe("cache list", () => {
  it("says that nothing is stored, and makes no folder", async () => {
    const none = { code: 0, stdout: `No run is stored in ${the.folder}.\n`, stderr: "" };
    expect(await command("cache", "list")).toEqual(none);
    await expect(stat(the.folder)).rejects.toThrow("ENOENT");
  });

  it("prints age, size, script and verdict of each, and the sum", async () => {
    await the.run({}, {}, reportOf("fail"));
    await the.run({ args: ["two words"] });
    const [entry] = (await the.cache.list()).filter(({ verdict }) => verdict === "fail");
    const yesterday = new Date(Date.now() - 30 * 3_600_000);
    await utimes(path.join(entry?.folder as string, "entry.json"), yesterday, yesterday);
    const { code, stdout, stderr } = await command("cache", "list");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [head, first, second, ...end] = stdout.trimEnd().split("\n");
    expect(head).toMatch(/^Stored +Used +Size +Verdict +Script +In$/);
    expect(first).toMatch(/^just now +just now +\d\.\d kB +pass +port\.py "two words" +\//);
    expect(second).toMatch(/^just now +30 h ago +\d\.\d kB +fail +port\.py --config tiny +\//);
    expect(end).toEqual(["", expect.stringMatching(/^2 runs, \d\.\d kB, in /)]);
  });

  it("fits the terminal", async () => {
    await the.run({ args: ["--a-very-long-argument".repeat(10)] });
    const text = formatEntries(await the.cache.list(), the.folder, 90, Date.now());
    const table = text.split("\n").slice(0, 2);
    for (const line of table) expect(line.length).toBeLessThanOrEqual(90);
    expect(text).toContain("…");
  });

  it("gives JSON to other programs", async () => {
    await the.run();
    const { stdout } = await command("cache", "list", "--format", "json");
    const parsed = JSON.parse(stdout) as { bytes: number; entries: { bytes: number }[] };
    expect(parsed).toMatchObject({
      folder: the.folder,
      entries: [{ program: "port.py", args: ["--config", "tiny"], verdict: "pass" }],
    });
    expect(parsed.bytes).toBe(parsed.entries[0]?.bytes);
  });
});

describe("cache clear", () => {
  it("removes everything and says how much", async () => {
    await the.run();
    const { code, stdout } = await command("cache", "clear");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Removed 1 run \(\d\.\d kB\) from .*cache\.\n$/);
    expect(await the.cache.list()).toEqual([]);
    expect((await command("cache", "clear")).stdout).toBe(
      `There was nothing to remove in ${the.folder}.\n`,
    );
  });

  it("says what it could not remove", async () => {
    await the.run();
    await rm(path.join(the.folder, "incoming"), { recursive: true });
    await writeFile(path.join(the.folder, "incoming"), "in the way");
    const { code, stdout, stderr } = await command("cache", "clear");
    expect(`${stdout}${stderr}`).toMatch(/cannot|could not be removed/);
    expect(code).toBe(2);
  });
});

describe("a wrong request", () => {
  it("is answered with the command's help or the reason", async () => {
    const bare = await command("cache");
    expect(bare.code).toBe(2);
    expect(bare.stderr).toContain("hstu-parity cache list");
    expect((await command("cache", "burn")).code).toBe(2);
    expect((await command("cache", "list", "--format", "xml")).code).toBe(2);
    expect((await command("cache", "--help")).stdout).toContain("HSTU_PARITY_CACHE");
  });

  it("is a cache that cannot be read", async () => {
    await mkdir(path.dirname(the.folder), { recursive: true });
    await writeFile(the.folder, "no folder");
    const { code, stderr } = await command("cache", "list");
    expect(code).toBe(2);
    expect(stderr).toContain(`the cache ${the.folder} cannot be read`);
    expect(stderr).toContain("HSTU_PARITY_CACHE");
  });
});
