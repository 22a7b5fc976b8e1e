import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { parseRunFile } from "../../engine/run/runFileReader.js";
import { root } from "../support/bundleRunner.js";

const samples = path.join(root, "samples/hstu");
const good = {
  implementations: { torch: { trace: "torch.trace.json" }, tripy: { onnx: "port.onnx" } },
  reference: "torch",
};

/** "line:column-endColumn code: message | nextStep" of each problem. */
function problemsOf(text: string): string[] {
  return parseRunFile(text, "a.parity.json").problems.map(
    ({ code, message, nextStep, site }) =>
      `${site?.line}:${site?.column}-${site?.endColumn} ${code}: ${message} | ${nextStep}`,
  );
}

function problemsWith(change: Record<string, unknown>): string[] {
  return problemsOf(JSON.stringify({ ...good, ...change }, null, 2));
}

describe("a good run file", () => {
  it("is read with everything that it may have", () => {
    const everything = {
      $schema: "run-file.schema.json",
      name: "A story",
      ...good,
      inputs: "inputs.safetensors",
      provider: "auto",
      tolerances: { "layers.*.output": { relL2: 1e-6, rtol: 0, atol: 1e-8, equalNan: true } },
      expected: [{ rows: "layers.*.norm", reason: "another eps" }],
      pairs: [{ reference: "a.*/b", candidate: "c.*/d" }],
      stages: { "a.*/**": "layers.*" },
      parameterPairs: [{ reference: "w", candidate: "v" }],
      coverageThreshold: 0.5,
      ownCheck: { atol: 0.03, rtol: 0.01 },
    };
    const { runFile, problems } = parseRunFile(JSON.stringify(everything), "a.parity.json");
    expect(problems).toEqual([]);
    expect(JSON.parse(JSON.stringify(runFile))).toEqual(everything);
  });

  it("may have comments, trailing commas and a byte order mark", () => {
    const text = `\uFEFF// what to compare\n${JSON.stringify(good).replace(/}$/, ', /* more */ "name": "x",}')}`;
    expect(parseRunFile(text, "f")).toMatchObject({ problems: [], runFile: { name: "x" } });
  });

  it("is each of the sample's", async () => {
    const files = (await readdir(samples)).filter((name) => name.endsWith(".parity.json"));
    expect(files.length).toBeGreaterThanOrEqual(3);
    for (const file of files) {
      const text = await readFile(path.join(samples, file), "utf8");
      expect(parseRunFile(text, file).problems, file).toEqual([]);
    }
  });
});

describe("a run file that is not JSON", () => {
  it.each([
    ["", "1:1-2 run-file-syntax: the run file is empty"],
    [" \n\n", "1:1-2 run-file-syntax: the run file is empty"],
    [
      '{\n  "reference": "torch"\n  "name": "x" }',
      '3:3-9 run-file-syntax: the run file is not valid JSON: a comma is missing at "\\"name\\""',
    ],
    ['{ "name" "x" }', "a colon is missing"],
    ['{ "name": "x"', "a closing brace } is missing at the end of the file"],
    ['{ "pairs": [1', "a closing bracket ] is missing at the end of the file"],
    ['{ "name": "x }', "a string is not closed"],
    ["{ /* name", "a comment is not closed"],
    ['{ "name": }', "a value is missing"],
    ["{ name: 1 }", "1:3-7 run-file-syntax"],
    ['{ "name": 1. }', "this is no number"],
    ['{ "name": "\u0001" }', "a character that must be escaped"],
    ["{} {}", "there is more after the end of the object"],
    ["\u0000\u0001\u0002PK", "run-file-syntax: the run file is not valid JSON"],
  ])("says where and what: %j", (text, expected) => {
    const { runFile, problems } = parseRunFile(text, "a.parity.json");
    expect(runFile).toBeUndefined();
    expect(problems).toHaveLength(1);
    expect(problemsOf(text)[0]).toContain(expected);
    expect(problems[0]?.message).not.toContain("\n");
    expect(problems[0]?.site).toMatchObject({ file: "a.parity.json" });
  });
});

