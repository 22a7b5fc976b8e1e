import { randomUUID } from "node:crypto";
import os from "node:os";
import type { CacheRequest } from "../cache/cacheKey.js";
import { defaultCacheFolder } from "../cache/cacheFolder.js";
import { createRunCache } from "../cache/runCache.js";
import type { Problem, Report } from "../protocol/report.js";
import { toolVersion } from "./assembleReport.js";
import { runScript, type ScriptOptions } from "./runScript.js";

export interface CacheChoice {
  readonly env: NodeJS.ProcessEnv;
  readonly useCache: boolean;
}

/** Runs a script, or gives the report of an earlier run where nothing that it depends on has changed. */
export async function runScriptCached(
  options: ScriptOptions,
  { env, useCache }: CacheChoice,
): Promise<Report> {
  // A report of an earlier run has no tensors.
  if (!useCache || options.onCompared) return (await runScript(options)).report;
  const startedAt = new Date();
  const cache = createRunCache({ folder: defaultCacheFolder(env) });
  const request = requestOf(options, env);
  const found = await cache.lookup(request, options.signal);
  if (found.hit) {
    const { report } = found;
    return {
      ...report,
      run: {
        ...report.run,
        id: randomUUID(),
        startedAt: startedAt.toISOString(),
        durationMs: Date.now() - startedAt.getTime(),
        command: [...options.command],
        cache: "hit",
      },
    };
  }
  const { report, capture, hashes } = await runScript(options);
  const missed: Report = { ...report, run: { ...report.run, cache: "miss" } };
  const kept = await cache.store(request, capture, hashes, missed, options.signal);
  return kept.stored ? missed : { ...missed, problems: [...missed.problems, notKept(kept.reason)] };
}

function requestOf(options: ScriptOptions, env: NodeJS.ProcessEnv): CacheRequest {
  const { target, args, cwd, interpreter, agentFolder, runnerEntry, base } = options;
  const { provider, reference, candidates, byteBudget, rules } = options;
  return {
    program: target,
    args,
    cwd,
    interpreter,
    // The command line's and the server's bundles lie beside the runner's.
    tool: { version: toolVersion, files: [process.argv[1] ?? runnerEntry, runnerEntry] },
    agentFolder,
    options: { base, provider, reference, candidates, byteBudget, rules, env: options.env },
    devices: [os.cpus()[0]?.model ?? os.arch()],
    env,
  };
}

function notKept(reason: string): Problem {
  return {
    severity: "information",
    code: "run-not-cached",
    message: `this run was not cached: ${reason}`,
    nextStep: "Nothing to do: it runs again next time.",
  };
}
