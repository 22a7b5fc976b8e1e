import path from "node:path";
import type { CaptureIndex } from "../protocol/capture.js";
import type { Report } from "../protocol/report.js";
import { keyOf, type CacheRequest } from "./cacheKey.js";
import {
  bytesIn,
  createEntryStore,
  DamagedEntry,
  readEntry,
  readStoredReport,
  sizesIn,
  touch,
  tracesOf,
  usedAt,
  type EntryPlace,
  type StoredEntry,
} from "./entryStore.js";
import { forAll, hashText, hashValue } from "./fingerprints.js";
import { firstChange, takeManifest, type KnownHashes } from "./manifest.js";

export type { CacheRequest } from "./cacheKey.js";

export interface CacheHit {
  readonly hit: true;
  readonly report: Report;
  /** ISO 8601. */
  readonly storedAt: string;
  /** The entry's own folder. */
  readonly folder: string;
  /** Where the traces lie that were stored with the run. */
  readonly traces?: string;
  /** SHA-256 of parameters and inputs of the traces, as they were stored. */
  readonly capturedHashes: Readonly<Record<string, string>>;
}

export interface CacheEntry {
  readonly id: string;
  readonly folder: string;
  /** As on the command line: "port.py", "-m package.port". */
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly interpreter: string;
  readonly verdict: Report["verdict"];
  readonly summary: string;
  /** ISO 8601. */
  readonly storedAt: string;
  readonly usedAt: string;
  readonly bytes: number;
  readonly capturedHashes: Readonly<Record<string, string>>;
}

/**
 * Reports of runs of scripts, so that an unchanged script does not run Python again. What cannot be decided is a miss:
 * an entry that does not belong is worse than a slow run. Neither `lookup` nor `store` fails a run: trouble with the
 * cache's own files is a reason. Both reject when they are cancelled.
 */
export interface RunCache {
  /** Reasons are clauses for the user: "/home/me/port/layers.py changed". */
  lookup(
    request: CacheRequest,
    signal: AbortSignal,
  ): Promise<CacheHit | { readonly hit: false; readonly reason: string }>;
  /**
   * Keeps a run that followed a `lookup` with this same request object, whose time tells what changed meanwhile.
   * `traces` is a folder to be copied into the entry.
   */
  store(
    request: CacheRequest,
    capture: CaptureIndex,
    capturedHashes: Readonly<Record<string, string>>,
    report: Report,
    signal: AbortSignal,
    traces?: string,
  ): Promise<{ readonly stored: true } | { readonly stored: false; readonly reason: string }>;
  /** The last used first. Entries that cannot be read are left out. */
  list(): Promise<CacheEntry[]>;
  /** Removes all entries, and nothing else that lies in the folder. */
  clear(): Promise<{ readonly entries: number; readonly bytes: number }>;
}

export interface RunCacheOptions {
  /** Absolute; made when something is stored. */
  readonly folder: string;
  /** The least recently used entries go when there is more. Default: 1 GiB. */
  readonly maxBytes?: number;
}

/** Entries for one key: variants of the same program, such as before and after an edit. */
const maxVariants = 8;

