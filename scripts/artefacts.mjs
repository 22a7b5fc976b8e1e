// Makes the sample's committed artefacts again from its sources.
import { spawnSync } from "node:child_process";
import path from "node:path";
import { bundledScripts, bundleScript, python, root, setup } from "./setup.mjs";

await setup({ tests: true });
const outfile = path.join(bundledScripts, "makeArtefacts.mjs");
await bundleScript("scripts/makeArtefacts.ts", outfile);
const { status } = spawnSync(
  process.execPath,
  [outfile, "--out", path.join("samples", "hstu", "artefacts", "tiny")],
  { cwd: root, stdio: "inherit", env: { ...process.env, HSTU_PARITY_PYTHON: python } },
);
process.exitCode = status ?? 1;
