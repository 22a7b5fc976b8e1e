import { randomUUID } from "node:crypto";
import {
  cp,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  utimes,
  writeFile,
} from "node:fs/promises";
import path from "node:path";
import type { Report } from "../protocol/report.js";
import type { Verdict } from "../protocol/report.js";
import { cacheFormatVersion } from "./cacheKey.js";
import { forAll, hashText } from "./fingerprints.js";
import type { Manifest } from "./manifest.js";

/** What is written about one run, beside its report and its traces. */
export interface StoredEntry {
  readonly key: string;
  /** Hash of the manifest: entries below one key that have it in common are for the same run. */
  readonly manifestHash: string;
  readonly manifest: Manifest;
  /** ISO 8601. */
  readonly storedAt: string;
  /** As on the command line: "port.py", "-m package.port". */
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly interpreter: string;
  readonly verdict: Verdict;
  readonly summary: string;
  /** SHA-256 of parameters and inputs of the traces, by name. */
  readonly capturedHashes: Readonly<Record<string, string>>;
  readonly reportHash: string;
  /** Size of each file of the traces, in bytes, by its name in their folder. */
  readonly traceFiles: Readonly<Record<string, number>>;
}

/** Where one entry lies, in the cache's folder: runs/KEY/ID. */
export interface EntryPlace {
  readonly folder: string;
  readonly key: string;
  readonly id: string;
}

/**
 * Entries as folders. Each is written elsewhere and renamed into its place, and is renamed away before it is removed,
 * so that other processes see whole entries or none. Nothing but what looks like an entry is ever removed: the folder
 * may be one that somebody uses for other things as well.
 */
export function createEntryStore(root: string) {
  const runs = path.join(root, "runs");
  const incoming = path.join(root, "incoming");

  async function places(key?: string): Promise<EntryPlace[]> {
    const keys = (key === undefined ? await namesIn(runs) : [key]).filter((name) =>
      isKey.test(name),
    );
    const found = await forAll(keys, async (one) => {
      const ids = (await namesIn(path.join(runs, one))).filter((name) => isId.test(name));
      return ids.map((id) => ({ folder: path.join(runs, one, id), key: one, id }));
    });
    return found.flat();
  }

  async function write(entry: StoredEntry, report: string, traces?: string): Promise<EntryPlace> {
    const id = randomUUID();
    const place = { folder: path.join(runs, entry.key, id), key: entry.key, id };
    const temporary = path.join(incoming, id);
    try {
      await prepare();
      await mkdir(temporary, { mode: 0o700 });
      await writeFile(path.join(temporary, reportName), report, { mode: 0o600 });
      if (traces !== undefined) {
        await cp(traces, path.join(temporary, tracesName), { recursive: true, dereference: true });
      }
      const body = JSON.stringify(entry);
      const header = JSON.stringify({
        formatVersion: cacheFormatVersion,
        sha256: hashText(body),
      });
      await writeFile(path.join(temporary, entryName), `${header}\n${body}\n`, { mode: 0o600 });
      await moveIn(temporary, place.folder);
      return place;
    } finally {
      await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    }
  }

  /** What is left of a process that was killed while it wrote. */
  async function removeLeftovers(olderThanMs: number): Promise<void> {
    for (const name of (await namesIn(incoming)).filter((one) => isId.test(one))) {
      const folder = path.join(incoming, name);
      const there = await stat(folder).catch(() => undefined);
      if (there && Date.now() - there.mtimeMs >= olderThanMs) {
        await rm(folder, { recursive: true, force: true }).catch(() => undefined);
      }
    }
  }

  /** "gone": another process was first. */
  async function remove(place: EntryPlace): Promise<"removed" | "gone" | "kept"> {
    const gone = path.join(incoming, randomUUID());
    try {
      await mkdir(incoming, { recursive: true, mode: 0o700 });
      await rename(place.folder, gone);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "ENOENT" ? "gone" : "kept";
    }
    await rm(gone, { recursive: true, force: true }).catch(() => undefined);
    await rmdir(path.dirname(place.folder)).catch(() => undefined);
    return "removed";
  }

  async function prepare(): Promise<void> {
    await mkdir(runs, { recursive: true, mode: 0o700 });
    await mkdir(incoming, { recursive: true, mode: 0o700 });
    // Programs that make backups know by this file that they can leave the folder out.
    const tag =
      "Signature: 8a477f597d28d172789f06886806bc55\n# Reports of HSTU Parity, made again on demand.\n";
    await writeFile(path.join(root, "CACHEDIR.TAG"), tag, { flag: "wx" }).catch(() => undefined);
  }

  return { places, write, remove, removeLeftovers };
}

