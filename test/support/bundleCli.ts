import path from "node:path";
import { build } from "esbuild";
import { bundleRunner, root } from "./bundleRunner.js";

/** Bundles the command line and its runner into a folder, as the build does, and returns the command line's path. */
export async function bundleCli(folder: string): Promise<string> {
  await bundleRunner(folder);
  const outfile = path.join(folder, "cli.mjs");
  await build({
    absWorkingDir: root,
    entryPoints: ["engine/cli/main.ts"],
    outfile,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    mainFields: ["module", "main"],
    external: ["onnxruntime-node"],
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
    define: { HSTU_PARITY_VERSION: JSON.stringify("1.2.3-test") },
    logLevel: "error",
  });
  return outfile;
}
