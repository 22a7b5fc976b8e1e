// Prints figures; it is no timed test. NumPy's figures stand beside ours where a Python with NumPy is found.
import { spawnSync } from "node:child_process";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { bundledScripts, bundleScript, root, setup } from "./setup.mjs";

await setup({ tests: false });
const benches = (await readdir(path.join(root, "test/bench"))).filter((f) =>
  f.endsWith("Bench.ts"),
);
if (benches.length === 0) process.exitCode = 1;
for (const name of benches.sort()) {
  const outfile = path.join(bundledScripts, name.replace(/\.ts$/, ".mjs"));
  await bundleScript(path.join("test/bench", name), outfile);
  const { status } = spawnSync(process.execPath, [outfile], { cwd: root, stdio: "inherit" });
  if (status !== 0) process.exitCode = 1;
}
