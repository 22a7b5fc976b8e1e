import { mkdir, symlink } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

/** Bundles the runner child into a folder, as the build does, and returns the entry's path. */
export async function bundleRunner(folder: string): Promise<string> {
  const entry = path.join(folder, "runner.mjs");
  await mkdir(folder, { recursive: true });
  await build({
    absWorkingDir: root,
    entryPoints: ["engine/runner/runnerChild.ts"],
    outfile: entry,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    external: ["onnxruntime-node"],
    logLevel: "error",
  });
  // The child looks for onnxruntime-node from where it lies.
  await symlink(
    path.join(root, "node_modules"),
    path.join(folder, "node_modules"),
    "junction",
  ).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  return entry;
}
