import { fileURLToPath } from "node:url";
import { runCommandLine } from "./commandLine.js";

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // The reader has had enough, as `head` has; what it did not read is no failure.
  if (error.code !== "EPIPE") throw error;
});

process.exitCode = await runCommandLine(process.argv.slice(2), {
  cwd: process.cwd(),
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  stdin: process.stdin,
  agentFolder: fileURLToPath(new URL("./capture", import.meta.url)),
  runnerEntry: fileURLToPath(new URL("./runner.mjs", import.meta.url)),
});
