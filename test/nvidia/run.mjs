// node test/nvidia/run.mjs FOLDER [FILE…]: runs NVIDIA's own integration tests of nvtripy under the capture agent.
import path from "node:path";
import { spawnSync } from "node:child_process";
import { bundledScripts, bundleScript, python, root } from "../../scripts/setup.mjs";

const runner = path.join(bundledScripts, "runner.mjs");
await bundleScript("engine/runner/runnerChild.ts", runner);
const outfile = path.join(bundledScripts, "nvidiaTests.mjs");
await bundleScript("test/nvidia/runTests.ts", outfile);
const { status } = spawnSync(process.execPath, [outfile, ...process.argv.slice(2)], {
  stdio: "inherit",
  env: {
    ...process.env,
    HSTU_PARITY_ROOT: root,
    HSTU_PARITY_RUNNER: runner,
    HSTU_PARITY_PYTHON: process.env.HSTU_PARITY_PYTHON ?? python,
  },
});
process.exitCode = status ?? 1;
