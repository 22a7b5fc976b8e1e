// The fault benchmark: how well the tool names a planted fault. It takes minutes, so it is no part of the tests.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { runQuietly } from "./commands.mjs";
import { bundledScripts, bundleScript, python, root, setup } from "./setup.mjs";

await setup({ tests: false, withPython: true });
const requirements = path.join(root, "test/faults/requirements.txt");
const [name, version] = readFileSync(requirements, "utf8").trim().split("==");
const probe = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))";
const installed = spawnSync(python, ["-c", probe, name], { encoding: "utf8" }).stdout.trim();
if (installed !== version) {
  const pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
  await runQuietly(name, [...pip, "-r", requirements], { cwd: root });
}
const outfile = path.join(bundledScripts, "faultBench.mjs");
await bundleScript("test/faults/faultBench.ts", outfile);
const args = [outfile, "--python", python, ...process.argv.slice(2)];
const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" });
process.exitCode = status ?? 1;
