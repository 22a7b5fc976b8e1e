#!/usr/bin/env node
// One suite, two hosts: desktop VS Code where it is installed or can be downloaded, else VS Code's web server
// (test/support/codeWeb). Says which one ran. The bundles in dist/ must be built.
//
// VSCODE_EXECUTABLE names an installed VS Code; HSTU_PARITY_HOST=desktop|web insists on one host;
// HSTU_PARITY_PYTHON names another Python with torch, fbgemm and nvtripy than the repository's;
// HSTU_PARITY_EXTENSION and HSTU_PARITY_TEST_FOLDER name another extension and another sample than the repository's.
import { chmod, cp, mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { downloadAndUnzipVSCode, runTests } from "@vscode/test-electron";
import { build } from "esbuild";
import { python } from "../../scripts/setup.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const out = path.join(root, "dist/test");
const sample = process.env.HSTU_PARITY_TEST_FOLDER ?? path.join(root, "samples/hstu");
const insisted = process.env.HSTU_PARITY_HOST;

await bundleTests();
const host = await chooseHost();
console.log(`host tests run in ${host.name}`);
// The tests edit files: they get a copy. Reports of scripts are cached in a folder of their own.
const place = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-host-"));
const folder = path.join(place, "sample");
await cp(sample, folder, { recursive: true });
process.env.HSTU_PARITY_CACHE = path.join(place, "cache");
process.env.HSTU_PARITY_PYTHON ??= python;
const total = { passes: 0, failures: 0, pending: 0 };
const codes = [await runWindow("sample", [folder]), await runWindow("no folder", [])];
await rm(place, { recursive: true, force: true });
console.log(
  `host tests: ${total.passes} passed, ${total.failures} failed, ${total.pending} skipped`,
);
process.exit(codes.find((code) => code !== 0) ?? 0);

/** Runs the tests of one kind of window; what it counted is added to the total. */
async function runWindow(name, opened) {
  const counts = path.join(place, `counts-${opened.length}.json`);
  process.env.HSTU_PARITY_HOST_WINDOW = name;
  process.env.HSTU_PARITY_HOST_COUNTS = counts;
  const code = await runTests({
    vscodeExecutablePath: host.executable,
    extensionDevelopmentPath: [
      process.env.HSTU_PARITY_EXTENSION ?? root,
      path.join(root, "test/host/pythonExtension"),
    ],
    extensionTestsPath: path.join(out, "host/index.cjs"),
    launchArgs: [...opened, "--disable-extensions"],
  }).catch((error) => {
    console.error(String(error));
    return 1;
  });
  const counted = await readFile(counts, "utf8").then(JSON.parse, () => ({}));
  for (const key of Object.keys(total)) total[key] += counted[key] ?? 0;
  return code;
}

async function bundleTests() {
  const shared = {
    absWorkingDir: root,
    bundle: true,
    platform: "node",
    logLevel: "warning",
    sourcemap: "inline",
  };
  await build({
    ...shared,
    entryPoints: [
      "test/host/index.ts",
      "test/host/noFolder.test.ts",
      "test/host/parity.test.ts",
      "test/host/script.test.ts",
    ],
    outdir: path.join(out, "host"),
    format: "cjs",
    target: "node20",
    external: ["vscode", "mocha"],
    outExtension: { ".js": ".cjs" },
  });
  await build({
    ...shared,
    entryPoints: {
      launcher: "test/support/codeWeb/launcher.ts",
      installation: "test/support/codeWeb/installation.ts",
    },
    outdir: path.join(out, "codeWeb"),
    format: "esm",
    target: "node20",
    packages: "external",
    banner: { js: "#!/usr/bin/env node" },
    outExtension: { ".js": ".mjs" },
  });
  await chmod(path.join(out, "codeWeb/launcher.mjs"), 0o755);
}

async function chooseHost() {
  const installed = process.env.VSCODE_EXECUTABLE;
  if (installed)
    return {
      name: `VS Code at ${installed}`,
      executable: path.resolve(installed),
    };
  // Desktop VS Code needs a display; on Linux servers there is none.
  const display =
    process.platform !== "linux" || process.env.DISPLAY || process.env.WAYLAND_DISPLAY;
  if (insisted === "desktop" || (insisted !== "web" && display)) {
    try {
      const executable = await downloadAndUnzipVSCode({
        version: "stable",
        cachePath: path.join(root, ".vscode-test"),
      });
      return { name: "desktop VS Code, stable", executable };
    } catch (error) {
      console.error(`VS Code cannot be downloaded here: ${error.message}`);
    }
  }
  const web = insisted === "desktop" ? undefined : await webHost();
  if (web) return web;
  console.error("install VS Code's web server with test/support/codeWeb/install.sh");
  process.exit(1);
}

async function webHost() {
  const { findCodeWeb } = await import(
    pathToFileURL(path.join(out, "codeWeb/installation.mjs")).href
  );
  const found = findCodeWeb(root);
  if (!found) return undefined;
  process.env.CODE_WEB_ROOT = root;
  return {
    name: `VS Code ${found.version} as a web server`,
    executable: path.join(out, "codeWeb/launcher.mjs"),
  };
}