describe("a run file of the wrong shape", () => {
  it.each(["[]", "null", "3", '"x"'])("must be an object, not %s", (text) => {
    expect(problemsOf(text)).toHaveLength(1);
    expect(problemsOf(text)[0]).toContain("run-file-wrong-type: the run file must be an object");
  });

  it("lacks what it must have", () => {
    expect(problemsOf("{}")).toEqual([
      expect.stringContaining("1:1-3 run-file-missing-field: implementations is missing | Add"),
      expect.stringContaining("1:1-3 run-file-missing-field: reference is missing | Add"),
    ]);
  });

  it("has an unknown field, which it names at its place with the field that was meant", () => {
    expect(problemsWith({ providr: "cpu" })).toEqual([
      '11:3-12 run-file-unknown-field: providr is not a field that a run file has | Did you mean "provider"?',
    ]);
    expect(problemsWith({ colour: 1 })[0]).toContain('Known here: "$schema", "name"');
    expect(problemsWith({ ownCheck: { atol: 0, rotl: 1 } })).toEqual([
      '13:5-11 run-file-unknown-field: ownCheck.rotl is not a field that a run file has | Did you mean "rtol"?',
    ]);
  });

  it.each([
    [{ name: 3 }, "11:11-12 run-file-wrong-type: name must be a string, but is a number"],
    [{ reference: null }, "reference must be a string, but is null"],
    [{ implementations: [] }, "implementations must be an object, but is an array"],
    [
      { implementations: { a: 1, b: { onnx: "x" } }, reference: "b" },
      "implementations.a must be an object, but is a number",
    ],
    [
      { implementations: { a: { trace: 1 }, b: { onnx: "x" } }, reference: "b" },
      "implementations.a.trace must be a string, but is a number",
    ],
    [{ stages: { a: 1 } }, "stages.a must be a string, but is a number"],
    [{ pairs: {} }, "pairs must be an array, but is an object"],
    [{ pairs: ["a"] }, "pairs[0] must be an object, but is a string"],
    [{ tolerances: { "a.*": 1e-3 } }, 'tolerances["a.*"] must be an object, but is a number'],
    [
      { tolerances: { "a.*": { relL2: "1" } } },
      'tolerances["a.*"].relL2 must be a number, but is a string',
    ],
    [
      { tolerances: { a: { equalNan: 1 } } },
      "tolerances.a.equalNan must be a boolean, but is a number",
    ],
  ])("has a value of the wrong type: %j", (change, expected) => {
    const problems = problemsWith(change);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(expected);
  });

  it.each([
    [{ pairs: [{ reference: "a" }] }, "run-file-missing-field: pairs[0].candidate is missing"],
    [{ expected: [{ rows: "a" }] }, "run-file-missing-field: expected[0].reason is missing"],
    [{ ownCheck: { rtol: 1 } }, "run-file-missing-field: ownCheck.atol is missing"],
    [
      { provider: "cudda" },
      'run-file-wrong-value: provider cannot be "cudda" | Did you mean "cuda"? It is one of "auto"',
    ],
    [
      { coverageThreshold: 1.5 },
      "11:24-27 run-file-out-of-range: coverageThreshold is 1.5, but must be from 0 to 1",
    ],
    [
      { coverageThreshold: -0.1 },
      "run-file-out-of-range: coverageThreshold is -0.1, but must be from 0 to 1",
    ],
    [
      { tolerances: { a: { relL2: -1 } } },
      "run-file-out-of-range: tolerances.a.relL2 is -1, but must be 0 or more",
    ],
    [{ tolerances: { a: { atol: -1 } } }, "run-file-out-of-range: tolerances.a.atol"],
    [{ tolerances: { a: { rtol: -1 } } }, "run-file-out-of-range: tolerances.a.rtol"],
    [{ ownCheck: { atol: -1 } }, "run-file-out-of-range: ownCheck.atol"],
    [{ ownCheck: { atol: 0, rtol: -1 } }, "run-file-out-of-range: ownCheck.rtol"],
    [{ tolerances: { a: {} } }, 'run-file-empty: tolerances.a sets nothing | Set "relL2"'],
    [{ inputs: "" }, "run-file-empty: inputs is empty"],
    [{ expected: [{ rows: "a", reason: "" }] }, "run-file-empty: expected[0].reason is empty"],
    [{ expected: [{ rows: "", reason: "b" }] }, "run-file-empty: expected[0].rows is empty"],
    [{ reference: "" }, "run-file-empty: reference is empty"],
  ])("has a value that cannot be: %j", (change, expected) => {
    const problems = problemsWith(change);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(expected);
  });

  it("has a number beyond what floating point holds", () => {
    const text = JSON.stringify({ ...good, ownCheck: { atol: 7 } }).replace("7", "1e999");
    expect(problemsOf(text)[0]).toContain(
      "ownCheck.atol must be a number, but is too large a number",
    );
  });

  it("says the same field twice", () => {
    const text = JSON.stringify(good).replace(/}$/, ',\n"reference": "tripy"}');
    expect(problemsOf(text)).toEqual([
      "2:1-12 run-file-duplicate-field: reference stands there twice | Remove one of the two.",
    ]);
    expect(problemsOf('{"pairs": [{"reference": "a", "reference": "b"}]}')).toContainEqual(
      expect.stringContaining("pairs[0].reference stands there twice"),
    );
  });
});

