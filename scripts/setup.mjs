#!/usr/bin/env node
// Makes this checkout ready and does nothing that is done already: npm packages and the build; with `--tests` also
// Python with torch, a browser and VS Code's web server. Needs nothing but Node.js itself.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { runQuietly } from "./commands.mjs";

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
/** The Python of the tests, once it is set up. */
export const python = path.join(
  root,
  process.platform === "win32" ? ".venv/Scripts/python.exe" : ".venv/bin/python",
);
/** The browser of the panel's tests and of VS Code's web server. */
export const chromium =
  process.env.HSTU_PARITY_CHROMIUM ?? process.env.CHROMIUM ?? "/usr/bin/chromium";
/** Bundled scripts; inside the repository, so that they find its packages. */
export const bundledScripts = path.join(root, ".cache/scripts");

// The pins that were tried together. Where torch comes from is pip's own configuration: on Linux the CPU build is enough.
const torchPackages = [
  "torch==2.13.0",
  "fbgemm-gpu-cpu==1.8.0",
  "numpy==2.4.6",
  "safetensors==0.8.0",
];
// Without its dependencies: TensorRT and its compiler want a GPU, and stand-ins take their place.
const tripyPackages = ["nvtripy==0.1.7", "colored==2.3.2"];

/**
 * @param {{ tests: boolean }} wanted without tests what `npm run parity` needs: npm packages and the build; with them
 * everything that `npm test` needs. `withPython`: the Python environment of the tests alone.
 */
export async function setup({ tests, withPython = tests }) {
  needNode();
  await installNpmPackages();
  await buildBundles();
  if (tests) await installSystemPackages();
  if (withPython) await installPython();
  if (!tests) return;
  await installCodeWeb();
}

function needNode() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < 20) stop(`Node.js 20 or newer is needed, this is ${process.versions.node}.`);
}

async function installNpmPackages() {
  const wanted = readJson("package-lock.json")?.packages ?? {};
  // npm writes this file when it has installed everything, and only then.
  const installed = readJson("node_modules/.package-lock.json")?.packages ?? {};
  const missing = Object.entries(wanted).some(
    ([name, { version, optional }]) =>
      name !== "" && (installed[name] ? installed[name].version !== version : !optional),
  );
  if (!missing) return;
  await runQuietly("npm packages", ["npm", "ci", "--loglevel=error"], {
    cwd: root,
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip" },
    shell: process.platform === "win32",
  });
}

async function buildBundles() {
  const sources = ["engine", "extension", "webview", "scripts", "esbuild.mjs", "package-lock.json"];
  const hash = hashOf(sources.flatMap((name) => filesUnder(path.join(root, name))));
  const stamp = path.join(root, ".cache/build");
  const outputs = ["dist/cli.mjs", "dist/runner.mjs", ".cache/scripts/parityStories.mjs"];
  const whole = outputs.every((file) => existsSync(path.join(root, file)));
  if (whole && readText(stamp) === hash) return;
  rmSync(stamp, { force: true });
  await runQuietly("the build", [process.execPath, "esbuild.mjs"], { cwd: root });
  await bundleScript("scripts/parityStories.ts", path.join(bundledScripts, "parityStories.mjs"));
  writeStamp(stamp, hash);
}

/** Bundles one TypeScript file of the repository for this Node.js. */
export async function bundleScript(entry, outfile) {
  const { build } = await import("esbuild");
  await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    mainFields: ["module", "main"],
    external: ["onnxruntime-node", "playwright-core"],
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
    define: { HSTU_PARITY_VERSION: JSON.stringify(readJson("package.json").version) },
    logLevel: "warning",
  });
}

/** A browser for the tests of the panel; a compiler for two modules of VS Code's web server. */
async function installSystemPackages() {
  const missing = [];
  if (!existsSync(chromium)) missing.push("chromium");
  if (!hasCommand("g++")) missing.push("g++");
  if (!hasCommand("make")) missing.push("make");
  if (!findPython()) missing.push("python3", "python3-venv");
  if (missing.length === 0) return;
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...missing];
  if (process.getuid?.() !== 0 || !hasCommand("apt-get")) {
    stop(`These are missing: ${missing.join(", ")}. On Debian: sudo ${install.join(" ")}`);
  }
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  await runQuietly("the package lists", ["apt-get", "update"], { env });
  await runQuietly(missing.join(", "), install, { env });
}

