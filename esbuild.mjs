#!/usr/bin/env node
// Bundles everything that runs: the extension, the engine's server, its runner child, the command line and the panel.
import { access, chmod, cp, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = path.dirname(fileURLToPath(import.meta.url));
const { version } = JSON.parse(await readFile(path.join(root, "package.json"), "utf8"));

// CommonJS packages inside an ES module bundle call `require` for Node's own modules.
const requireInEsm =
  'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);';

/** Node 20 runs the command line; the extension host of the oldest supported VS Code has Node 20 as well. */
const node = { platform: "node", target: "node20" };
// onnxruntime-node finds its native library beside its own files, so it is never bundled.
// Packages' ES modules come first: jsonc-parser's other form loads its parts at run time, from where no bundle has them.
const esm = {
  ...node,
  format: "esm",
  external: ["onnxruntime-node"],
  mainFields: ["module", "main"],
};

const bundles = [
  {
    ...node,
    entryPoints: { extension: "extension/main.ts" },
    format: "cjs",
    external: ["vscode"],
    outExtension: { ".js": ".cjs" },
  },
  {
    ...esm,
    entryPoints: {
      server: "engine/server/main.ts",
      runner: "engine/runner/runnerChild.ts",
    },
    banner: { js: requireInEsm },
    outExtension: { ".js": ".mjs" },
  },
  {
    ...esm,
    entryPoints: { cli: "engine/cli/main.ts" },
    banner: { js: `#!/usr/bin/env node\n${requireInEsm}` },
    outExtension: { ".js": ".mjs" },
  },
  {
    entryPoints: { "webview/layerDiff": "webview/layerDiff/main.ts" },
    platform: "browser",
    target: "es2022",
    format: "iife",
    minify: true,
  },
];

const started = performance.now();
const results = await Promise.allSettled(bundles.map(bundle));
const failures = results.filter((result) => result.status === "rejected");
for (const { reason } of failures) {
  // esbuild has printed its own errors with their places; anything else is ours and is shown whole.
  if (!Array.isArray(reason?.errors)) console.error(reason);
}
if (failures.length > 0) process.exit(1);
await chmod(path.join(root, "dist/cli.mjs"), 0o755).catch(() => undefined);
await copyAgent();
console.error(`built dist/ in ${((performance.now() - started) / 1000).toFixed(2)} s`);

async function bundle(options) {
  const entryPoints = {};
  for (const [name, file] of Object.entries(options.entryPoints)) {
    if (await exists(file)) entryPoints[name] = file;
    else console.error(`note: ${file} is not there yet, dist/${name} is not built`);
  }
  if (Object.keys(entryPoints).length === 0) return;
  await build({
    absWorkingDir: root,
    outdir: "dist",
    bundle: true,
    sourcemap: true,
    sourcesContent: false,
    legalComments: "none",
    logLevel: "warning",
    define: { HSTU_PARITY_VERSION: JSON.stringify(version) },
    ...options,
    entryPoints,
  });
}

/** The capture agent runs in the user's Python, from its sources. */
async function copyAgent() {
  const target = path.join(root, "dist/capture");
  await rm(target, { recursive: true, force: true });
  await cp(path.join(root, "engine/capture/hstu_capture"), path.join(target, "hstu_capture"), {
    recursive: true,
    filter: (file) => path.basename(file) !== "__pycache__",
  });
}

function exists(file) {
  return access(path.join(root, file)).then(
    () => true,
    () => false,
  );
}
