import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { CacheRequest } from "../../../engine/cache/cacheKey.js";
import { createRunCache, type RunCache } from "../../../engine/cache/runCache.js";
import type { CaptureIndex } from "../../../engine/protocol/capture.js";
import type { Report } from "../../../engine/protocol/report.js";

export const { signal } = new AbortController();

/** A script with everything that it reads, on disk, and a cache beside it. */
export interface CachedScript {
  readonly home: string;
  readonly folder: string;
  readonly cache: RunCache;
  readonly request: CacheRequest;
  readonly capture: CaptureIndex;
  /** Writes a file below the home and returns its absolute name. */
  write(name: string, text: string): Promise<string>;
  /** A run: the cache is asked and told. */
  run(
    changes?: Partial<CacheRequest>,
    seen?: Partial<CaptureIndex>,
    report?: Report,
  ): ReturnType<RunCache["store"]>;
  /** Asks with a request of its own, as another process would. */
  ask(changes?: Partial<CacheRequest>): ReturnType<RunCache["lookup"]>;
  remove(): Promise<void>;
}

/** Files are older than a run when this has passed since they were written. */
export const settle = (): Promise<void> => delay(75);

export async function makeCachedScript({
  maxBytes,
}: { maxBytes?: number } = {}): Promise<CachedScript> {
  const home = await realpath(await mkdtemp(path.join(os.tmpdir(), "cache test ü ")));
  const write = async (name: string, text: string): Promise<string> => {
    const file = path.join(home, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, text);
    return file;
  };
  const script = await write("project/port.py", "import layers\n");
  const layers = await write("project/layers.py", "import editable\n");
  await write("project/notes.txt", "nothing that matters");
  const editable = await write("editable/src/editable/__init__.py", "x = 1\n");
  const weights = await write("data/weights.bin", "weights");
  const site = path.join(home, "venv/lib/python3.11/site-packages");
  await write("venv/lib/python3.11/site-packages/torch-2.9.0.dist-info/METADATA", "torch");
  await write("venv/lib/python3.11/site-packages/__editable__.editable.pth", "…");
  const python = await write("venv/bin/python", "#!/bin/sh\n");
  await write("agent/hstu_capture/__main__.py", "watch()\n");
  const bundle = await write("tool/cli.mjs", "compare()\n");
  const cwd = path.join(home, "project");
  const request: CacheRequest = {
    program: { script },
    args: ["--config", "tiny"],
    cwd,
    interpreter: {
      path: python,
      source: ".venv",
      version: "3.11.7",
      executable: python,
      prefix: path.join(home, "venv"),
      searchPath: [site, path.join(home, "editable/src")],
      packages: { torch: "2.9.0", numpy: "2.3.1" },
      installer: "pip",
    },
    tool: { version: "1.0.0", files: [bundle] },
    agentFolder: path.join(home, "agent"),
    options: { provider: "cpu", candidates: ["tripy"], runFile: undefined },
    devices: ["cpu"],
    env: { PATH: "/bin", PYTHONHASHSEED: "0", CONFIG: "tiny", UNRELATED: "1" },
  };
  const capture: CaptureIndex = {
    formatVersion: 1,
    script,
    args: [...request.args],
    cwd,
    exitCode: 0,
    traces: [],
    versions: {},
    emulated: [],
    comparisons: [],
    sources: [script, layers, editable],
    opened: [weights],
    environment: ["CONFIG", "NOT_SET"],
    randomness: { unseeded: [], seeded: ["port.py:1"] },
    childProcesses: 0,
  };
  const folder = path.join(home, "cache");
  const cache = createRunCache({ folder, ...(maxBytes !== undefined && { maxBytes }) });
  await settle();
  return {
    home,
    folder,
    cache,
    request,
    capture,
    write,
    run: async (changes = {}, seen = {}, report = reportOf("pass")) => {
      const own = { ...request, ...changes };
      await cache.lookup(own, signal);
      return cache.store(own, { ...capture, ...seen }, { w: "00ff" }, report, signal);
    },
    ask: (changes = {}) => createRunCache({ folder }).lookup({ ...request, ...changes }, signal),
    remove: () => rm(home, { recursive: true, force: true }),
  };
}

export function reportOf(verdict: Report["verdict"], filler = ""): Report {
  return {
    schemaVersion: 1,
    tool: { name: "HSTU Parity", version: "1.0.0" },
    verdict,
    summary: `a run that ends with ${verdict}${filler}`,
    run: {
      id: "1",
      startedAt: "2026-01-01T00:00:00.000Z",
      durationMs: 1,
      command: [],
      base: "/",
      cache: "miss",
      emulated: [],
      environment: { os: "", cpu: "", gpus: [], packages: {} },
    },
    reference: "torch",
    implementations: [],
    sources: [],
    pairs: [],
    problems: [],
  };
}
