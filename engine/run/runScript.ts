import { createTorchExecutor } from "../capture/torchExecutor.js";
import type { CaptureIndex } from "../protocol/capture.js";
import type { Report } from "../protocol/report.js";
import type { ComparisonRules, Provider } from "../protocol/runFile.js";
import { createRunner } from "../runner/supervisor.js";
import { assembleReport } from "./assembleReport.js";
import {
  captureCalls,
  nameOfTarget,
  type CaptureSettings,
  type CapturedScript,
  type ScriptRun,
} from "./captureCalls.js";
import { compareCalls } from "./compareCalls.js";
import { describeCapture } from "./describeCapture.js";
import { writeOutputs } from "./finalOutputs.js";
import { relativeToBase } from "./sources.js";

export interface ScriptOptions extends ScriptRun, Omit<CaptureSettings, "executor"> {
  /** The bundled runner child. */
  readonly runnerEntry: string;
  /** Folder that the report's file names are relative to. */
  readonly base: string;
  readonly provider?: Provider;
  readonly reference?: string;
  /** Candidates to compare. Default: all that were found. */
  readonly candidates?: readonly string[];
  readonly rules?: ComparisonRules;
  /** Folder for what was compared of the final outputs. */
  readonly outputs?: string;
  /** Limit for the script as a whole, and for one evaluation. Default: 600,000 and 120,000. */
  readonly timeoutMs?: number;
  readonly onProgress: (stage: string, fraction?: number) => void;
  /** The command line, for the report. */
  readonly command: readonly string[];
}

export interface ScriptReport {
  readonly report: Report;
  readonly capture: CaptureIndex;
  /** Hashes of the parameters and inputs of what was compared, by call and name. */
  readonly hashes: Readonly<Record<string, string>>;
}

/**
 * Runs a user's script under the capture agent, finds the implementations among what it called, compares them and
 * reports as a run file's run does.
 * @throws UserError when nothing could be captured for a reason that the user can mend.
 * @throws RunnerFailure when a child of the engine died or did not answer.
 */
export async function runScript(options: ScriptOptions): Promise<ScriptReport> {
  const startedAt = new Date();
  const { onProgress, agentFolder, interpreter, base } = options;
  const evaluationTimeoutMs = options.timeoutMs ?? 120_000;
  const executor = createRunner({
    provider: options.provider ?? "cpu",
    entry: options.runnerEntry,
    timeoutMs: evaluationTimeoutMs,
  });
  const torch = createTorchExecutor({
    python: interpreter.path,
    agentFolder,
    timeoutMs: evaluationTimeoutMs,
  });
  let captured: CapturedScript | undefined;
  try {
    const { target, args } = options;
    onProgress(`Running ${nameOfTarget(target)}`, 0.05);
    captured = await captureCalls(options, { ...options, executor });
    const { index, result, calls, folder } = captured;
    onProgress("Finding what to compare", 0.5);
    const { references, compared, problems, atBest, hashes } = await compareCalls(calls, {
      ...options,
      index,
      executor,
      torch,
      folder,
    });
    if (options.outputs !== undefined) {
      for (const { candidate, result } of compared) {
        await writeOutputs(options.outputs, candidate.id, result.outputs);
      }
    }
    const ended = describeCapture(index, result, base);
    const report = await assembleReport({
      startedAt,
      command: options.command,
      base,
      run: {
        script: {
          file: "script" in target ? relativeToBase(base, target.script) : `-m ${target.module}`,
          args: [...args],
          exitCode: result.exitCode ?? -1,
        },
        cache: "off",
      },
      python: interpreter.version,
      references,
      compared,
      problems: [...ended.problems, ...problems],
      atBest: worse(atBest, ended.atBest),
    });
    return { report, capture: index, hashes };
  } finally {
    executor.dispose();
    torch.dispose();
    await captured?.dispose();
  }
}

function worse(a: "pass" | "unknown", b: "pass" | "warn"): "pass" | "warn" | "unknown" {
  return a === "unknown" ? a : b;
}
