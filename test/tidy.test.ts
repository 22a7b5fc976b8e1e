import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
/** Everything that is or would be committed. */
const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
  maxBuffer: 1 << 26,
})
  .split("\n")
  .filter((file) => file !== "" && existsSync(path.join(root, file)));
const read = (file: string): string => readFileSync(path.join(root, file), "utf8");
const isIn = (folder: string) => (file: string) => file.startsWith(`${folder}/`);

interface Import {
  readonly from: string;
  /** A package or Node module, or a file of this repository relative to its root. */
  readonly to: string;
  readonly local: boolean;
}

const typeScript = files.filter((file) => file.endsWith(".ts"));
const imports: Import[] = typeScript.flatMap((from) => {
  const text = read(from);
  const { importedFiles } = ts.preProcessFile(text, true, true);
  // `createRequire(…)("x")` is an import as well, which the compiler does not see.
  const required = [...text.matchAll(/createRequire\([^)]*\)(?:\.resolve)?\("([^"]+)"\)/g)];
  const names = [...importedFiles.map(({ fileName }) => fileName), ...required.map((m) => m[1])];
  return names
    .filter((name) => name !== undefined)
    .map((name) =>
      name.startsWith(".")
        ? { from, to: path.posix.join(path.posix.dirname(from), name), local: true }
        : { from, to: name, local: false },
    );
});

function offenders(isWrong: (one: Import) => boolean): string[] {
  return imports.filter(isWrong).map(({ from, to }) => `${from} imports ${to}`);
}

