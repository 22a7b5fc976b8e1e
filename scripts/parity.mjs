#!/usr/bin/env node
// `npm run parity`: needs Node.js only. Shows on the sample what the tool does, and checks that it does it.
import path from "node:path";
import { pathToFileURL } from "node:url";
import { bundledScripts, root, setup } from "./setup.mjs";

await setup({ tests: false });
const stories = pathToFileURL(path.join(bundledScripts, "parityStories.mjs")).href;
const { runStories } = await import(stories);
process.exitCode = await runStories(root, {
  cwd: process.cwd(),
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  runnerEntry: path.join(root, "dist/runner.mjs"),
});
