import { spawn } from "node:child_process";
import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Report } from "../../engine/protocol/report.js";
import type { Case, Port } from "./faultList.js";
import { plantCase } from "./plant.js";
import { scoreReport, type Result } from "./score.js";

export interface Bench {
  /** Of the repository. */
  readonly root: string;
  /** Copies of ports lie in it while they run. */
  readonly folder: string;
  readonly cli: string;
  readonly python: string;
  readonly outputs: OutputComparer;
}

export interface OutputComparison {
  readonly allclose?: boolean;
  readonly polygraphy?: boolean;
  readonly same?: boolean;
}

/** Compares final outputs in a Python of its own, one request after another. */
export interface OutputComparer {
  compare(folder: string, others?: readonly string[]): Promise<OutputComparison>;
  end(): void;
}

/** Plants a case into a copy of its port, runs it as a user would and scores what came out. */
export async function runCase(one: Case, bench: Bench): Promise<Result> {
  const started = performance.now();
  const copy = path.join(bench.folder, one.id.replace("/", "-"));
  try {
    const wanted = await plantCase(one, bench.root, copy);
    const report = await runPort(one.port, copy, 0, bench);
    const score = scoreReport(one, wanted, report);
    const { allclose, polygraphy } = await bench.outputs.compare(outputsOf(copy, 0));
    return {
      ...score,
      ...(allclose !== undefined && { allclose }),
      ...(polygraphy !== undefined && { polygraphy }),
      noEffect: !one.honest && (score.relL2 ?? 1) < 1e-6 && (await hasNoEffect(one, copy, bench)),
      seconds: (performance.now() - started) / 1000,
    };
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

const seeds = [0, 1, 2];

async function hasNoEffect({ port }: Case, copy: string, bench: Bench): Promise<boolean> {
  for (const seed of seeds) {
    const right = await rightOutputs(port, seed, bench);
    if (seed !== 0) await runPort(port, copy, seed, bench);
    const { same } = await bench.outputs.compare(outputsOf(copy, seed), [right]);
    if (same !== true) return false;
  }
  return true;
}

const rightPorts = new Map<string, Promise<string>>();

/** The folder with the outputs of the port as it is. */
function rightOutputs(port: Port, seed: number, bench: Bench): Promise<string> {
  const key = `${port.id} ${seed}`;
  const known = rightPorts.get(key);
  if (known) return known;
  const made = (async () => {
    const copy = path.join(bench.folder, `right-${port.id}-${seed}`);
    const none = { id: key, category: "", port, honest: true, accept: [], edits: [] };
    await plantCase({ ...none, heldOut: false }, bench.root, copy);
    await runPort(port, copy, seed, bench);
    return outputsOf(copy, seed);
  })();
  rightPorts.set(key, made);
  return made;
}

function outputsOf(copy: string, seed: number): string {
  return path.join(copy, `outputs-${seed}`);
}

/** Runs the command line on a copy of a port, without a run file. */
async function runPort(
  { script }: Port,
  copy: string,
  seed: number,
  { cli, python }: Bench,
): Promise<Report | undefined> {
  await mkdir(outputsOf(copy, seed), { recursive: true });
  const args = [cli, "run", "--no-cache", "--format", "json", "--log-level", "error"];
  args.push("--outputs", outputsOf(copy, seed), "--python", python, script);
  // Without the option the script's own default seed holds, which an honest variant may change.
  if (seed !== 0) args.push("--seed", String(seed));
  const child = spawn(process.execPath, args, {
    cwd: copy,
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1" },
  });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  const text = Buffer.concat(chunks).toString("utf8");
  return text.trim() === "" ? undefined : (JSON.parse(text) as Report);
}

export function createOutputComparer(python: string, program: string): OutputComparer {
  const child = spawn(python, [program], { stdio: ["pipe", "pipe", "inherit"] });
  const waiting: ((answer: OutputComparison) => void)[] = [];
  createInterface({ input: child.stdout }).on("line", (line) =>
    waiting.shift()?.(JSON.parse(line) as OutputComparison),
  );
  child.on("close", (code) => {
    if (waiting.length === 0) return;
    process.stderr.write(`${path.basename(program)} ended with exit code ${code}\n`);
    process.exit(1);
  });
  return {
    compare: (folder, others = []) =>
      new Promise((resolve) => {
        waiting.push(resolve);
        child.stdin.write(`${JSON.stringify({ folder, others })}\n`);
      }),
    end: () => child.stdin.end(),
  };
}
