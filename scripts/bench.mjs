// Prints figures; it is no timed test. Numpy's figures stand beside ours where a Python with numpy is found.
import { readdir } from "node:fs/promises";
import path from "node:path";
import { spawnSync } from "node:child_process";
import { root, setup } from "./setup.mjs";

await setup({ tests: false });
const { build } = await import("esbuild");
const folder = path.join(root, "test", "bench");
for (const name of (await readdir(folder)).filter((file) => file.endsWith("Bench.ts")).sort()) {
  const outfile = path.join(root, "dist", "bench", name.replace(/\.ts$/, ".mjs"));
  await build({
    entryPoints: [path.join(folder, name)],
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    mainFields: ["module", "main"],
    external: ["onnxruntime-node", "playwright-core"],
    logLevel: "warning",
  });
  const { status } = spawnSync(process.execPath, [outfile], { cwd: root, stdio: "inherit" });
  if (status !== 0) process.exitCode = 1;
}
