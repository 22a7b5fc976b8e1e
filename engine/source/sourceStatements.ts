import { readFileSync } from "node:fs";
import path from "node:path";
import type { Statement, StatementsOf } from "../core/statements.js";
import { pythonStatements } from "./pythonStatements.js";

/** Reads the statements of the user's sources, each file once. Files are named relative to `base`. */
export function sourceStatements(base: string): StatementsOf {
  const known = new Map<string, readonly Statement[]>();
  return (file) => {
    let statements = known.get(file);
    if (!statements) known.set(file, (statements = read(path.resolve(base, file))));
    return statements;
  };
}

/** A file that is gone or that is no Python leaves the search for lines with less to go by. */
function read(file: string): readonly Statement[] {
  if (!file.endsWith(".py")) return [];
  try {
    return pythonStatements(readFileSync(file, "utf8"));
  } catch {
    return [];
  }
}
