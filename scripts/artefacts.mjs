// Makes the sample's committed artefacts again from its sources.
import { spawnSync } from "node:child_process";
import path from "node:path";
import { python, root, setup } from "./setup.mjs";

await setup({ tests: true });
const { build } = await import("esbuild");
const outfile = path.join(root, "dist", "makeArtefacts.mjs");
await build({
  entryPoints: [path.join(root, "scripts", "makeArtefacts.ts")],
  outfile,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  mainFields: ["module", "main"],
  external: ["onnxruntime-node"],
  logLevel: "warning",
});
const { status } = spawnSync(
  process.execPath,
  [outfile, "--out", path.join("samples", "hstu", "artefacts", "tiny")],
  { cwd: root, stdio: "inherit", env: { ...process.env, HSTU_PARITY_PYTHON: python } },
);
process.exitCode = status ?? 1;
