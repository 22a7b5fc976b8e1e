#!/usr/bin/env node
// Writes the JSON schemas of the run file and the report from their TypeScript types. `--out FOLDER` writes them there.
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import prettier from "prettier";
import { createGenerator } from "ts-json-schema-generator";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

const schemas = [
  {
    file: "run-file.schema.json",
    source: "engine/protocol/runFile.ts",
    type: "RunFile",
    title: "HSTU Parity run file",
    // A mistyped field must not be taken for one that is left out.
    additionalProperties: false,
  },
  {
    file: "report.schema.json",
    source: "engine/protocol/report.ts",
    type: "Report",
    title: "HSTU Parity report, schemaVersion 1",
    // A newer minor version may add fields; readers ignore what they do not know.
    additionalProperties: true,
  },
];

const outAt = process.argv.indexOf("--out");
const out =
  outAt > 0 ? path.resolve(process.argv[outAt + 1]) : path.join(root, "engine/protocol/schema");

await mkdir(out, { recursive: true });
for (const { file, source, type, title, additionalProperties } of schemas) {
  const schema = createGenerator({
    path: path.join(root, source),
    tsconfig: path.join(root, "tsconfig.json"),
    type,
    additionalProperties,
    topRef: false,
    skipTypeCheck: true,
  }).createSchema(type);
  const { $schema, ...rest } = schema;
  const text = JSON.stringify({ $schema, title, ...rest });
  const style = await prettier.resolveConfig(path.join(root, "package.json"));
  await writeFile(
    path.join(out, file),
    await prettier.format(text, { ...style, parser: "json", objectWrap: "collapse" }),
  );
}