async function installPython() {
  const found = findPython();
  if (!found) stop("Python 3.10 or newer with venv is needed for the tests.");
  const stamp = path.join(root, ".venv/installed");
  const hash = createHash("sha256")
    .update(JSON.stringify([found.version, torchPackages, tripyPackages]))
    .digest("hex");
  if (existsSync(python) && readText(stamp) === hash) return;
  // An environment that somebody else made is kept when it has the right versions: `--clear` would empty it.
  if (hasPinnedPackages()) return writeStamp(stamp, hash);
  const options = { cwd: root };
  const pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
  await runQuietly(
    "a Python environment",
    [found.command, "-m", "venv", "--clear", ".venv"],
    options,
  );
  await runQuietly(
    "torch and fbgemm (a few minutes the first time)",
    [...pip, ...torchPackages],
    options,
  );
  await runQuietly("nvtripy", [...pip, "--no-deps", ...tripyPackages], options);
  writeStamp(stamp, hash);
}

function hasPinnedPackages() {
  if (!existsSync(python)) return false;
  const pins = Object.fromEntries(
    [...torchPackages, ...tripyPackages].map((pin) => pin.split("==")),
  );
  const probe =
    "import json, sys; from importlib.metadata import version; pins = json.loads(sys.argv[1]); " +
    "sys.exit(any(version(name).split('+')[0] != pin for name, pin in pins.items()))";
  return spawnSync(python, ["-c", probe, JSON.stringify(pins)]).status === 0;
}

/** HSTU_PARITY_PYTHON names another Python than the first that fits. */
function findPython() {
  const own = process.env.HSTU_PARITY_PYTHON;
  const candidates = own ? [own] : ["python3.11", "python3.12", "python3.13", "python3", "python"];
  const probe = "import sys, venv, ensurepip; print('%d.%d.%d' % sys.version_info[:3])";
  for (const command of candidates) {
    const { status, stdout } = spawnSync(command, ["-c", probe], { encoding: "utf8" });
    const version = stdout?.trim() ?? "";
    const [major, minor] = version.split(".").map(Number);
    if (status === 0 && major === 3 && minor >= 10) return { command, version };
  }
  return undefined;
}

/** VS Code's web server, where desktop VS Code cannot be had. The installer itself knows whether it has run. */
async function installCodeWeb() {
  if (process.platform !== "linux" || process.arch !== "x64") return;
  await runQuietly("VS Code's web server", ["bash", "test/support/codeWeb/install.sh"], {
    cwd: root,
    announceAfterMs: 1000,
  });
}

function hasCommand(name) {
  const folders = (process.env.PATH ?? "").split(path.delimiter);
  return folders.some((folder) => existsSync(path.join(folder, name)));
}

function hashOf(files) {
  const hash = createHash("sha256").update(process.version);
  for (const file of files.sort()) hash.update(file).update("\0").update(readFileSync(file));
  return hash.digest("hex");
}

function filesUnder(place) {
  if (!existsSync(place)) return [];
  const entries = safeList(place);
  if (!entries) return [place];
  return entries
    .filter(({ name }) => name !== "__pycache__")
    .flatMap((entry) =>
      entry.isDirectory()
        ? filesUnder(path.join(place, entry.name))
        : [path.join(place, entry.name)],
    );
}

function safeList(place) {
  try {
    return readdirSync(place, { withFileTypes: true });
  } catch {
    return undefined;
  }
}

function readText(file) {
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

function readJson(name) {
  const text = readText(path.join(root, name));
  return text === undefined ? undefined : JSON.parse(text);
}

function writeStamp(file, hash) {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, hash);
}

function stop(message) {
  console.error(message);
  process.exit(1);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await setup({ tests: process.argv.includes("--tests") });
}
