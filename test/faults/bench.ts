import { spawnSync } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { findInterpreter } from "../../engine/capture/interpreter.js";
import { fromFloat64, toFloat64 } from "../../engine/core/dtypes.js";
import { align } from "../../engine/core/layouts.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { ComparedCalls } from "../../engine/run/compareCalls.js";
import { runScript, type ScriptOptions } from "../../engine/run/runScript.js";
import { writeSafetensors } from "../../engine/trace/safetensors.js";
import { applyEdits, isHeldOut, ports, readFaults, type Fault, type Port } from "./faults.js";
import { scoreReport, type Score } from "./score.js";
import { printList, printTables } from "./tables.js";

const usage =
  "npm run bench:faults [-- --only ID…] [--port NAME] [--held-out | --all] [--jobs N] [--json FILE]";

/** Runs every fault through the engine, live and without a run file, and prints how well it was found. */
async function main(): Promise<void> {
  const root = process.env["HSTU_PARITY_ROOT"] as string;
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      port: { type: "string" },
      "held-out": { type: "boolean", default: false },
      all: { type: "boolean", default: false },
      jobs: { type: "string", default: "2" },
      json: { type: "string" },
    },
  });
  const wanted = (fault: Fault): boolean => {
    if (values.only && !values.only.some((part) => fault.id.startsWith(part))) return false;
    if (values.port !== undefined && fault.port !== values.port) return false;
    return values.all || isHeldOut(fault) === values["held-out"];
  };
  const faults = (await readFaults(path.join(root, "test/faults/faults"))).filter(wanted);
  if (faults.length === 0) throw new Error(`nothing to run: ${usage}`);
  const bench = await startBench(root);
  const scores: Score[] = [];
  const open = [...faults];
  const work = async (): Promise<void> => {
    for (let fault = open.shift(); fault; fault = open.shift()) {
      const score = await bench.run(fault);
      scores.push(score);
      printList([score]);
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, work));
  const others = await bench.otherTools();
  const withoutEffect = await bench.withoutEffect(scores);
  const failed = printTables(scores, { others, withoutEffect, isHeldOut });
  if (values.json !== undefined) {
    const lines = scores.map((s) => ({
      ...s,
      ...others.get(s.fault.id),
      heldOut: isHeldOut(s.fault),
    }));
    await writeFile(values.json, `${JSON.stringify(lines, null, 1)}\n`);
  }
  await bench.end();
  process.exitCode = failed ? 1 : 0;
}

/** What other ways to compare say of the final outputs. */
export interface OtherTools {
  /** `numpy.allclose(candidate, reference, rtol=0, atol=3e-2)` on the valid elements. */
  readonly allclose: boolean;
  /** Polygraphy's Comparator.compare_accuracy with its defaults. */
  readonly polygraphy: boolean;
}

async function startBench(root: string) {
  const interpreter = await findInterpreter({
    folders: [root],
    env: process.env,
    signal: new AbortController().signal,
  });
  const results = path.join(root, ".cache/faults");
  await rm(results, { recursive: true, force: true });
  await mkdir(results, { recursive: true });
  const runOn = async (
    fault: Fault,
    seed: number,
    onCompared?: ScriptOptions["onCompared"],
  ): Promise<Score> => {
    const port = ports[fault.port] as Port;
    const edited = await applyEdits(root, fault);
    const { args, env } = port.seed(seed);
    const started = performance.now();
    try {
      const { report } = await runScript({
        target: { script: path.join(edited.folder, port.script) },
        args: [...port.args, ...args],
        cwd: edited.folder,
        env,
        interpreter,
        agentFolder: path.join(root, "engine/capture"),
        runnerEntry: path.join(root, "dist/runner.mjs"),
        base: edited.folder,
        command: [],
        signal: new AbortController().signal,
        onProgress: () => undefined,
        ...(onCompared && { onCompared }),
      });
      return scoreReport(fault, edited, report, performance.now() - started);
    } catch (error) {
      const got = [error instanceof Error ? error.message : String(error)];
      const wanted = edited.wanted.flat().map(({ file, line }) => `${file}:${line}`);
      const ms = performance.now() - started;
      return { fault, verdict: "error", extra: 0, relL2: NaN, maxAbs: NaN, wanted, got, ms };
    } finally {
      await rm(edited.folder, { recursive: true, force: true });
    }
  };
  return {
    run: (fault: Fault) => runOn(fault, 0, (compared) => writeOutputs(results, fault, compared)),
    /** Faults that three seeds do not show, to the last bit of the valid outputs. */
    async withoutEffect(scores: readonly Score[]): Promise<ReadonlySet<string>> {
      const found = new Set<string>();
      for (const { fault, maxAbs, verdict } of scores) {
        if (fault.honest || verdict === "error") continue;
        const honest = honestDifference(scores, fault.port);
        if (maxAbs > honest) continue;
        const others = [await runOn(fault, 1), await runOn(fault, 2)];
        if (others.every((other) => other.maxAbs <= 4 * honest)) found.add(fault.id);
      }
      return found;
    },
    async otherTools(): Promise<ReadonlyMap<string, OtherTools>> {
      const script = path.join(root, "test/faults/other_tools.py");
      const { stdout, stderr, status } = spawnSync(interpreter.path, [script, results], {
        encoding: "utf8",
        maxBuffer: 1 << 26,
      });
      if (status !== 0) throw new Error(`other_tools.py failed: ${stderr}`);
      const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
      return new Map(
        lines.map((line) => {
          const { id, ...said } = JSON.parse(line) as OtherTools & { id: string };
          return [id, said];
        }),
      );
    },
    end: () => rm(results, { recursive: true, force: true }),
  };
}

/** What rounding alone makes of a port: where a fault makes no more, its effect is in question. */
function honestDifference(_scores: readonly Score[], port: string): number {
  return port === "hstu-dense" ? 0 : 1e-7;
}

/** The valid elements of the final outputs of both sides, for the other tools. */
async function writeOutputs(
  folder: string,
  fault: Fault,
  compared: Pick<ComparedCalls, "references" | "compared">,
): Promise<void> {
  const [first] = compared.compared;
  const reference = compared.references.find(({ id }) => id === first?.result.pair.reference);
  const candidate = first?.candidate;
  const r = reference?.observation.outputs[0]?.tensor;
  const c = candidate?.observation.outputs[0]?.tensor;
  const expected = r === undefined ? undefined : reference?.observation.tensors.get(r);
  const actual = c === undefined ? undefined : candidate?.observation.tensors.get(c);
  if (!expected?.value || !actual?.value) return;
  const aligned = align(expected, { shape: actual.shape });
  if (!aligned.ok) return;
  const { runs } = aligned.alignment;
  const valid = (value: TensorValue, side: "reference" | "candidate"): TensorValue => {
    const all = toFloat64(value);
    const kept = runs.flatMap((run) => [...all.subarray(run[side], run[side] + run.length)]);
    return {
      dtype: "float32",
      shape: [kept.length],
      bytes: fromFloat64(Float64Array.from(kept), "float32"),
    };
  };
  const tensors = new Map([
    ["expected", valid(expected.value, "reference")],
    ["actual", valid(actual.value, "candidate")],
  ]);
  await writeSafetensors(path.join(folder, `${fault.id}.safetensors`), tensors);
}

await main();
