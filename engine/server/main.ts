import "./quietRuntime.js";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { createConnection, ProposedFeatures } from "vscode-languageserver/node";
import { parseRunFile } from "../run/runFileReader.js";
import { runParity } from "../run/runParity.js";
import { runScriptCached } from "../run/runScriptCached.js";
import { startServer } from "./server.js";

// Bundled as dist/server.mjs, beside the runner.
const dist = path.dirname(fileURLToPath(import.meta.url));

const server = startServer(createConnection(ProposedFeatures.all), {
  runParity,
  runScript: runScriptCached,
  parseRunFile,
  runnerEntry: path.join(dist, "runner.mjs"),
  agentFolder: path.join(dist, "capture"),
  env: process.env,
});

// Scripts lead process groups of their own: however the engine ends, they end with it.
process.once("exit", () => server.stop());
process.once("SIGTERM", () => process.exit(143));
