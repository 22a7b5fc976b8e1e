import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import type { Verdict } from "../../engine/protocol/report.js";

/** A folder with a port and its reference, and the script that runs both. */
export interface Port {
  readonly id: string;
  /** Relative to the repository. */
  readonly folder: string;
  /** In the folder; takes `--seed N`. */
  readonly script: string;
}

/** One fault, or one honest variant: edits of a copy of a port's folder. */
export interface Case {
  readonly id: string;
  readonly category: string;
  readonly port: Port;
  readonly honest: boolean;
  /** Verdicts that are right. Faults: FAIL, or an honest question where the tool cannot know; honest: PASS or WARN. */
  readonly accept: readonly Verdict[];
  readonly edits: readonly Edit[];
  /** Every third, by a hash of its id: not run while the tool is being tuned. */
  readonly heldOut: boolean;
}

export interface Edit {
  readonly file: string;
  /** Text that stands there once, or `nth` says which one is meant, from 1. */
  readonly find: string;
  readonly nth?: number;
  readonly replace: string;
  /**
   * Lines that may be named for this fault: "@" for those that the edit changed, or "file.py: text of the line" as it
   * stands afterwards. Default: "@". An empty list: the edit only makes room for another one.
   */
  readonly lines: readonly string[];
}

/** Reads the ports and all cases. @throws Error that names the file and the entry that is wrong. */
export async function loadCases(folder: string): Promise<Case[]> {
  const ports = await loadPorts(path.join(folder, "ports.json"));
  const files = (await readdir(path.join(folder, "faults"))).filter((f) => f.endsWith(".json"));
  const cases: Case[] = [];
  for (const file of files.sort()) {
    const where = `faults/${file}`;
    const top = record(JSON.parse(await readFile(path.join(folder, where), "utf8")), where);
    onlyFields(top, ["port", "cases"], where);
    const port = ports.get(text(top["port"], `${where}: port`));
    if (!port) throw new Error(`${where}: ports.json has no port of this name`);
    cases.push(...list(top["cases"], `${where}: cases`).map((c) => readCase(c, port, where)));
  }
  const seen = new Set<string>();
  for (const { id } of cases) {
    if (seen.has(id)) throw new Error(`two cases are called "${id}"`);
    seen.add(id);
  }
  return cases;
}

export function isHeldOut(id: string): boolean {
  return BigInt(`0x${createHash("sha256").update(id).digest("hex")}`) % 3n === 0n;
}

async function loadPorts(file: string): Promise<Map<string, Port>> {
  const ports = record(JSON.parse(await readFile(file, "utf8")), "ports.json");
  return new Map(
    Object.entries(ports).map(([id, value]) => {
      const port = record(value, `ports.json: ${id}`);
      onlyFields(port, ["folder", "script"], `ports.json: ${id}`);
      const folder = text(port["folder"], `ports.json: ${id}: folder`);
      return [id, { id, folder, script: text(port["script"], `ports.json: ${id}: script`) }];
    }),
  );
}

function readCase(value: unknown, port: Port, file: string): Case {
  const id = text(record(value, file)["id"], `${file}: id`);
  const where = `${file}: ${id}`;
  const fields = record(value, where);
  onlyFields(fields, ["id", "category", "honest", "accept", "edits"], where);
  if (!id.startsWith(`${port.id}/`)) throw new Error(`${where}: an id starts with its port's`);
  const honest = fields["honest"] === true;
  const given = fields["accept"];
  const accept =
    given === undefined
      ? honest
        ? (["pass", "warn"] as const)
        : (["fail"] as const)
      : list(given, `${where}: accept`).map((v) => verdict(v, where));
  const edits = list(fields["edits"], `${where}: edits`).map((e) => readEdit(e, where));
  const faults = edits.filter((edit) => edit.lines.length > 0).length;
  if (!honest && (faults < 1 || faults > 3))
    throw new Error(`${where}: one to three faults, not ${faults}`);
  const category = text(fields["category"], `${where}: category`);
  return { id, category, port, honest, accept, edits, heldOut: isHeldOut(id) };
}

function readEdit(value: unknown, where: string): Edit {
  const fields = record(value, `${where}: edit`);
  onlyFields(fields, ["file", "find", "nth", "replace", "lines"], where);
  const { nth, lines } = fields;
  if (nth !== undefined && !(Number.isInteger(nth) && (nth as number) > 0)) {
    throw new Error(`${where}: nth counts from 1`);
  }
  if (typeof fields["replace"] !== "string") throw new Error(`${where}: replace is missing`);
  return {
    file: text(fields["file"], `${where}: file`),
    find: text(fields["find"], `${where}: find`),
    ...(nth !== undefined && { nth: nth as number }),
    replace: fields["replace"],
    lines: lines === undefined ? ["@"] : list(lines, where).map((line) => text(line, where)),
  };
}

function record(value: unknown, where: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new Error(`${where}: an object is needed`);
}

function list(value: unknown, where: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw new Error(`${where}: a list is needed`);
}

function text(value: unknown, where: string): string {
  if (typeof value === "string" && value !== "") return value;
  throw new Error(`${where}: a text is needed`);
}

function verdict(value: unknown, where: string): Verdict {
  if (value === "pass" || value === "warn" || value === "unknown" || value === "fail") return value;
  throw new Error(`${where}: "${String(value)}" is no verdict`);
}

function onlyFields(value: Record<string, unknown>, known: readonly string[], where: string): void {
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`${where}: nobody reads "${unknown}"`);
}
