import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";
import type { Problem } from "../protocol/report.js";
import schema from "../protocol/schema/run-file.schema.json" with { type: "json" };
import type { Path, Places } from "./runFileChecksPlaces.js";
import { nearestWord } from "./runFileChecksSuggestion.js";

/** What the schema says about a run file, in the user's terms. */
export function shapeProblems(value: unknown, places: Places): Problem[] {
  return [
    ...problemsBy("", value, [], places),
    ...implementationsOf(value).flatMap(([id, source]) =>
      implementationProblems(source, ["implementations", id], places),
    ),
  ];
}

/** The entries of `implementations`, where that is an object. */
export function implementationsOf(value: unknown): [string, unknown][] {
  const implementations = isObject(value) ? value["implementations"] : undefined;
  return isObject(implementations) ? Object.entries(implementations) : [];
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const definitions = {
  python: "PythonSource",
  trace: "RecordedTraceSource",
  onnx: "OnnxModelSource",
} as const;
type SourceKind = keyof typeof definitions;
const kinds = Object.keys(definitions) as SourceKind[];

/** A choice of two shapes is told by its one distinguishing field, not by what each shape lacks. */
function implementationProblems(source: unknown, path: Path, places: Places): Problem[] {
  const name = places.name(path);
  if (!isObject(source)) return [wrongType(path, "an object", source, places)];
  const given = kinds.filter((kind) => kind in source);
  const [kind] = given;
  if (given.length > 1) {
    return [
      {
        severity: "error",
        code: "run-file-implementation-ambiguous",
        message: `${name} has both ${given.map((one) => `"${one}"`).join(" and ")}`,
        nextStep: "Keep the one that it is: a Python script, a recorded trace or an ONNX model.",
        site: places.key(path),
      },
    ];
  }
  if (kind) return problemsBy(definitions[kind], source, path, places);
  const known = [...kinds, "label"];
  const unknown = Object.keys(source).filter((key) => !known.includes(key));
  const meant = unknown.filter((key) => nearestWord(key, kinds) !== undefined);
  if (meant.length > 0) {
    return unknown.map((key) => unknownField([...path, key], known, places));
  }
  return [
    ...unknown.map((key) => unknownField([...path, key], known, places)),
    {
      severity: "error",
      code: "run-file-implementation-without-source",
      message: `${name} has neither "python", "trace" nor "onnx"`,
      nextStep:
        'Give it "python" (a script), "trace" (a recorded trace) or "onnx" (an ONNX model).',
      site: places.key(path),
    },
  ];
}

let ajv: Ajv | undefined;
const validators = new Map<string, ValidateFunction>();

/** @param definition a name under the schema's `definitions`; "" is the whole run file. */
function validatorOf(definition: string): ValidateFunction {
  const known = validators.get(definition);
  if (known) return known;
  ajv ??= new Ajv({ allErrors: true, verbose: true }).addSchema(schema, "run-file");
  const made = ajv.compile({
    $ref: definition === "" ? "run-file" : `run-file#/definitions/${definition}`,
  });
  validators.set(definition, made);
  return made;
}

function problemsBy(definition: string, value: unknown, path: Path, places: Places): Problem[] {
  const validate = validatorOf(definition);
  if (validate(value)) return [];
  return (validate.errors ?? [])
    .map((error) => ({ error, path: [...path, ...pathOf(error.instancePath, value)] }))
    .filter((found) => definition !== "" || !isInsideImplementation(found.path))
    .flatMap((found) => problemOf(found.error, found.path, places) ?? []);
}

function isInsideImplementation(path: Path): boolean {
  return path[0] === "implementations" && path.length > 1;
}

/** A JSON pointer's parts; numbers where the value has an array there. */
function pathOf(pointer: string, value: unknown): Path {
  let current = value;
  return pointer
    .split("/")
    .slice(1)
    .map((part) => {
      const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
      const step = Array.isArray(current) ? Number(name) : name;
      current = (current as Record<string | number, unknown>)[step];
      return step;
    });
}

function problemOf(error: ErrorObject, path: Path, places: Places): Problem | undefined {
  const name = places.name(path);
  const params = error.params as Record<string, unknown>;
  const parent = error.parentSchema as Record<string, unknown> | undefined;
  switch (error.keyword) {
    case "additionalProperties": {
      const known = Object.keys((parent?.["properties"] ?? {}) as object);
      return unknownField([...path, String(params["additionalProperty"])], known, places);
    }
    case "required": {
      const missing = places.name([...path, String(params["missingProperty"])]);
      return {
        severity: "error",
        code: "run-file-missing-field",
        message: `${missing} is missing`,
        nextStep: descriptionOf(parent, String(params["missingProperty"])),
        site: places.key(path),
      };
    }
    case "type":
      return wrongType(path, article(String(params["type"])), error.data, places);
    case "enum": {
      const allowed = (params["allowedValues"] as unknown[]).map(String);
      const meant = typeof error.data === "string" ? nearestWord(error.data, allowed) : undefined;
      return {
        severity: "error",
        code: "run-file-wrong-value",
        message: `${name} cannot be ${JSON.stringify(error.data)}`,
        nextStep: `${meant ? `Did you mean "${meant}"? ` : ""}It is one of ${quoted(allowed)}.`,
        site: places.value(path),
      };
    }
    case "minimum":
    case "maximum": {
      const { minimum, maximum } = (parent ?? {}) as { minimum?: number; maximum?: number };
      const range = maximum === undefined ? `${minimum} or more` : `from ${minimum} to ${maximum}`;
      return {
        severity: "error",
        code: "run-file-out-of-range",
        message: `${name} is ${JSON.stringify(error.data)}, but must be ${range}`,
        nextStep: `Give a number ${range}.`,
        site: places.value(path),
      };
    }
    case "minLength":
      return {
        severity: "error",
        code: "run-file-empty",
        message: `${name} is empty`,
        nextStep: "Fill it in, or remove the field.",
        site: places.value(path),
      };
    case "minProperties":
      // How many implementations there are is a question of meaning.
      if (path[0] === "implementations") return undefined;
      return {
        severity: "error",
        code: "run-file-empty",
        message: `${name} sets nothing`,
        nextStep: `Set ${quoted(Object.keys((parent?.["properties"] ?? {}) as object))}, or remove it.`,
        site: places.value(path),
      };
    default:
      return {
        severity: "error",
        code: "run-file-wrong-value",
        message: `${name} ${error.message ?? "is not as the schema wants it"}`,
        nextStep: "See the run file's schema.",
        site: places.value(path),
      };
  }
}

function unknownField(path: Path, known: readonly string[], places: Places): Problem {
  const meant = nearestWord(String(path.at(-1)), known);
  return {
    severity: "error",
    code: "run-file-unknown-field",
    message: `${places.name(path)} is not a field that a run file has`,
    nextStep: meant ? `Did you mean "${meant}"?` : `Known here: ${quoted(known)}.`,
    site: places.key(path),
  };
}

function wrongType(path: Path, wanted: string, value: unknown, places: Places): Problem {
  const subject = path.length === 0 ? "the run file" : places.name(path);
  return {
    severity: "error",
    code: "run-file-wrong-type",
    message: `${subject} must be ${wanted}, but is ${typeName(value)}`,
    nextStep: `Give ${wanted}.`,
    site: places.value(path),
  };
}

function descriptionOf(parent: Record<string, unknown> | undefined, field: string): string {
  const properties = parent?.["properties"] as Record<string, { description?: string }> | undefined;
  const description = properties?.[field]?.description;
  return `Add "${field}"${description ? `: ${description}` : "."}`;
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "number" && !Number.isFinite(value)) return "too large a number";
  return article(typeof value);
}

function article(type: string): string {
  return /^[aeio]/.test(type) ? `an ${type}` : `a ${type}`;
}

function quoted(words: readonly string[]): string {
  return words.map((word) => `"${word}"`).join(", ");
}