const entryName = "entry.json";
const reportName = "report.json";
const tracesName = "traces";
const isKey = /^[0-9a-f]{64}$/;
const isId = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** An entry that is not as it was written. */
export class DamagedEntry extends Error {}

/** @throws DamagedEntry, or an error of the file system that says nothing about the entry. */
export async function readEntry({ folder, key }: EntryPlace): Promise<StoredEntry> {
  const [header = "", body = "", end] = (await read(path.join(folder, entryName))).split("\n");
  const { formatVersion, sha256 } = parsed(header) as Record<string, unknown>;
  if (formatVersion !== cacheFormatVersion) throw new DamagedEntry("it has another format");
  if (end !== "" || hashText(body) !== sha256) throw new DamagedEntry("its text changed");
  const entry = parsed(body) as StoredEntry;
  if (entry.key !== key) throw new DamagedEntry("it lies in the wrong folder");
  return entry;
}

/** The report of an entry, after its traces were found to be there. @throws as `readEntry`. */
export async function readStoredReport(
  { folder }: EntryPlace,
  entry: StoredEntry,
): Promise<Report> {
  const text = await read(path.join(folder, reportName));
  if (hashText(text) !== entry.reportHash) throw new DamagedEntry("its report changed");
  await forAll(Object.entries(entry.traceFiles), async ([name, size]) => {
    const there = await stat(path.join(folder, tracesName, name)).catch(() => undefined);
    if (there?.size !== size) throw new DamagedEntry(`its trace ${name} is not whole`);
  });
  return parsed(text) as Report;
}

export function tracesOf({ folder }: EntryPlace): string {
  return path.join(folder, tracesName);
}

/** Marks an entry as used just now. */
export async function touch({ folder }: EntryPlace): Promise<void> {
  const now = new Date();
  await utimes(path.join(folder, entryName), now, now).catch(() => undefined);
}

/** Milliseconds since 1970 of the last use; 0 for an entry that cannot be asked. */
export async function usedAt({ folder }: EntryPlace): Promise<number> {
  return (await stat(path.join(folder, entryName)).catch(() => undefined))?.mtimeMs ?? 0;
}

/** Files below a folder with their sizes in bytes; empty when it is not there. */
export async function sizesIn(folder: string): Promise<Record<string, number>> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const sizes = await forAll(names, async (name) => {
    const there = await lstat(path.join(folder, name)).catch(() => undefined);
    return there?.isDirectory() === false ? [[name, there.size] as const] : [];
  });
  return Object.fromEntries(sizes.flat());
}

export async function bytesIn(folder: string): Promise<number> {
  return Object.values(await sizesIn(folder)).reduce((sum, size) => sum + size, 0);
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new DamagedEntry(`its ${path.basename(file)} is missing`);
  }
}

function parsed(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Told below.
  }
  throw new DamagedEntry("it is no JSON");
}

/** Another process may have removed the emptied folder of this key just before. */
async function moveIn(from: string, to: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await mkdir(path.dirname(to), { recursive: true, mode: 0o700 });
      return await rename(from, to);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || attempt === 20) throw error;
    }
  }
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
}
