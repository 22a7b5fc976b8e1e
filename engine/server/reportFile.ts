import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Report } from "../protocol/report.js";
import { userError } from "../protocol/userError.js";

/**
 * Where the report of a run file or a script is kept: NAME.parity-report.json, in a folder of its own for each place of
 * a NAME.
 */
export function reportFileFor(storage: string, file: string): string {
  const name = path.basename(file).replace(/\.parity\.json$|\.pyw?$/, "");
  const place = createHash("sha256").update(file).digest("hex").slice(0, 12);
  return path.join(storage, place, `${name}.parity-report.json`);
}

/**
 * Writes the report whole or not at all: readers never see half a file.
 * @throws UserError `report-unwritable`
 */
export async function writeReport(file: string, report: Report): Promise<void> {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(temporary, JSON.stringify(report));
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw userError(
      "report-unwritable",
      `the report cannot be written to ${file}: ${(error as Error).message}`,
      "Free the disk or mend the folder's permissions, then run again.",
    );
  }
}

/** A report of an earlier session; undefined when it is gone or of another schema. */
export async function readReport(file: string): Promise<Report | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(file, "utf8"));
    return isReport(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** As deep as the index and the hovers need; the file lies in the editor's own storage. */
function isReport(value: unknown): value is Report {
  if (typeof value !== "object" || value === null) return false;
  const { schemaVersion, run, pairs, implementations, sources, problems } = value as Record<
    string,
    unknown
  >;
  return (
    schemaVersion === 1 &&
    typeof run === "object" &&
    run !== null &&
    typeof (run as Record<string, unknown>)["base"] === "string" &&
    [pairs, implementations, sources, problems].every(Array.isArray)
  );
}
