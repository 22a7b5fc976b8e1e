import { cp, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Case, Edit } from "./faultList.js";

export interface Line {
  readonly file: string;
  /** From 1. */
  readonly line: number;
}

/**
 * Copies the port's folder and applies a case's edits.
 * @returns for each fault of the case the lines that may be named for it.
 * @throws Error where an edit does not apply or a line does not exist afterwards.
 */
export async function plantCase(
  { id, port, edits, honest }: Case,
  root: string,
  folder: string,
): Promise<Line[][]> {
  await cp(path.join(root, port.folder), folder, {
    recursive: true,
    filter: (name) => !/(?:^|[/\\])(?:artefacts|__pycache__)$/.test(name),
  });
  const files = new Map<string, SourceLine[]>();
  const linesOf = async (file: string): Promise<SourceLine[]> => {
    const known = files.get(file);
    if (known) return known;
    const text = await readFile(path.join(folder, file), "utf8");
    const lines = text.split("\n").map((one) => ({ text: one }));
    files.set(file, lines);
    return lines;
  };
  const changed = new Map<Edit, readonly SourceLine[]>();
  for (const edit of edits) {
    changed.set(edit, applyEdit(await linesOf(edit.file), edit, id));
  }
  for (const [file, lines] of files) {
    await writeFile(path.join(folder, file), lines.map(({ text }) => text).join("\n"));
  }
  if (honest) return [];
  const wanted: Line[][] = [];
  for (const edit of edits.filter(({ lines }) => lines.length > 0)) {
    const found: Line[] = [];
    for (const line of edit.lines) {
      if (line === "@") {
        const all = await linesOf(edit.file);
        const own = (changed.get(edit) ?? []).map((one) => all.indexOf(one)).filter((n) => n >= 0);
        found.push(...own.map((n) => ({ file: edit.file, line: n + 1 })));
        continue;
      }
      const [, file = "", text = ""] = /^([\w./]+): (.*)$/.exec(line) ?? [];
      const at = (await linesOf(file)).flatMap((one, n) => (one.text.trim() === text ? [n] : []));
      if (at.length === 0) throw new Error(`${id}: no line "${line}" after the edits`);
      found.push(...at.map((n) => ({ file, line: n + 1 })));
    }
    if (found.length === 0) throw new Error(`${id}: nothing is left of an edit; name its lines`);
    wanted.push(found);
  }
  return wanted;
}

/** An object of its own, so that it is found again after later edits above it. */
interface SourceLine {
  readonly text: string;
}

/** Edits in place and returns the lines that are new. */
function applyEdit(lines: SourceLine[], edit: Edit, id: string): SourceLine[] {
  const text = lines.map((line) => line.text).join("\n");
  const places: number[] = [];
  for (let at = text.indexOf(edit.find); at >= 0; at = text.indexOf(edit.find, at + 1)) {
    places.push(at);
  }
  if (places.length === 0) throw new Error(`${id}: ${edit.file} has no "${edit.find}"`);
  if (places.length > 1 && edit.nth === undefined) {
    throw new Error(`${id}: ${edit.file} has ${places.length} times "${edit.find}": which one?`);
  }
  const at = places[(edit.nth ?? 1) - 1];
  if (at === undefined) throw new Error(`${id}: ${edit.file} has only ${places.length} of them`);
  const first = text.slice(0, at).split("\n").length - 1;
  const last = text.slice(0, at + edit.find.length).split("\n").length - 1;
  const before = lines.slice(first, last + 1);
  const replaced =
    text.slice(text.lastIndexOf("\n", at - 1) + 1, at) +
    edit.replace +
    text.slice(at + edit.find.length).split("\n", 1)[0];
  const left = [...before];
  const after = replaced.split("\n").map((one) => {
    const same = left.findIndex((line) => line.text === one);
    return same < 0 ? { text: one } : (left.splice(same, 1)[0] as SourceLine);
  });
  lines.splice(first, last - first + 1, ...after);
  return after.filter((line) => !before.includes(line));
}
