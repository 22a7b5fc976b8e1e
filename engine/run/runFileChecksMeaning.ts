import type { Problem } from "../protocol/report.js";
import type { Path, Places } from "./runFileChecksPlaces.js";
import { implementationsOf, isObject } from "./runFileChecksShape.js";
import { nearestWord } from "./runFileChecksSuggestion.js";

/**
 * What no schema can say: ids that refer to each other, and globs. Takes any value and looks only at what has the right
 * shape; the rest has its own problems already.
 */
export function meaningProblems(value: unknown, places: Places): Problem[] {
  if (!isObject(value)) return [];
  return [
    ...implementationCount(value, places),
    ...referenceProblems(value, places),
    ...scriptProblems(value, places),
    ...globProblems(value, places),
  ];
}

function implementationCount(value: Record<string, unknown>, places: Places): Problem[] {
  if (!isObject(value["implementations"])) return [];
  const ids = implementationsOf(value).map(([id]) => id);
  const site = places.key(["implementations"]);
  const unnamed = ids
    .filter((id) => id.trim() === "")
    .map((id) =>
      error(
        "run-file-empty",
        "an implementation has an empty id",
        'Name it, for example "tripy".',
        places.key(["implementations", id]),
      ),
    );
  if (ids.length === 0) {
    const step = "Name the reference and at least one candidate.";
    return [error("run-file-no-implementations", "implementations is empty", step, site)];
  }
  if (ids.length === 1) {
    return [
      ...unnamed,
      error(
        "run-file-one-implementation",
        `implementations has only "${ids[0]}": there is nothing to compare it with`,
        "Add a second implementation.",
        site,
      ),
    ];
  }
  return unnamed;
}

function referenceProblems(value: Record<string, unknown>, places: Places): Problem[] {
  const { reference, implementations } = value;
  if (typeof reference !== "string" || reference === "" || !isObject(implementations)) return [];
  const ids = Object.keys(implementations);
  if (ids.length === 0 || ids.includes(reference)) return [];
  const meant = nearestWord(reference, ids);
  return [
    error(
      "run-file-unknown-reference",
      `reference is "${reference}", which is not one of the implementations`,
      meant ? `Did you mean "${meant}"?` : `Choose one of: ${ids.join(", ")}.`,
      places.value(["reference"]),
    ),
  ];
}

/** Exactly one of a script and a module, and inputs of their own. */
function scriptProblems(value: Record<string, unknown>, places: Places): Problem[] {
  return implementationsOf(value).flatMap(([id, source]) => {
    const python = isObject(source) ? source["python"] : undefined;
    if (!isObject(python)) return [];
    const path = ["implementations", id, "python"];
    const given = ["script", "module"].filter((field) => field in python);
    const problems: Problem[] = [];
    if (given.length !== 1) {
      const has =
        given.length === 0 ? 'neither "script" nor "module"' : 'both "script" and "module"';
      const step = 'Give it "script" (a file) or "module" (as after python -m).';
      problems.push(
        error("run-file-script-missing", `${places.name(path)} has ${has}`, step, places.key(path)),
      );
    }
    if ("inputs" in value) {
      problems.push(
        error(
          "run-file-inputs-unused",
          `inputs cannot be given to ${places.name(path)}: a script makes its own`,
          "Remove inputs, or compare recorded traces and ONNX models.",
          places.key(["inputs"]),
        ),
      );
    }
    return problems;
  });
}

interface FoundGlob {
  readonly pattern: string;
  readonly path: Path;
  /** The pattern is a field's name, not its value. */
  readonly isKey: boolean;
}

function globProblems(value: Record<string, unknown>, places: Places): Problem[] {
  const keyGlobs = ["tolerances", "stages"].flatMap((field) =>
    keysOf(value[field]).map((pattern) => ({ pattern, path: [field, pattern], isKey: true })),
  );
  const entryGlobs = [
    ...entryFields(value, "expected", ["rows"]),
    ...entryFields(value, "pairs", ["reference", "candidate"]),
    ...entryFields(value, "parameterPairs", ["reference", "candidate"]),
  ];
  return [
    ...[...keyGlobs, ...entryGlobs].flatMap((glob) => badGlob(glob, places)),
    ...["pairs", "parameterPairs"].flatMap((field) =>
      unequalWildcards(value[field], field, places),
    ),
    ...stageWildcards(value["stages"], places),
  ];
}

