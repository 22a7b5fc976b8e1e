// Runs the parts of `npm run check` and `npm test` and counts their tests.
import { readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { run } from "./commands.mjs";
import { chromium, root } from "./setup.mjs";

const bin = (name) => path.join(root, "node_modules", ".bin", name);

/** Runs a command in the repository, as its tests and checks are run. */
export function command(line, env = {}) {
  // One choice of browser for all: the panel's tests and the kit of VS Code's web server ask for different names.
  const browser = { HSTU_PARITY_CHROMIUM: chromium, CHROMIUM: chromium };
  const ours = { ...process.env, ...browser, ORT_DISABLE_TELEMETRY: "1", ...env };
  return run(line, { cwd: root, env: ours });
}

/** A check without tests of its own counts as one. */
async function check(name, line) {
  const { code, output, seconds } = await command(line);
  return { name, passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, output, seconds };
}

export const types = () => check("types", [bin("tsc"), "--noEmit", "-p", "tsconfig.json"]);
export const lint = () => check("lint", [bin("eslint"), ".", "--max-warnings=0"]);
export const format = () => check("format", [bin("prettier"), "--check", "--log-level=warn", "."]);

/** The tests of one project of vitest.config.ts. */
export async function unit(project) {
  const file = path.join(root, ".cache", `vitest-${project}.json`);
  rmSync(file, { force: true });
  const { code, output, seconds } = await command([
    bin("vitest"),
    "run",
    `--project=${project}`,
    "--reporter=dot",
    "--reporter=json",
    `--outputFile.json=${file}`,
  ]);
  const counts = readCounts(file);
  // A file that cannot be loaded has no failed test, but it fails the run; a test that is left out is none that passed.
  const failed = counts.failed + counts.leftOut;
  return { name: project, passed: counts.passed, failed: broken(code, failed), output, seconds };
}

function readCounts(file) {
  try {
    const report = JSON.parse(readFileSync(file, "utf8"));
    return {
      passed: report.numPassedTests,
      failed: report.numFailedTests,
      leftOut: report.numPendingTests + report.numTodoTests,
    };
  } catch {
    return { passed: 0, failed: 0, leftOut: 0 };
  }
}

/** A part whose command failed has at least one failure, whatever it counted. */
export function broken(code, failed) {
  return code !== 0 && failed === 0 ? 1 : failed;
}

/** Prints a part's result; what it printed only when it failed. A part that ran no test has failed. */
export function told({ name, passed, failed, output, seconds }) {
  const nothing = passed + failed === 0;
  const failures = nothing ? 1 : failed;
  if (failures > 0) console.log(output.trimEnd());
  console.log(
    `${failures === 0 ? "✓" : "✗"} ${name}: ${passed} passed, ${failures} failed${nothing ? " (it ran no test)" : ""}, ${seconds.toFixed(1)} s`,
  );
  return { passed, failed: failures };
}
