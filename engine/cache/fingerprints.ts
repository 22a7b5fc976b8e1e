import { createHash } from "node:crypto";
import type { Dirent } from "node:fs";
import { open, readdir, stat } from "node:fs/promises";
import path from "node:path";

/** SHA-256 of text, in hex. */
export function hashText(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** SHA-256 of a file's content, in hex. @throws when the file cannot be read. */
export async function hashFile(file: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const buffer = Buffer.allocUnsafe(Math.min(Math.max(size, 1 << 12), 1 << 20));
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length);
      if (bytesRead === 0) return hash.digest("hex");
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
  }
}

/** The same for equal values, whatever the order of their fields; fields that are undefined do not count. */
export function hashValue(value: unknown): string {
  return hashText(JSON.stringify(value, inOrder) ?? "undefined");
}

function inOrder(_: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

/** Calls `work` for every item, a few at a time; results are in the items' order. */
export async function forAll<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let at = next++; at < items.length; at = next++) results[at] = await work(items[at] as T);
  };
  await Promise.all(Array.from({ length: Math.min(16, items.length) }, worker));
  return results;
}

/** Content of all Python files below a folder. @throws when it cannot be read. */
export async function hashPythonFiles(folder: string, signal: AbortSignal): Promise<string> {
  const names = (await readdir(folder, { recursive: true }))
    .filter((name) => name.endsWith(".py"))
    .sort();
  const hashes = await forAll(names, (name) => hashFile(path.join(folder, name), signal));
  return hashValue(names.map((name, index) => [name, hashes[index]]));
}

/**
 * Names in a folder that Python may import: a new one can take the place of a module that was imported from elsewhere.
 * Empty when the folder is not there.
 */
export async function importableNames(folder: string): Promise<string[]> {
  return (await entriesOf(folder)).filter(isImportable).map(nameOf).sort();
}

/**
 * State of one folder of `sys.path`, so that installing, upgrading and removing a package changes it: the names that
 * can be imported, and time and size of what describes the installed packages. A zipped one counts by time and size.
 */
export async function packageFolderState(folder: string): Promise<unknown> {
  const there = await stat(folder).catch(() => undefined);
  if (!there) return null;
  if (!there.isDirectory()) return [there.size, there.mtimeMs];
  const entries = await entriesOf(folder);
  const describing = entries.map(nameOf).filter((name) => describesPackages.test(name));
  const states = await forAll(describing.sort(), async (name) => {
    const one = await stat(path.join(folder, name)).catch(() => undefined);
    return [name, one?.size, one?.mtimeMs];
  });
  const isLibrary = /^(site|dist)-packages$/.test(path.basename(folder));
  return [isLibrary && there.mtimeMs, states, entries.filter(isImportable).map(nameOf).sort()];
}

const describesPackages = /\.(dist-info|egg-info|egg-link|pth)$|^__editable__/;

async function entriesOf(folder: string): Promise<Dirent[]> {
  return readdir(folder, { withFileTypes: true }).catch(() => []);
}

function nameOf({ name }: Dirent): string {
  return name;
}

function isImportable(entry: Dirent): boolean {
  const { name } = entry;
  // A folder needs no __init__.py to be a package; Python's own cache of compiled files is none.
  if (entry.isDirectory() || entry.isSymbolicLink()) {
    if (/^[\p{L}_][\p{L}\p{N}_]*$/u.test(name)) return name !== "__pycache__";
  }
  return /\.(py|pyw|pyc|so|pyd)$/.test(name);
}
