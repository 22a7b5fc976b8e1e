import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import type { CaptureIndex } from "../protocol/capture.js";
import { forAll, hashFile, hashText, hashValue, importableNames } from "./fingerprints.js";

/** What a run read, as it was then: an entry belongs to a later run only if all of it is still the same. */
export interface Manifest {
  /** SHA-256 of each file's content. Times and sizes are not trusted: a wrong hit costs more than reading again. */
  readonly files: Readonly<Record<string, string>>;
  /** Hash of the names that could be imported from each folder that a source lies in. */
  readonly sourceFolders: Readonly<Record<string, string>>;
  /** Hash of all names in each folder that the script listed. */
  readonly listedFolders: Readonly<Record<string, string>>;
  /** Files that the script tried to open and that were not there. */
  readonly absent: readonly string[];
  /** Hash of each variable that the script read; null where it was not set. */
  readonly environment: Readonly<Record<string, string | null>>;
}

/**
 * Records what a run read, after it. `startedAt` is from before the run, in milliseconds: what changed since then is
 * not what the run saw, and makes the run unfit for the cache. Returns the reason in that case.
 */
export async function takeManifest(
  capture: CaptureIndex,
  env: NodeJS.ProcessEnv,
  startedAt: number,
  signal: AbortSignal,
): Promise<Manifest | string> {
  const opened = capture.opened.filter((file) => !describesMachine(file));
  const names = [...new Set([...capture.sources, ...opened])].sort();
  const files: Record<string, string> = {};
  const reasons = await forAll(names, async (file) => {
    signal.throwIfAborted();
    const before = await changeOf(file);
    if (!before) return `${file} was read and is gone`;
    if (!before.regular) return `${file}, which the script read, is not a regular file`;
    if (isSince(before.changedAt, startedAt)) return `${file} changed while the script ran`;
    files[file] = await hashFile(file, signal);
    const after = await changeOf(file);
    return after?.changedAt === before.changedAt ? undefined : `${file} is being written`;
  });
  const reason = reasons.find((one) => one !== undefined);
  if (reason !== undefined) return reason;

  const folders = [...new Set(capture.sources.map((file) => path.dirname(file)))].sort();
  const sourceFolders: Record<string, string> = {};
  for (const folder of folders) {
    signal.throwIfAborted();
    const importable = await importableNames(folder);
    const changes = await forAll(importable, (name) => changeOf(path.join(folder, name)));
    const since = importable.find((_, index) => {
      const change = changes[index];
      return change?.regular === true && isSince(change.changedAt, startedAt);
    });
    if (since !== undefined) return `${path.join(folder, since)} changed while the script ran`;
    sourceFolders[folder] = hashValue(importable);
  }
  const listedFolders: Record<string, string> = {};
  for (const folder of new Set(capture.listed)) {
    const change = await changeOf(folder);
    if (change && isSince(change.changedAt, startedAt)) {
      return `${folder}, which the script listed, changed while it ran`;
    }
    listedFolders[folder] = await hashOfNames(folder);
  }
  const absent = [...new Set(capture.absent)].filter((file) => !(file in files)).sort();
  for (const file of absent) {
    if (await changeOf(file)) return `${file} appeared while the script ran`;
  }
  return {
    files,
    sourceFolders,
    listedFolders,
    absent,
    environment: Object.fromEntries(
      [...new Set(capture.environment)].sort().map((name) => [name, hashOfVariable(env, name)]),
    ),
  };
}

/** Hashes that were computed before in the same lookup: entries of one script share most of their files. */
export type KnownHashes = Map<string, Promise<string | undefined>>;

/** The first thing that is not as it was, in words for the user; undefined when everything is. */
export async function firstChange(
  manifest: Manifest,
  env: NodeJS.ProcessEnv,
  known: KnownHashes,
  signal: AbortSignal,
): Promise<string | undefined> {
  for (const [name, was] of Object.entries(manifest.environment)) {
    if (hashOfVariable(env, name) !== was) return `the environment variable ${name} changed`;
  }
  const once = (file: string): Promise<string | undefined> => {
    const hash = known.get(file) ?? hashFile(file, signal).catch(() => undefined);
    known.set(file, hash);
    return hash;
  };
  const changed = await forAll(Object.entries(manifest.files), async ([file, was]) => {
    const now = await once(file);
    return now === was ? undefined : `${file} ${now === undefined ? "is gone" : "changed"}`;
  });
  signal.throwIfAborted();
  const first = changed.find((one) => one !== undefined);
  if (first !== undefined) return first;
  for (const [folder, was] of Object.entries(manifest.sourceFolders)) {
    if (hashValue(await importableNames(folder)) !== was) {
      return `the modules in ${folder} are not the same`;
    }
  }
  for (const [folder, was] of Object.entries(manifest.listedFolders)) {
    if ((await hashOfNames(folder)) !== was) return `the files in ${folder} are not the same`;
  }
  for (const file of manifest.absent) if (await changeOf(file)) return `${file} is new`;
  return undefined;
}

/** Values may be secrets, so only hashes are kept. */
function hashOfVariable(env: NodeJS.ProcessEnv, name: string): string | null {
  const ownName =
    process.platform === "win32"
      ? Object.keys(env).find((one) => one.toUpperCase() === name.toUpperCase())
      : name;
  const value = ownName === undefined ? undefined : env[ownName];
  return value === undefined ? null : hashText(`${name}\0${value}`);
}

async function hashOfNames(folder: string): Promise<string> {
  return hashValue(
    await readdir(folder).then(
      (names) => names.sort(),
      () => null,
    ),
  );
}

/** The kernel's views of the machine: always new, and what they tell of the devices is in the first key. */
function describesMachine(file: string): boolean {
  return /^\/(proc|sys)\//.test(file) || file === "/dev/null";
}

/** When a file's content, name or rights changed last, in nanoseconds; undefined when it is not there. */
async function changeOf(
  file: string,
): Promise<{ changedAt: bigint; regular: boolean } | undefined> {
  const there = await stat(file, { bigint: true }).catch(() => undefined);
  if (!there) return undefined;
  const { mtimeNs, ctimeNs } = there;
  return { changedAt: mtimeNs > ctimeNs ? mtimeNs : ctimeNs, regular: there.isFile() };
}

/**
 * Whether a change may have come after a time. File systems take the time from a clock that lags a little; those that
 * count whole seconds may lag by two.
 */
function isSince(changedAt: bigint, startedAt: number): boolean {
  const lagMs = changedAt % 1_000_000_000n === 0n ? 2000 : 50;
  return Number(changedAt / 1_000_000n) >= startedAt - lagMs;
}
