import "./quietRuntime.js";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { createConnection, ProposedFeatures } from "vscode-languageserver/node";
import { parseRunFile } from "../run/runFileReader.js";
import { runParity } from "../run/runParity.js";
import { startServer } from "./server.js";

// Bundled as dist/server.mjs, beside the runner.
const dist = path.dirname(fileURLToPath(import.meta.url));

startServer(createConnection(ProposedFeatures.all), {
  runParity,
  parseRunFile,
  runnerEntry: path.join(dist, "runner.mjs"),
});
