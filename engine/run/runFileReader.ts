import { parse, type ParseError } from "jsonc-parser";
import type { Problem } from "../protocol/report.js";
import type { RunFile } from "../protocol/runFile.js";

export function parseRunFile(
  text: string,
  file: string,
): { runFile?: RunFile; problems: Problem[] } {
  const errors: ParseError[] = [];
  const runFile = parse(text, errors) as RunFile;
  return errors.length > 0
    ? {
        problems: [
          {
            severity: "error",
            code: "run-file-syntax",
            message: "not JSON",
            nextStep: "",
            site: { file, line: 1, function: "" },
          },
        ],
      }
    : { runFile, problems: [] };
}
