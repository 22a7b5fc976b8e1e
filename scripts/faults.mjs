// Plants faults into ports and prints how well they are found: see test/faults.
import { spawnSync } from "node:child_process";
import path from "node:path";
import { bundledScripts, bundleScript, python, root, setup } from "./setup.mjs";

await setup({ tests: true });
const requirements = path.join(root, "test/faults/requirements.txt");
const installed = spawnSync(
  python,
  ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements],
  { stdio: ["ignore", "ignore", "inherit"] },
);
if (installed.status !== 0) process.exit(installed.status ?? 1);
const outfile = path.join(bundledScripts, "faults.mjs");
await bundleScript("test/faults/bench.ts", outfile);
const { status } = spawnSync(process.execPath, [outfile, ...process.argv.slice(2)], {
  cwd: root,
  env: { ...process.env, HSTU_PARITY_ROOT: root },
  stdio: "inherit",
});
process.exitCode = status ?? 1;