function entryFields(
  value: Record<string, unknown>,
  field: string,
  names: readonly string[],
): FoundGlob[] {
  const list = value[field];
  if (!Array.isArray(list)) return [];
  return list.flatMap((entry: unknown, index) =>
    names.flatMap((name) => {
      const pattern = isObject(entry) ? entry[name] : undefined;
      return typeof pattern === "string"
        ? [{ pattern, path: [field, index, name], isKey: false }]
        : [];
    }),
  );
}

function badGlob({ pattern, path, isKey }: FoundGlob, places: Places): Problem[] {
  const site = isKey ? places.key(path) : places.value(path);
  const [field] = path;
  const name = isKey
    ? `the glob ${JSON.stringify(pattern)} in ${String(field)}`
    : places.name(path);
  if (pattern.trim() === "") {
    // An empty value is the schema's business where it says so; an empty name it cannot refuse.
    if (!isKey && field === "expected") return [];
    return [
      error("run-file-bad-glob", `${name} is empty`, "A glob names at least one tensor.", site),
    ];
  }
  if (pattern.includes("***")) {
    const step = 'Use "*" for a part of a name, "**" for any text.';
    return [error("run-file-bad-glob", `${name} has more than two asterisks in a row`, step, site)];
  }
  if (pattern !== pattern.trim()) {
    const step = "Remove them.";
    return [error("run-file-bad-glob", `${name} has spaces around it`, step, site)];
  }
  const literal = /[?{}]/.exec(pattern)?.[0];
  return literal === undefined
    ? []
    : [
        {
          severity: "warning",
          code: "run-file-literal-in-glob",
          message: `${name} has a "${literal}", which stands for itself`,
          nextStep: 'Only "*" (a part of a name) and "**" (any text) are wildcards.',
          site,
        },
      ];
}

/** The k-th wildcard of each side stands for the same text, so both sides need the same ones. */
function unequalWildcards(list: unknown, field: string, places: Places): Problem[] {
  if (!Array.isArray(list)) return [];
  return list.flatMap((entry: unknown, index) => {
    if (!isObject(entry)) return [];
    const { reference, candidate } = entry;
    if (typeof reference !== "string" || typeof candidate !== "string") return [];
    const [mine, theirs] = [wildcards(reference), wildcards(candidate)];
    if (mine.join(" ") === theirs.join(" ")) return [];
    return [
      error(
        "run-file-bad-glob",
        `${places.name([field, index])} has other wildcards in candidate (${shown(theirs)}) than in reference (${shown(mine)})`,
        "The k-th wildcard of both stands for the same text: give both the same ones.",
        places.value([field, index, "candidate"]),
      ),
    ];
  });
}

function stageWildcards(stages: unknown, places: Places): Problem[] {
  if (!isObject(stages)) return [];
  return Object.entries(stages).flatMap(([glob, stage]) => {
    if (typeof stage !== "string" || wildcards(stage).length <= wildcards(glob).length) return [];
    return [
      error(
        "run-file-bad-glob",
        `${places.name(["stages", glob])} is "${stage}", which has more wildcards than its glob`,
        "The k-th * of a stage stands for what the glob's k-th wildcard stands for.",
        places.value(["stages", glob]),
      ),
    ];
  });
}

function wildcards(pattern: string): string[] {
  return pattern.match(/\*\*?/g) ?? [];
}

function shown(found: readonly string[]): string {
  return found.length === 0 ? "none" : found.join(" ");
}

function keysOf(value: unknown): string[] {
  return isObject(value) ? Object.keys(value) : [];
}

function error(code: string, message: string, nextStep: string, site: Problem["site"]): Problem {
  return { severity: "error", code, message, nextStep, ...(site && { site }) };
}