describe("implementations", () => {
  const of = (implementations: Record<string, unknown>): string[] =>
    problemsWith({ implementations: { ...good.implementations, ...implementations } });

  it.each([
    [
      { x: { trace: "a", onnx: "b" } },
      "9:5-8 run-file-implementation-ambiguous: implementations.x has both",
    ],
    [{ x: {} }, "run-file-implementation-without-source: implementations.x has neither"],
    [
      { x: { label: "x" } },
      "run-file-implementation-without-source: implementations.x has neither",
    ],
    [
      { x: { onxn: "a" } },
      'run-file-unknown-field: implementations.x.onxn is not a field that a run file has | Did you mean "onnx"?',
    ],
    [
      { x: { onnx: "a", lable: "b" } },
      'run-file-unknown-field: implementations.x.lable is not a field that a run file has | Did you mean "label"?',
    ],
    [{ x: { onnx: "" } }, "run-file-empty: implementations.x.onnx is empty"],
    [{ "": { onnx: "a" } }, "run-file-empty: an implementation has an empty id"],
  ])("%j", (change, expected) => {
    const problems = of(change);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(expected);
  });

  it("names an unknown field beside a missing source", () => {
    expect(of({ x: { script: "a.py" } }).map((p) => p.split(" ")[1])).toEqual([
      "run-file-implementation-without-source:",
      "run-file-unknown-field:",
    ]);
  });

  it("are not empty, and more than one", () => {
    expect(problemsWith({ implementations: {} })).toEqual([
      expect.stringContaining("2:3-20 run-file-no-implementations: implementations is empty"),
    ]);
    expect(problemsWith({ implementations: { torch: { trace: "a" } } })).toEqual([
      expect.stringContaining('run-file-one-implementation: implementations has only "torch"'),
    ]);
  });

  it("have the reference among them", () => {
    expect(problemsWith({ reference: "trch" })).toEqual([
      '10:16-22 run-file-unknown-reference: reference is "trch", which is not one of the implementations | Did you mean "torch"?',
    ]);
    expect(problemsWith({ reference: "production" })[0]).toContain("Choose one of: torch, tripy.");
    expect(problemsWith({ reference: "__proto__" })[0]).toContain("run-file-unknown-reference");
  });
});

describe("globs", () => {
  it.each([
    [
      { tolerances: { "a***": { relL2: 1 } } },
      '12:5-11 run-file-bad-glob: the glob "a***" in tolerances has more than two asterisks',
    ],
    [{ tolerances: { "": { relL2: 1 } } }, 'run-file-bad-glob: the glob "" in tolerances is empty'],
    [{ stages: { " a": "x" } }, 'run-file-bad-glob: the glob " a" in stages has spaces around it'],
    [
      { stages: { "a.*": "x.*.*" } },
      'run-file-bad-glob: stages["a.*"] is "x.*.*", which has more wildcards than its glob',
    ],
    [
      { expected: [{ rows: "***", reason: "r" }] },
      "run-file-bad-glob: expected[0].rows has more than two",
    ],
    [
      { pairs: [{ reference: "a.*", candidate: "b" }] },
      "run-file-bad-glob: pairs[0] has other wildcards in candidate (none) than in reference (*)",
    ],
    [
      { pairs: [{ reference: "a", candidate: "b.*" }] },
      "run-file-bad-glob: pairs[0] has other wildcards in candidate (*) than in reference (none)",
    ],
    [
      { pairs: [{ reference: "a.*", candidate: "b.**" }] },
      "run-file-bad-glob: pairs[0] has other wildcards",
    ],
    [
      { parameterPairs: [{ reference: "a.*", candidate: "b" }] },
      "run-file-bad-glob: parameterPairs[0] has other wildcards",
    ],
    [
      { pairs: [{ reference: "", candidate: "b" }] },
      "run-file-bad-glob: pairs[0].reference is empty",
    ],
  ])("%j", (change, expected) => {
    const problems = problemsWith(change);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(expected);
  });

  it("warn where a character looks like a wildcard and is none", () => {
    const text = JSON.stringify({ ...good, stages: { "a.{0,1}": "x" } });
    const { runFile, problems } = parseRunFile(text, "f");
    expect(runFile).toBeDefined();
    expect(problems).toMatchObject([{ severity: "warning", code: "run-file-literal-in-glob" }]);
  });
});

it("lists every problem, in the order of the file", () => {
  const problems = problemsWith({
    reference: "nobody",
    coverageThreshold: 2,
    nmae: "x",
    pairs: [{ candidate: "a" }],
  });
  expect(problems.map((problem) => problem.split(" ")[1])).toEqual([
    "run-file-unknown-reference:",
    "run-file-out-of-range:",
    "run-file-unknown-field:",
    "run-file-missing-field:",
  ]);
});

it("gives columns after characters outside ASCII and on Windows line ends", () => {
  const text = '{\r\n  "näme": 1, "reference": 3,\r\n  "implementations": {}\r\n}';
  expect(parseRunFile(text, "f").problems.map((p) => p.site)).toMatchObject([
    { line: 2, column: 3, endColumn: 9 },
    { line: 2, column: 27, endColumn: 28 },
    { line: 3, column: 3, endColumn: 20 },
  ]);
});

it("marks only the first line of a value of several lines", () => {
  const text = '{\n  "pairs": {\n    "a": 1\n  },\n  "reference": "torch"\n}';
  const { problems } = parseRunFile(text, "f");
  expect(problems.find(({ code }) => code === "run-file-wrong-type")?.site).toMatchObject({
    line: 2,
    column: 12,
    endColumn: 13,
  });
});
