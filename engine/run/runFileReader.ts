import {
  getNodeValue,
  parseTree,
  printParseErrorCode,
  type Node,
  type ParseError,
} from "jsonc-parser";
import type { Problem } from "../protocol/report.js";
import type { RunFile } from "../protocol/runFile.js";
import { meaningProblems } from "./runFileChecksMeaning.js";
import { placesIn, type Path, type Places } from "./runFileChecksPlaces.js";
import { shapeProblems } from "./runFileChecksShape.js";

/**
 * Reads a run file; comments and trailing commas are allowed. Never throws.
 * @param file what the problems' sites name, absolute or relative to the report's base.
 * @returns every problem at its place, in the file's order. `runFile` is absent when there is an error among them.
 */
export function parseRunFile(
  text: string,
  file: string,
): { runFile?: RunFile; problems: Problem[] } {
  // A byte order mark is no mistake of the user's; a space in its place keeps every column.
  const content = text.replace(/^\uFEFF/, " ");
  const errors: ParseError[] = [];
  const tree = parseTree(content, errors, { allowTrailingComma: true });
  const places = placesIn(content, file, tree);
  const [syntax] = errors;
  // The parser guesses on after a mistake, and what it then complains of is mostly the first one's echo.
  if (syntax || !tree) return { problems: [syntaxProblem(content, syntax, places)] };

  const value: unknown = getNodeValue(tree);
  const duplicates = duplicateFields(tree, [], places);
  const shape = shapeProblems(value, places);
  const meaning = meaningProblems(value, places);
  const problems = [...duplicates, ...shape, ...meaning].sort(
    (a, b) =>
      (a.site?.line ?? 0) - (b.site?.line ?? 0) || (a.site?.column ?? 0) - (b.site?.column ?? 0),
  );
  return problems.some((problem) => problem.severity === "error")
    ? { problems }
    : { runFile: value as RunFile, problems };
}

function syntaxProblem(text: string, error: ParseError | undefined, places: Places): Problem {
  const empty = text.trim() === "";
  const end = text.trimEnd().length;
  const offset = empty ? 0 : Math.min(error?.offset ?? 0, Math.max(0, end - 1));
  const found = text.slice(offset, offset + Math.max(1, Math.min(error?.length ?? 1, 20)));
  const shown = found.split("\n")[0]?.trim() ?? "";
  const atEnd = (error?.offset ?? 0) >= end;
  return {
    severity: "error",
    code: "run-file-syntax",
    message: empty
      ? "the run file is empty"
      : `the run file is not valid JSON: ${wordsFor(error)}${
          atEnd ? " at the end of the file" : shown === "" ? "" : ` at ${JSON.stringify(shown)}`
        }`,
    nextStep: empty
      ? 'It needs at least "implementations" and "reference".'
      : "Mend this first; the rest of the file is checked after that.",
    site: places.at(offset, Math.max(1, Math.min(error?.length ?? 1, end - offset))),
  };
}

function wordsFor(error: ParseError | undefined): string {
  const code = error && printParseErrorCode(error.error);
  return (code && syntaxWords[code]) ?? "something is out of place";
}

/** By the parser's names of its error codes. */
const syntaxWords: Readonly<Record<string, string>> = {
  CommaExpected: "a comma is missing",
  ColonExpected: "a colon is missing",
  CloseBraceExpected: "a closing brace } is missing",
  CloseBracketExpected: "a closing bracket ] is missing",
  PropertyNameExpected: "a field name in double quotes is missing",
  ValueExpected: "a value is missing",
  EndOfFileExpected: "there is more after the end of the object",
  UnexpectedEndOfString: "a string is not closed",
  UnexpectedEndOfComment: "a comment is not closed",
  InvalidNumberFormat: "this is no number",
  UnexpectedEndOfNumber: "this is no number",
  InvalidCharacter: "a string has a character that must be escaped",
  InvalidUnicode: "a string has a character that must be escaped",
  InvalidEscapeCharacter: "a string has a character that must be escaped",
};

/** JSON lets the last of two equal names win, which hides the first from whoever wrote it. */
function duplicateFields(node: Node, path: Path, places: Places): Problem[] {
  if (node.type === "array") {
    return (node.children ?? []).flatMap((child, index) =>
      duplicateFields(child, [...path, index], places),
    );
  }
  if (node.type !== "object") return [];
  const seen = new Set<string>();
  return (node.children ?? []).flatMap((property) => {
    const [key, value] = property.children ?? [];
    const name = String(key?.value);
    const again = seen.has(name);
    seen.add(name);
    const inside = value ? duplicateFields(value, [...path, name], places) : [];
    if (!again || !key) return inside;
    const problem: Problem = {
      severity: "error",
      code: "run-file-duplicate-field",
      message: `${places.name([...path, name])} stands there twice`,
      nextStep: "Remove one of the two.",
      site: places.at(key.offset, key.length),
    };
    return [problem, ...inside];
  });
}
