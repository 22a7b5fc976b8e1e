// Runs other programs for the scripts: their output is kept back and shown when they fail.
import { spawn } from "node:child_process";

/**
 * Runs a command to its end.
 * @returns its exit code (1 when it could not start or was killed), everything that it printed, and how long it took.
 */
export function run([command, ...args], options = {}) {
  const started = performance.now();
  return new Promise((resolve) => {
    const chunks = [];
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
    const keep = (chunk) => chunks.push(chunk);
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    const end = (code, more = "") =>
      resolve({
        code,
        output: Buffer.concat(chunks).toString("utf8") + more,
        seconds: (performance.now() - started) / 1000,
      });
    child.on("error", (error) => end(1, `${command}: ${error.message}\n`));
    child.on("close", (code, signal) => end(code ?? 1, signal ? `ended by ${signal}\n` : ""));
  });
}

/** Runs one step of the set-up; says what it is doing, and ends the process with its output when it fails. */
export async function runQuietly(what, command, { announceAfterMs = 0, ...options } = {}) {
  const started = performance.now();
  let announced = false;
  const announce = () => {
    announced = true;
    console.error(`setting up: ${what}`);
  };
  const first = setTimeout(announce, announceAfterMs);
  const beat = setInterval(() => {
    console.error(`  still at it after ${Math.round((performance.now() - started) / 1000)} s`);
  }, 30_000);
  const { code, output } = await run(command, options);
  clearTimeout(first);
  clearInterval(beat);
  if (code === 0) return;
  if (!announced) announce();
  console.error(output.trimEnd());
  console.error(`this failed with exit code ${code}: ${command.join(" ")}`);
  process.exit(1);
}
