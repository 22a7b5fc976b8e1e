import { open, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Report } from "../protocol/report.js";
import { userError, type UserError } from "../protocol/userError.js";

/** A place for the report that was found writable before the run. */
export interface ReportTarget {
  /** Replaces what is there in one step, so that a reader never sees half a report. @throws UserError */
  write(report: Report): Promise<void>;
}

/**
 * Makes sure that the report can be written, so that no long run ends with nothing.
 * @throws UserError "report-unwritable"
 */
export async function openReportTarget(file: string): Promise<ReportTarget> {
  const there = await stat(file).catch(() => undefined);
  if (there?.isDirectory()) throw unwritable(file, "it is a folder");
  // A device or a pipe cannot be replaced, it is written to.
  const replaced = there === undefined || there.isFile();
  const beside = path.join(
    path.dirname(file),
    `.${path.basename(file).slice(0, 100)}.${process.pid}.tmp`,
  );
  if (replaced) {
    try {
      await (await open(beside, "w")).close();
    } catch (error) {
      throw unwritable(file, reasonOf(error));
    } finally {
      await rm(beside, { force: true }).catch(() => undefined);
    }
  }
  return {
    async write(report) {
      const text = `${JSON.stringify(report, undefined, 1)}\n`;
      try {
        await writeFile(replaced ? beside : file, text);
        if (replaced) await rename(beside, file);
      } catch (error) {
        await rm(beside, { force: true }).catch(() => undefined);
        throw unwritable(file, reasonOf(error));
      }
    },
  };
}

function unwritable(file: string, reason: string): UserError {
  return userError(
    "report-unwritable",
    `the report ${file} cannot be written: ${reason}`,
    "Give --report a file in a folder that exists and that you may write to.",
  );
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return (code !== undefined ? reasons[code] : undefined) ?? message;
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "its folder does not exist",
  ENOTDIR: "what stands for its folder is a file",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
};
