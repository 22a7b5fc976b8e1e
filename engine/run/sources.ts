import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { Problem, Site, Source } from "../protocol/report.js";

/** A source file that an implementation's ops point to, with the hash that was recorded when it ran. */
export interface RecordedSource {
  /** Relative to the run's base with `/`, or absolute when it lies outside. */
  readonly file: string;
  readonly sha256?: string;
}

/** Names a file relative to the base with `/`; a file outside it keeps its absolute name. */
export function relativeToBase(base: string, absolute: string): string {
  const relative = path.relative(base, absolute);
  return relative.startsWith("..") || path.isAbsolute(relative)
    ? absolute
    : relative.split(path.sep).join("/");
}

/** The name that a file has for the report, given relative to the folder of the trace or model that mentions it. */
export function rebase(file: string, folder: string, base: string): string {
  return file === "" ? "" : relativeToBase(base, path.resolve(folder, file));
}

/** Reads the functions that took part, so that the report is complete without the workspace. */
export async function readSources(
  base: string,
  recorded: readonly RecordedSource[],
  sites: readonly Site[],
): Promise<{ sources: Source[]; problems: Problem[] }> {
  const sources: Source[] = [];
  const problems: Problem[] = [];
  const linesByFile = new Map<string, Set<number>>();
  for (const site of sites) {
    const lines = linesByFile.get(site.file);
    if (lines) lines.add(site.line);
    else linesByFile.set(site.file, new Set([site.line]));
  }
  const hashes = new Map(recorded.map((source) => [source.file, source.sha256]));
  for (const [file, lines] of linesByFile) {
    const outside = path.isAbsolute(file);
    const bytes = await readFile(path.resolve(base, file)).catch(() => undefined);
    const expected = hashes.get(file);
    if (!bytes) {
      problems.push({
        severity: "warning",
        code: "source-missing",
        message: `${file} took part, but it is not there`,
        nextStep: "Restore the file to see its lines.",
      });
      continue;
    }
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    if (expected !== undefined && expected !== sha256) {
      problems.push({
        severity: "warning",
        code: "source-changed",
        message: `${file} has changed since the model was recorded: its line numbers may be off`,
        nextStep: "Record the implementation again.",
        site: { file, line: 1, function: "" },
      });
    }
    sources.push({
      file,
      ...(outside && { outside }),
      sha256,
      language: file.endsWith(".py") ? "python" : "plaintext",
      snippets: functionsAround(bytes.toString("utf8").split(/\r?\n/), [...lines]),
    });
  }
  return { sources: sources.sort((a, b) => a.file.localeCompare(b.file)), problems };
}

/** The functions (by indentation) around the given 1-based lines, merged where they overlap. */
export function functionsAround(
  text: readonly string[],
  lines: readonly number[],
): Source["snippets"] {
  const ranges = lines
    .filter((line) => line >= 1 && line <= text.length)
    .map((line) => functionRange(text, line - 1))
    .sort((a, b) => a.start - b.start);
  const merged: { start: number; end: number }[] = [];
  for (const range of ranges) {
    const last = merged.at(-1);
    if (last && range.start <= last.end + 1) last.end = Math.max(last.end, range.end);
    else merged.push({ ...range });
  }
  return merged.map(({ start, end }) => ({
    startLine: start + 1,
    text: text.slice(start, end + 1).join("\n"),
  }));
}

/** 0-based, inclusive. A line outside every function stands for itself. */
function functionRange(text: readonly string[], index: number): { start: number; end: number } {
  let limit = isBlank(text[index]) ? Infinity : indent(text[index]);
  let start = index;
  let inside = /^\s*(async\s+)?def\s/.test(text[index] ?? "");
  for (let i = index; i >= 0 && !inside; i--) {
    const line = text[i] as string;
    if (isBlank(line) || indent(line) >= limit) continue;
    limit = indent(line);
    if (/^\s*(async\s+)?def\s/.test(line)) {
      start = i;
      inside = true;
    } else if (limit === 0 && !/^\s*[)\]}]/.test(line)) break;
  }
  if (!inside) return { start: index, end: index };
  const level = indent(text[start]);
  let end = start;
  let openSignature = true;
  for (let i = start + 1; i < text.length; i++) {
    const line = text[i] as string;
    if (isBlank(line)) continue;
    if (openSignature && /^\s*\)/.test(line) && indent(line) === level) {
      openSignature = false;
      end = i;
      continue;
    }
    if (indent(line) <= level) break;
    end = i;
  }
  return { start, end };
}

function isBlank(line: string | undefined): boolean {
  return line === undefined || line.trim() === "";
}

function indent(line: string | undefined): number {
  return (line ?? "").length - (line ?? "").trimStart().length;
}
