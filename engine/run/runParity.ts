import type { ScriptOptions } from "./runScript.js";
import { sourceStatements } from "../source/sourceStatements.js";
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { TensorValue } from "../core/tensorValue.js";
import type { Problem, Report } from "../protocol/report.js";
import type { Provider, RunFile } from "../protocol/runFile.js";
import { UserError, userError } from "../protocol/userError.js";
import { createRunner } from "../runner/supervisor.js";
import { readSafetensors } from "../trace/safetensors.js";
import { compareCandidate, type ComparedCandidate } from "./compareCandidate.js";
import { inUsersTerms, observe, type ObservedImplementation } from "./observe.js";
import { parseRunFile } from "./runFileReader.js";
import { assembleReport } from "./assembleReport.js";
import { createScriptSources, type ScriptHost } from "./scriptSources.js";
import { relativeToBase } from "./sources.js";

export interface RunOptions {
  /** What was compared, with its values: they go when the run ends. */
  readonly onCompared?: ScriptOptions["onCompared"];
  /** Absolute. */
  readonly runFile: string;
  /** The run file's text where it is not what lies on disk: an unsaved editor. */
  readonly text?: string;
  /** Folder that the report's file names are relative to. Default: the run file's. */
  readonly base?: string;
  readonly provider?: Provider;
  readonly reference?: string;
  /** Candidates to compare. Default: all implementations but the reference. */
  readonly candidates?: readonly string[];
  /** The bundled runner child. */
  readonly runnerEntry: string;
  /** Runs scripts that the run file names. */
  readonly scripts?: ScriptHost;
  /** Limit for a script as a whole, and for one evaluation. Default: 600,000 and 120,000. */
  readonly timeoutMs?: number;
  readonly signal: AbortSignal;
  readonly onProgress: (stage: string, fraction?: number) => void;
  /** The command line, for the report. */
  readonly command: readonly string[];
}

/**
 * Runs one run file: traces are read or made, parameters are paired first, then every pair is judged.
 * @throws UserError for what the user can mend. @throws RunnerFailure when the runner died or did not answer.
 */
export async function runParity(options: RunOptions): Promise<Report> {
  const startedAt = new Date();
  const { runFile, warnings } = await loadRunFile(options);
  const folder = path.dirname(options.runFile);
  const base = options.base ?? folder;
  const executor = createRunner({
    provider: options.provider ?? runFile.provider ?? "cpu",
    entry: options.runnerEntry,
    timeoutMs: options.timeoutMs ?? 120_000,
  });
  const { signal, onProgress } = options;
  const scripts = createScriptSources({
    host: options.scripts,
    folder,
    base,
    executor,
    ...(options.timeoutMs !== undefined && { timeoutMs: options.timeoutMs }),
    signal,
    onProgress,
  });
  try {
    const ids = Object.keys(runFile.implementations);
    const referenceId = chosen(options.reference ?? runFile.reference, ids, options.runFile);
    const candidateIds =
      options.candidates?.map((id) => chosen(id, ids, options.runFile)) ??
      ids.filter((id) => id !== referenceId);
    const load = async (
      id: string,
      inputs: ReadonlyMap<string, TensorValue> | undefined,
    ): Promise<ObservedImplementation> => {
      signal.throwIfAborted();
      const source = runFile.implementations[id] as RunFile["implementations"][string];
      return inUsersTerms(id, async () =>
        "python" in source
          ? scripts.observe(id, source, id === referenceId ? "reference" : "candidate")
          : observe({ id, source, folder, base, executor, signal, ...(inputs && { inputs }) }),
      );
    };
    const given = runFile.inputs
      ? await readSafetensors(path.resolve(folder, runFile.inputs))
      : undefined;
    onProgress(`Reading ${referenceId}`, 0.05);
    const reference = await load(referenceId, given);
    const inputs = given ?? inputsOf(reference);

    const statementsOf = sourceStatements(base);
    const compared: { candidate: ObservedImplementation; result: ComparedCandidate }[] = [];
    for (const [index, id] of candidateIds.entries()) {
      const share = 0.9 / candidateIds.length;
      onProgress(`Running ${id}`, 0.1 + index * share);
      const candidate = await load(id, inputs);
      onProgress(`Comparing ${id} with ${referenceId}`, 0.1 + (index + 0.4) * share);
      const result = await inUsersTerms(id, () =>
        compareCandidate(reference, candidate, {
          rules: runFile,
          signal,
          statementsOf,
          inputsAreKnown: scripts.haveSameInputs(referenceId, id),
        }),
      );
      compared.push({ candidate, result });
    }
    signal.throwIfAborted();
    await options.onCompared?.({ references: [reference], compared });

    const ended = scripts.ended();
    return await assembleReport({
      startedAt,
      command: options.command,
      base,
      run: { runFile: relativeToBase(base, options.runFile), cache: "off" },
      references: [reference],
      compared,
      problems: [...warnings, ...ended.problems],
      atBest: ended.atBest,
    });
  } finally {
    await scripts.dispose();
    executor.dispose();
  }
}

async function loadRunFile({
  runFile: file,
  text,
}: RunOptions): Promise<{ runFile: RunFile; warnings: Problem[] }> {
  const content =
    text ??
    (await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
      throw userError(
        "run-file-unreadable",
        error.code === "ENOENT"
          ? `there is no run file ${file}`
          : `the run file ${file} cannot be read: ${error.code ?? error.message}`,
        "Check the path; a run file ends in .parity.json.",
        { file, line: 1, function: "" },
      );
    }));
  const { runFile, problems } = parseRunFile(content, file);
  const errors = problems.filter((problem) => problem.severity === "error");
  if (!runFile || errors.length > 0) throw new UserError(errors);
  return { runFile, warnings: problems };
}

function chosen(id: string, ids: readonly string[], file: string): string {
  if (ids.includes(id)) return id;
  throw userError(
    "implementation-unknown",
    `there is no implementation "${id}" in ${path.basename(file)}`,
    `Choose one of: ${ids.join(", ")}.`,
  );
}

function inputsOf({ observation }: ObservedImplementation): Map<string, TensorValue> {
  const inputs = new Map<string, TensorValue>();
  for (const port of observation.inputs) {
    const value = observation.tensors.get(port.tensor)?.value;
    if (value) inputs.set(port.name, value);
  }
  return inputs;
}