export function createRunCache({ folder, maxBytes = 2 ** 30 }: RunCacheOptions): RunCache {
  const entries = createEntryStore(folder);
  const started = new WeakMap<CacheRequest, { key: string; at: number }>();

  const lookup: RunCache["lookup"] = async (request, signal) => {
    signal.throwIfAborted();
    const at = Date.now();
    const key = await keyOf(request, signal);
    started.set(request, { key, at });
    const found = await readAll(await entries.places(key));
    if (found.length === 0) return miss("no earlier run was the same in arguments and environment");
    const known: KnownHashes = new Map();
    let reason: string | undefined;
    for (const { place, entry } of found) {
      signal.throwIfAborted();
      try {
        if (entry instanceof DamagedEntry) throw entry;
        const change = await firstChange(entry.manifest, request.env, known, signal);
        if (change === undefined) {
          const report = await readStoredReport(place, entry);
          await touch(place);
          return {
            hit: true,
            report,
            storedAt: entry.storedAt,
            folder: place.folder,
            ...(Object.keys(entry.traceFiles).length > 0 && { traces: tracesOf(place) }),
            capturedHashes: entry.capturedHashes,
          };
        }
        reason ??= change;
      } catch (error) {
        if (!(error instanceof DamagedEntry)) throw error;
        await entries.remove(place);
        reason ??= `the stored run was damaged: ${error.message}`;
      }
    }
    return miss(reason as string);
  };

  const store = async (
    request: CacheRequest,
    capture: CaptureIndex,
    capturedHashes: Readonly<Record<string, string>>,
    report: Report,
    signal: AbortSignal,
    traces?: string,
  ): Promise<string | undefined> => {
    signal.throwIfAborted();
    const unfit = whyNotCached(capture);
    if (unfit !== undefined) return unfit;
    const start = started.get(request);
    if (!start) return "the run was started without looking into the cache";
    const manifest = await takeManifest(capture, request.env, start.at, signal);
    if (typeof manifest === "string") return manifest;
    if ((await keyOf(request, signal)) !== start.key) {
      return "the interpreter, its packages or the tool changed while the script ran";
    }
    const text = JSON.stringify(report);
    const traceFiles = traces === undefined ? {} : await sizesIn(traces);
    const entry: StoredEntry = {
      key: start.key,
      manifestHash: hashValue(manifest),
      manifest,
      storedAt: new Date().toISOString(),
      program: nameOf(request),
      args: request.args,
      cwd: request.cwd,
      interpreter: request.interpreter.path,
      verdict: report.verdict,
      summary: report.summary,
      capturedHashes,
      reportHash: hashText(text),
      traceFiles,
    };
    // The header of the entry is shorter than 1 kB.
    const own = Buffer.byteLength(text) + Buffer.byteLength(JSON.stringify(entry)) + 1000;
    const bytes = Object.values(traceFiles).reduce((sum, size) => sum + size, own);
    if (bytes > maxBytes) return `the run takes ${bytes} bytes, more than the cache may`;
    signal.throwIfAborted();
    await entries.write(entry, text, traces);
    // The run is kept, whatever happens to the others.
    await makeRoom(start.key).catch(() => undefined);
    return undefined;
  };

  /**
   * Keeps the last used of all entries for the same run, and of all entries as many as there is room for. Every process
   * goes by the same order and spares nothing of its own: else two of them could remove one another's entry.
   */
  const makeRoom = async (key: string) => {
    await entries.removeLeftovers(3_600_000);
    const variants = await readAll(await entries.places(key));
    // Of runs on the same files the newest counts; the times of use are too coarse to tell it from the one before.
    const newest = new Map<string, string>();
    for (const { entry } of variants) {
      if (entry instanceof DamagedEntry) continue;
      const { manifestHash, storedAt } = entry;
      if (storedAt > (newest.get(manifestHash) ?? "")) newest.set(manifestHash, storedAt);
    }
    const seen = new Set<string>();
    for (const [index, { place, entry }] of variants.entries()) {
      const replaced =
        entry instanceof DamagedEntry ||
        index >= maxVariants ||
        entry.storedAt !== newest.get(entry.manifestHash) ||
        seen.has(entry.manifestHash);
      if (replaced) await entries.remove(place);
      else seen.add(entry.manifestHash);
    }
    const all = await forAll(await entries.places(), async (place) => ({
      place,
      bytes: await bytesIn(place.folder),
      used: await usedAt(place),
    }));
    let total = all.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { place, bytes } of all.sort(lastUsedFirst).reverse()) {
      if (total <= maxBytes) break;
      if ((await entries.remove(place)) !== "kept") total -= bytes;
    }
  };

  return {
    lookup: (request, signal) =>
      lookup(request, signal).catch((error: unknown) => {
        signal.throwIfAborted();
        return miss(`the cache cannot be read: ${messageOf(error)}`);
      }),
    store: async (request, capture, capturedHashes, report, signal, traces) => {
      try {
        const reason = await store(request, capture, capturedHashes, report, signal, traces);
        return reason === undefined ? { stored: true } : { stored: false, reason };
      } catch (error) {
        signal.throwIfAborted();
        return { stored: false, reason: `the cache cannot be written: ${messageOf(error)}` };
      }
    },
    list: async () => {
      const found = await readAll(await entries.places());
      const whole = found.flatMap(({ place, entry, used }) =>
        entry instanceof DamagedEntry ? [] : [{ place, entry, used }],
      );
      return forAll(whole, async ({ place, entry, used }) => ({
        id: place.id,
        folder: place.folder,
        program: entry.program,
        args: entry.args,
        cwd: entry.cwd,
        interpreter: entry.interpreter,
        verdict: entry.verdict,
        summary: entry.summary,
        storedAt: entry.storedAt,
        usedAt: new Date(used).toISOString(),
        bytes: await bytesIn(place.folder),
        capturedHashes: entry.capturedHashes,
      }));
    },
    clear: async () => {
      const removed = await forAll(await entries.places(), async (place) => {
        const bytes = await bytesIn(place.folder);
        return (await entries.remove(place)) === "removed" ? bytes : undefined;
      });
      await entries.removeLeftovers(0);
      const sizes = removed.filter((bytes) => bytes !== undefined);
      return { entries: sizes.length, bytes: sizes.reduce((sum, bytes) => sum + bytes, 0) };
    },
  };
}

/** Why the result of such a run says nothing about the next one; undefined when it may be kept. */
export function whyNotCached(capture: CaptureIndex): string | undefined {
  const { exitCode, error, randomness, childProcesses } = capture;
  if (exitCode === null) return "the script was ended before it was done";
  if (exitCode < 0 || exitCode > 128) return "the script was ended by a signal";
  // Memory, disk and network are no part of any key.
  if (error && error.type !== "SystemExit") return `the script raised ${error.type}`;
  if (randomness.unseeded.length > 0) {
    return `the script draws random numbers without a seed (${randomness.unseeded.join(", ")})`;
  }
  if (childProcesses > 0) return "the script starts processes, and what they read is not seen";
  return undefined;
}

interface Found {
  readonly place: EntryPlace;
  readonly entry: StoredEntry | DamagedEntry;
  readonly used: number;
}

/** The last used first. */
async function readAll(places: readonly EntryPlace[]): Promise<Found[]> {
  const all = await forAll(places, async (place): Promise<Found> => {
    const used = await usedAt(place);
    try {
      return { place, entry: await readEntry(place), used };
    } catch (error) {
      if (!(error instanceof DamagedEntry)) throw error;
      return { place, entry: error, used };
    }
  });
  return all.sort(lastUsedFirst);
}

function lastUsedFirst(
  a: { place: EntryPlace; used: number },
  b: { place: EntryPlace; used: number },
): number {
  return b.used - a.used || (a.place.id < b.place.id ? 1 : -1);
}

function nameOf({ program, cwd }: CacheRequest): string {
  if ("module" in program) return `-m ${program.module}`;
  const relative = path.relative(cwd, program.script);
  return relative.startsWith("..") || path.isAbsolute(relative) ? program.script : relative;
}

function miss(reason: string): { hit: false; reason: string } {
  return { hit: false, reason };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
