import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { Report } from "../protocol/report.js";
import type { PythonScript, RunFile } from "../protocol/runFile.js";
import { userError } from "../protocol/userError.js";
import type { ScriptRun } from "./captureCalls.js";

/** What started a script, as a run file has to say it. */
export interface SavedScript extends Pick<ScriptRun, "target" | "args" | "cwd" | "env"> {
  /** Where the user chose it for this run. */
  readonly interpreter?: string;
}

/**
 * The run file that compares again what a run of a script compared: the choice of the implementations written down.
 * @param file where it will lie, absolute: the names in it are relative to its folder.
 * @throws UserError when the run compared nothing.
 */
export function runFileFor(report: Report, script: SavedScript, file: string): RunFile {
  const [first] = report.pairs;
  if (!first) {
    throw userError(
      "nothing-to-save",
      "the run compared nothing, so there is no choice to write down",
      "Name two calls with --reference ID and --candidate ID.",
    );
  }
  const folder = path.dirname(file);
  const { target, args, cwd, env, interpreter } = script;
  const python = (id: string): PythonScript => ({
    ...("script" in target
      ? { script: relativeName(folder, target.script) }
      : { module: target.module }),
    ...(args.length > 0 && { args: [...args] }),
    ...(env && Object.keys(env).length > 0 && { env: { ...env } }),
    ...(cwd !== folder && { cwd: relativeName(folder, cwd) }),
    ...(interpreter !== undefined && { interpreter }),
    function: id,
  });
  const candidates = report.pairs
    .filter(({ reference }) => reference === first.reference)
    .map(({ candidate }) => candidate);
  const name = "script" in target ? path.basename(target.script) : target.module;
  return {
    name: args.length > 0 ? `${name} ${args.join(" ")}` : name,
    implementations: Object.fromEntries(
      [first.reference, ...candidates].map((id) => [id, { python: python(id) }]),
    ),
    reference: first.reference,
  };
}

/** @throws UserError when there is such a file already, or when it cannot be written. */
export async function saveRunFile(
  report: Report,
  script: SavedScript,
  file: string,
): Promise<void> {
  const text = `${JSON.stringify(runFileFor(report, script, file), undefined, 2)}\n`;
  try {
    await writeFile(file, text, { flag: "wx" });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw userError(
      "run-file-not-saved",
      code === "EEXIST" ? `${file} is there already` : `${file} cannot be written: ${message}`,
      "Choose another name; it should end in .parity.json.",
    );
  }
}

function relativeName(folder: string, absolute: string): string {
  return path.relative(folder, absolute).split(path.sep).join("/");
}
