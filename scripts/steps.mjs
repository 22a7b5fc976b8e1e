// Runs the parts of `npm run check` and `npm test` and counts their tests.
import { spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { root } from "./setup.mjs";

const bin = (name) => path.join(root, "node_modules", ".bin", name);

/**
 * Runs a command to its end. Its output is collected.
 * @returns {Promise<{ code: number, output: string }>}
 */
export function command(file, args, { env = {}, cwd = root } = {}) {
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      cwd,
      env: { ...process.env, ORT_DISABLE_TELEMETRY: "1", ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (d) => (output += d));
    child.on("error", (error) => resolve({ code: 1, output: `${output}${error.message}\n` }));
    child.on("close", (code) => resolve({ code: code ?? 1, output }));
  });
}

/** A check without tests of its own counts as one. */
async function check(name, file, args) {
  const { code, output } = await command(file, args);
  return { name, passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, output };
}

export const types = () => check("types", bin("tsc"), ["--noEmit", "-p", "tsconfig.json"]);
export const lint = () => check("lint", bin("eslint"), [".", "--max-warnings=0"]);
export const format = () => check("format", bin("prettier"), ["--check", "--log-level=warn", "."]);

/** @param {string[]} projects vitest projects */
export async function unit(projects) {
  const name = `vitest: ${projects.join(", ")}`;
  const file = path.join(root, "dist", `vitest-${projects.join("-")}.json`);
  rmSync(file, { force: true });
  const { code, output } = await command(bin("vitest"), [
    "run",
    ...projects.flatMap((project) => ["--project", project]),
    "--reporter=dot",
    "--reporter=json",
    `--outputFile.json=${file}`,
  ]);
  try {
    const report = JSON.parse(readFileSync(file, "utf8"));
    const failed = report.numFailedTests + (code !== 0 && report.numFailedTests === 0 ? 1 : 0);
    return { name, passed: report.numPassedTests, failed, output };
  } catch {
    return { name, passed: 0, failed: 1, output };
  }
}

/** Prints a part's result; what it printed only when it failed. A part that ran no test has failed. */
export function told({ name, passed, failed, output }) {
  const failures = passed + failed === 0 ? 1 : failed;
  if (failures > 0) console.log(output.trimEnd());
  const nothing = passed + failed === 0 ? " (it ran no test)" : "";
  console.log(
    `${failures === 0 ? "✓" : "✗"} ${name}: ${passed} passed, ${failures} failed${nothing}`,
  );
  return { passed, failed: failures };
}
