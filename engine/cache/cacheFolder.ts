import os from "node:os";
import path from "node:path";

/** Where the platform wants caches to lie; HSTU_PARITY_CACHE names another folder. Absolute. */
export function defaultCacheFolder(
  env: Readonly<Record<string, string | undefined>>,
  platform: NodeJS.Platform = process.platform,
): string {
  const own = env["HSTU_PARITY_CACHE"];
  if (own) return path.resolve(own);
  const home = env["HOME"] ?? env["USERPROFILE"] ?? os.homedir();
  if (platform === "win32") {
    const local = env["LOCALAPPDATA"] || path.win32.join(home, "AppData", "Local");
    return path.win32.join(local, "hstu-parity", "Cache");
  }
  if (platform === "darwin") return path.join(home, "Library", "Caches", "hstu-parity");
  const wanted = env["XDG_CACHE_HOME"];
  // The convention says that a relative name there is to be ignored.
  const caches = wanted && path.isAbsolute(wanted) ? wanted : path.join(home, ".cache");
  return path.join(caches, "hstu-parity");
}