describe("layering", () => {
  const isPackage = (name: string) => (one: Import) =>
    !one.local && (one.to === name || one.to.startsWith(`${name}/`));

  it("sees imports of every kind", () => {
    expect(imports.length).toBeGreaterThan(200);
    expect(imports).toContainEqual({
      from: "engine/runner/runnerChild.ts",
      to: "onnxruntime-node",
      local: false,
    });
    expect(imports).toContainEqual({
      from: "test/tidy.test.ts",
      to: "node:child_process",
      local: false,
    });
  });

  it("engine/core imports nothing outside itself and engine/protocol", () => {
    const allowed = (to: string): boolean => isIn("engine/core")(to) || isIn("engine/protocol")(to);
    expect(
      offenders((one) => isIn("engine/core")(one.from) && !(one.local && allowed(one.to))),
    ).toEqual([]);
  });

  it("engine/protocol imports nothing outside itself", () => {
    expect(
      offenders(
        (one) =>
          isIn("engine/protocol")(one.from) && !(one.local && isIn("engine/protocol")(one.to)),
      ),
    ).toEqual([]);
  });

  it("extension/ and webview/ import from the engine only engine/protocol", () => {
    expect(
      offenders(
        ({ from, to, local }) =>
          (isIn("extension")(from) || isIn("webview")(from)) &&
          local &&
          isIn("engine")(to) &&
          !isIn("engine/protocol")(to),
      ),
    ).toEqual([]);
  });

  it("the engine imports neither the extension nor the panel", () => {
    expect(
      offenders(
        ({ from, to, local }) =>
          isIn("engine")(from) && local && (isIn("extension")(to) || isIn("webview")(to)),
      ),
    ).toEqual([]);
  });

  it("vscode only in extension/ and in the tests inside VS Code", () => {
    expect(
      offenders(
        (one) =>
          isPackage("vscode")(one) && !isIn("extension")(one.from) && !isIn("test/host")(one.from),
      ),
    ).toEqual([]);
  });

  it("onnxruntime-node only in the runner child; the supervisor asks for its version alone", () => {
    expect(
      offenders(
        (one) =>
          isPackage("onnxruntime-node")(one) &&
          !isIn("test")(one.from) &&
          one.from !== "engine/runner/runnerChild.ts" &&
          !(
            one.from === "engine/runner/supervisor.ts" && one.to === "onnxruntime-node/package.json"
          ),
      ),
    ).toEqual([]);
    expect(
      offenders(({ from, to }) => to === "engine/runner/runnerChild.js" && isIn("engine")(from)),
    ).toEqual([]);
  });

  it("the toolkit only in webview/ui/components.ts", () => {
    expect(
      offenders(
        (one) =>
          isPackage("@vscode/webview-ui-toolkit")(one) &&
          one.from !== "webview/ui/components.ts" &&
          !isIn("test")(one.from),
      ),
    ).toEqual([]);
  });

  it("no Node module in the panel, no DOM outside it", () => {
    // webview/host.ts and webview/layerDiff/html.ts make the page for the extension; they run there.
    expect(
      offenders((one) => isIn("webview")(one.from) && !one.local && one.to.startsWith("node:")),
    ).toEqual([]);
    const dom = /\b(?:document\.(?:body|createElement|querySelector)|HTMLElement|customElements)\b/;
    expect(
      typeScript.filter(
        (file) => (isIn("engine")(file) || isIn("extension")(file)) && dom.test(read(file)),
      ),
    ).toEqual([]);
  });

  it("engine/core reads no clock, no environment and no dice", () => {
    const impure = /\b(?:Date\.now|new Date|performance\.now|Math\.random|process\.|fetch\()/;
    expect(typeScript.filter((f) => isIn("engine/core")(f) && impure.test(read(f)))).toEqual([]);
  });
});

describe("tests", () => {
  // In parts, so that this file does not name what it looks for.
  const words = ["skip", "only", "todo", "skipIf", "runIf", "fails"].join("|");
  const typeScriptMark = new RegExp(
    `\\b(?:it|test|describe|suite)(?:\\.\\w+)*\\.(?:${words})\\b|\\bx(?:it|describe)\\(|this\\.skip\\(`,
  );
  const pythonMark = new RegExp(`@unittest\\.(?:skip|expected)|\\bskipTest\\(|\\bSkipTest\\b`);

  it("are neither skipped nor exclusive", () => {
    const tests = files.filter(isIn("test"));
    expect(tests.length).toBeGreaterThan(30);
    const marked = tests.filter((file) => {
      if (file === "test/tidy.test.ts") return false;
      if (/\.(?:ts|mjs)$/.test(file)) return typeScriptMark.test(read(file));
      return file.endsWith(".py") && pythonMark.test(read(file));
    });
    expect(marked).toEqual([]);
  });

  it("would be found if they were", () => {
    const mark = ["it", "skip"].join(".");
    expect(typeScriptMark.test(`${mark}("x")`)).toBe(true);
    expect(typeScriptMark.test(`${mark.replace("it", "it.each")}("x")`)).toBe(true);
    expect(pythonMark.test("    @unittest.skip('x')")).toBe(true);
  });
});

/**
 * Places that only the machine has on which a file was written: this checkout, root's home, and
 * whatever lies in the folder for temporary files (whose own name is `os.tmpdir()`). In parts, as above.
 */
const machinePlaces = ["root", "tmp"].map((name) => `/${name}/`);
const checkout = `${root.replaceAll(path.sep, "/")}/`;
const isPlaceOfItsOwn =
  root.split(path.sep).length > 2 && !machinePlaces.some((place) => checkout.startsWith(place));
const places = [...machinePlaces, ...(isPlaceOfItsOwn ? [checkout] : [])];
const escaped = places.map((place) => place.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
const ownPlace = new RegExp(`(?<![\\w.\\-])(?:${escaped.join("|")})\\w`);
const namesOwnPlace = (text: string): boolean => ownPlace.test(text);

describe("files", () => {
  it("name no package registry", () => {
    const hosts = [
      ["registry", "npmjs", "org"],
      ["registry", "yarnpkg", "com"],
      ["pypi", "org"],
      ["files", "pythonhosted", "org"],
      ["download", "pytorch", "org"],
      ["pypi", "nvidia", "com"],
    ].map((parts) => parts.join("."));
    expect(files.filter((file) => hosts.some((host) => read(file).includes(host)))).toEqual([]);
  });

  it("name no place on the machine that they were written on", () => {
    const found = files.filter((file) =>
      namesOwnPlace(readFileSync(path.join(root, file), "latin1")),
    );
    expect(found).toEqual([]);
  });

  it("would be found if they did", () => {
    for (const place of places) {
      expect(namesOwnPlace(`x = "${place}model.py"`)).toBe(true);
      expect(namesOwnPlace(`file://${place}model.py`)).toBe(true);
      expect(namesOwnPlace(`models${place}model.py`)).toBe(false);
      expect(namesOwnPlace(`${place} and nothing after it`)).toBe(false);
    }
  });

  it("of source have at most 400 lines", () => {
    const sources = files.filter(
      (file) => /\.(?:ts|mjs|py|css)$/.test(file) && !isIn("test")(file) && !isIn("samples")(file),
    );
    expect(sources.length).toBeGreaterThan(100);
    const long = sources
      .map((file) => ({ file, lines: read(file).trimEnd().split("\n").length }))
      .filter(({ lines }) => lines > 400)
      .map(({ file, lines }) => `${file}: ${lines} lines`);
    expect(long).toEqual([]);
  });

  it("of the sample's artefacts have at most 8 MB together", () => {
    const artefacts = files.filter(isIn("samples/hstu/artefacts"));
    expect(artefacts.length).toBeGreaterThan(0);
    const bytes = artefacts.reduce((sum, file) => sum + statSync(path.join(root, file)).size, 0);
    expect(bytes).toBeLessThanOrEqual(8 * 1024 * 1024);
  });

  it("are not called after what they are not about", () => {
    const vague = /(?:^|\/)(?:utils?|helpers?|common|misc)\.(?:ts|mjs|py|css)$/;
    expect(files.filter((file) => vague.test(file))).toEqual([]);
  });
});
