import { spawnSync } from "node:child_process";
import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { loadCases, type Case } from "./faultList.js";
import { plantCase } from "./plant.js";
import { createOutputComparer, runCase } from "./runCase.js";
import type { Result } from "./score.js";
import { isAccused, resultLine, summarise } from "./summary.js";

/**
 * The fault benchmark: plants every fault and every honest variant into a copy of its port, runs the command line on it
 * without a run file, and says how well the tool named the wrong line. Run it with `npm run bench:faults`.
 */

const usage = `npm run bench:faults -- [options]
  --only GLOB    only cases whose id fits, such as "hstu-tripy/eps-*" (repeatable)
  --port ID      only the cases of one port
  --held-out     only the third that is kept unseen while the tool is tuned
  --all          that third as well
  --jobs N       so many runs at once (default: one for each core)
  --json FILE    also write all results there
  --dry          run nothing: check that every edit applies and gives Python that compiles
  --python PATH  the Python that runs the ports`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      port: { type: "string" },
      "held-out": { type: "boolean", default: false },
      all: { type: "boolean", default: false },
      jobs: { type: "string" },
      json: { type: "string" },
      dry: { type: "boolean", default: false },
      python: { type: "string", default: path.resolve(".venv/bin/python") },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const root = process.cwd();
  const cases = (await loadCases(path.join(root, "test/faults"))).filter(
    ({ id, port, heldOut }) =>
      (values.all || values.dry || heldOut === values["held-out"]) &&
      (values.port === undefined || port.id === values.port) &&
      (values.only === undefined || values.only.some((glob) => fits(id, glob))),
  );
  if (cases.length === 0) {
    console.error(`No case fits.\n${usage}`);
    return 2;
  }
  const folder = await realpath(await mkdtemp(path.join(os.tmpdir(), "hstu-parity-faults-")));
  try {
    if (values.dry) return await dryRun(cases, root, folder, values.python);
    const outputs = createOutputComparer(
      values.python,
      path.join(root, "test/faults/final_outputs.py"),
    );
    const cli = path.join(root, "dist/cli.mjs");
    const bench = { root, folder, cli, python: values.python, outputs };
    const jobs = Number(values.jobs ?? os.availableParallelism());
    const results = await inParallel(cases, jobs, async (one) => {
      const result = await runCase(one, bench);
      console.log(resultLine(result));
      return result;
    });
    outputs.end();
    console.log(`\n${summarise(results)}`);
    if (values.json !== undefined) {
      await writeFile(values.json, `${JSON.stringify(results, undefined, 1)}\n`);
    }
    return results.some(isWrong) ? 1 : 0;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function fits(id: string, glob: string): boolean {
  const escaped = glob.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
  return new RegExp(`^${escaped.replaceAll("?", ".")}$`).test(id);
}

/** An honest variant that is accused, or a fault that passes. */
function isWrong(result: Result): boolean {
  if (result.honest) return isAccused(result);
  return !result.noEffect && (result.verdict === "pass" || result.verdict === "warn");
}

async function dryRun(
  cases: readonly Case[],
  root: string,
  folder: string,
  python: string,
): Promise<number> {
  const files: string[] = [];
  let wrong = 0;
  for (const one of cases) {
    const copy = path.join(folder, one.id.replace("/", "-"));
    try {
      await plantCase(one, root, copy);
    } catch (error) {
      wrong++;
      console.error(error instanceof Error ? error.message : error);
    }
    files.push(...new Set(one.edits.map(({ file }) => path.join(copy, file))));
  }
  const program =
    "import sys\nfor name in sys.stdin.read().split('\\n'): compile(open(name).read(), name, 'exec')";
  const { status } = spawnSync(python, ["-c", program], {
    input: files.join("\n"),
    stdio: ["pipe", "inherit", "inherit"],
  });
  const held = cases.filter((one) => one.heldOut).length;
  const honest = cases.filter((one) => one.honest).length;
  console.log(
    `${cases.length - honest} faults and ${honest} honest variants apply; ${held} of them are held out`,
  );
  return status === 0 && wrong === 0 ? 0 : 1;
}

async function inParallel<A, B>(
  items: readonly A[],
  jobs: number,
  work: (item: A) => Promise<B>,
): Promise<B[]> {
  const results: B[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const at = next++;
      results[at] = await work(items[at] as A);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, jobs) }, worker));
  return results;
}

process.exitCode = await main();
