import {
  chmod,
  mkdir,
  mkdtemp,
  readFile,
  realpath,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findInterpreter, type Interpreter } from "../../engine/capture/interpreter.js";
import { UserError } from "../../engine/protocol/userError.js";
import { root } from "../support/bundleRunner.js";

/** The environment that the other tests run scripts with; it has torch and nvtripy. */
const realPython = path.join(root, ".venv/bin/python");
const { signal } = new AbortController();
let home: string;
let project: string;
let bin: string;

beforeEach(async () => {
  home = await realpath(await mkdtemp(path.join(os.tmpdir(), "interpreter test ")));
  project = path.join(home, "wörk", "project");
  bin = path.join(home, "bin");
  await mkdir(project, { recursive: true });
  await mkdir(bin);
});
afterEach(() => rm(home, { recursive: true, force: true }));

/** A shell script that answers as an interpreter does, and keeps count of its starts in FILE.starts. */
async function fakePython(file: string, answer: Partial<Interpreter> = {}): Promise<string> {
  const text = JSON.stringify({
    version: "3.11.7",
    executable: file,
    prefix: path.dirname(path.dirname(file)),
    searchPath: [],
    packages: {},
    installer: "pip",
    ...answer,
  });
  return program(
    file,
    `echo >> "$0.starts"\nprintf '%s' 'a greeting hstu-parity-interpreter:${text}'`,
  );
}

async function program(file: string, body: string): Promise<string> {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, `#!/bin/sh\n${body}\n`);
  await chmod(file, 0o755);
  return file;
}

async function starts(file: string): Promise<number> {
  return (await readFile(`${file}.starts`, "utf8")).length;
}

interface Asked {
  readonly given?: { path: string; source: Interpreter["source"] }[];
  readonly env?: Record<string, string>;
  readonly folders?: string[];
  readonly timeoutMs?: number;
}

function find({ env = {}, folders = [project], ...rest }: Asked = {}): Promise<Interpreter> {
  return findInterpreter({
    folders,
    env: { PATH: `${bin}:/usr/bin:/bin`, HOME: home, ...env },
    signal,
    platform: "linux",
    ...rest,
  });
}

async function problemOf(promise: Promise<unknown>) {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  return (error as UserError).problems[0];
}

describe("which interpreter", () => {
  it("goes by what was chosen, then the active environment, then .venv, then the PATH", async () => {
    const all = {
      option: await fakePython(path.join(home, "option/python")),
      setting: await fakePython(path.join(home, "setting/python")),
      active: await fakePython(path.join(home, "active/bin/python")),
      conda: await fakePython(path.join(home, "conda/bin/python")),
      venv: await fakePython(path.join(project, ".venv/bin/python")),
      python3: await fakePython(path.join(bin, "python3")),
    };
    const env: Record<string, string> = {
      VIRTUAL_ENV: path.join(home, "active"),
      CONDA_PREFIX: path.join(home, "conda"),
    };
    const given = [
      { path: all.option, source: "option" as const },
      { path: all.setting, source: "setting" as const },
    ];
    expect(await find({ given, env })).toMatchObject({ path: all.option, source: "option" });
    const setting = [{ path: " ", source: "option" as const }, given[1]!];
    expect(await find({ given: setting, env })).toMatchObject({
      path: all.setting,
      source: "setting",
    });
    expect(await find({ env })).toMatchObject({ path: all.active, source: "virtual environment" });
    delete env["VIRTUAL_ENV"];
    expect(await find({ env })).toMatchObject({ path: all.conda, source: "virtual environment" });
    expect(await find()).toMatchObject({ path: all.venv, source: ".venv" });
    await rm(path.join(project, ".venv"), { recursive: true });
    expect(await find()).toMatchObject({ path: all.python3, source: "PATH" });
  });

  it("takes a project's .venv before conda's base environment, which is always active", async () => {
    await fakePython(path.join(home, "conda/bin/python"));
    const env = { CONDA_PREFIX: path.join(home, "conda"), CONDA_DEFAULT_ENV: "base" };
    expect((await find({ env })).source).toBe("virtual environment");
    const venv = await fakePython(path.join(project, ".venv/bin/python"));
    expect((await find({ env })).path).toBe(venv);
    expect((await find({ env: { ...env, CONDA_DEFAULT_ENV: "mine" } })).path).not.toBe(venv);
  });

  it("looks for .venv beside the script and above it, but not above a repository's root", async () => {
    await fakePython(path.join(bin, "python3"));
    const above = await fakePython(path.join(home, "wörk/.venv/bin/python"));
    const script = path.join(project, "a/b");
    await mkdir(script, { recursive: true });
    expect((await find({ folders: [script] })).path).toBe(above);
    await mkdir(path.join(project, ".git"));
    expect((await find({ folders: [script] })).source).toBe("PATH");
    const workspace = path.join(home, "workspace");
    const ofWorkspace = await fakePython(path.join(workspace, ".venv/bin/python"));
    expect((await find({ folders: [script, workspace] })).path).toBe(ofWorkspace);
  });

  it("does not look above the home folder", async () => {
    await fakePython(path.join(bin, "python3"));
    await fakePython(path.join(home, ".venv/bin/python"));
    expect((await find({ env: { HOME: path.join(home, "wörk") } })).source).toBe("PATH");
  });

  it("passes over a found one that does not start, and takes python where there is no python3", async () => {
    await program(path.join(project, ".venv/bin/python"), "echo broken >&2; exit 1");
    await program(path.join(bin, "python3"), "exit 9009");
    const python = await fakePython(path.join(bin, "python"));
    const PATH = bin;
    expect(await find({ env: { PATH } })).toMatchObject({ path: python, source: "PATH" });
  });

  it("understands a name on the PATH, ~, and the folder of an environment", async () => {
    const given = (file: string) => [{ path: file, source: "setting" as const }];
    const special = await fakePython(path.join(bin, "python3.12"));
    expect((await find({ given: given("python3.12") })).path).toBe(special);
    expect((await find({ given: given("~/bin/python3.12") })).path).toBe(special);
    const venv = await fakePython(path.join(home, "env/bin/python"));
    expect((await find({ given: given(path.join(home, "env")) })).path).toBe(venv);
  });
});

describe("an interpreter that does not do", () => {
  it("is named with the place it was set in when it does not exist, and nothing else is taken", async () => {
    await fakePython(path.join(bin, "python3"));
    const file = path.join(home, "gone/python");
    const problem = await problemOf(find({ given: [{ path: file, source: "run file" }] }));
    expect(problem).toMatchObject({ code: "python-not-found" });
    expect(problem?.message).toContain(file);
    expect(problem?.message).toContain("run file");
  });

  it("is named with its last words when it does not start", async () => {
    const file = await program(path.join(home, "python"), "echo 'no such loader' >&2; exit 127");
    const given = [{ path: file, source: "setting" as const }];
    const problem = await problemOf(find({ given }));
    expect(problem).toMatchObject({ code: "python-does-not-start" });
    expect(problem?.message).toMatch(/python \(from the settings\) does not start: no such loader/);
    await chmod(file, 0o644);
    expect((await problemOf(find({ given })))?.message).toContain("may not be executed");
  });

  it("is given up when it does not answer", async () => {
    const file = await program(path.join(home, "python"), "sleep 30");
    const started = Date.now();
    const problem = await problemOf(
      find({ given: [{ path: file, source: "option" }], timeoutMs: 300 }),
    );
    expect(problem?.message).toContain("does not answer within 0.3 s");
    expect(Date.now() - started).toBeLessThan(5000);
  });

  it("is no Python: said so", async () => {
    const given = [{ path: "/bin/true", source: "option" as const }];
    expect((await problemOf(find({ given })))?.code).toBe("python-does-not-start");
  });

  it("is too old: its version and path and what to do", async () => {
    const file = await fakePython(path.join(project, ".venv/bin/python"), { version: "3.8.19" });
    const problem = await problemOf(find());
    expect(problem).toMatchObject({ code: "python-unsupported" });
    expect(problem?.message).toContain(`${file} (found in the project) is Python 3.8.19`);
    expect(problem?.nextStep).toContain("3.9");
    await fakePython(file, { version: "3.9.0" });
    expect((await find()).version).toBe("3.9.0");
  });

  it("is too old on the PATH: a later one is taken if there is one", async () => {
    await fakePython(path.join(bin, "python3"), { version: "2.7.18" });
    const env = { PATH: bin };
    expect((await problemOf(find({ env })))?.message).toContain("2.7.18");
    const newer = await fakePython(path.join(bin, "python"), { version: "3.13.1" });
    expect((await find({ env })).path).toBe(newer);
  });

  it("is nowhere: says what was looked for", async () => {
    const problem = await problemOf(find({ env: { PATH: bin } }));
    expect(problem).toMatchObject({ code: "python-missing" });
    expect(problem?.message).toContain("no .venv");
  });
});

describe("what an interpreter says of itself", () => {
  it("is asked once while it stays the same, and again when packages were installed", async () => {
    const library = path.join(home, "lib");
    await mkdir(library);
    const file = await fakePython(path.join(project, ".venv/bin/python"), {
      searchPath: [library],
    });
    await find();
    await find();
    expect(await starts(file)).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await mkdir(path.join(library, "torch-2.0.0.dist-info"));
    await find();
    expect(await starts(file)).toBe(2);
    await find({ env: { PYTHONPATH: home } });
    expect(await starts(file)).toBe(3);
    await fakePython(file, { version: "3.12.0" });
    expect((await find()).version).toBe("3.12.0");
  });

  it("stops asking when the run is cancelled", async () => {
    const file = await program(path.join(home, "python"), "sleep 30");
    const controller = new AbortController();
    const asked = findInterpreter({
      given: [{ path: file, source: "option" }],
      folders: [project],
      env: {},
      signal: controller.signal,
    });
    setTimeout(() => controller.abort(new Error("stop")), 100);
    await expect(asked).rejects.toThrow("stop");
  });

  it("is right for a real one, and quick", async () => {
    const given = [{ path: realPython, source: "option" as const }];
    const started = performance.now();
    const found = await find({ given });
    const took = performance.now() - started;
    expect(found.packages["torch"]).toMatch(/^\d+\.\d+\.\d+/);
    expect(found.packages["nvtripy"]).toBe("0.1.7");
    expect(found.packages["numpy"]).toMatch(/^\d/);
    expect(found.packages["fbgemm_gpu"]).toMatch(/^\d/);
    expect(found.packages).not.toHaveProperty("cupy");
    expect(found.version).toMatch(/^3\.\d+\.\d+$/);
    expect(found.searchPath.some((folder) => folder.endsWith("site-packages"))).toBe(true);
    expect(found.prefix).toBe(path.join(root, ".venv"));
    // 30 ms on an idle machine; importing torch would take more than a second.
    expect(took).toBeLessThan(1000);
  });

  it("sees what PYTHONPATH brings, and no module of the working directory", async () => {
    const library = path.join(home, "extra");
    await mkdir(path.join(library, "cupy_cuda12x-13.4.1.dist-info"), { recursive: true });
    await mkdir(path.join(library, "cupy"));
    await writeFile(path.join(library, "cupy/__init__.py"), "raise SystemExit('imported')");
    await writeFile(path.join(project, "json.py"), "raise SystemExit('shadowed')");
    await mkdir(path.join(project, "tensorrt"));
    const given = [{ path: realPython, source: "option" as const }];
    const found = await find({ given, env: { PYTHONPATH: library } });
    expect(found.packages["cupy"]).toBe("13.4.1");
    expect(found.packages).not.toHaveProperty("tensorrt");
  });

  it("reads torch's CUDA version and who installs packages, without importing torch", async () => {
    const site = path.join(project, ".venv/lib");
    await mkdir(path.join(site, "torch"), { recursive: true });
    await writeFile(path.join(site, "torch/__init__.py"), "raise SystemExit('imported')");
    await writeFile(
      path.join(site, "torch/version.py"),
      "__version__ = '2.9.1+cu126'\nfrom typing import Optional\ncuda: Optional[str] = '12.6'\n",
    );
    const made = path.join(home, "made");
    await mkdir(path.join(made, "bin"), { recursive: true });
    await writeFile(
      path.join(made, "pyvenv.cfg"),
      `home = ${path.dirname(await realpath(realPython))}\ninclude-system-site-packages = false\nuv = 0.9.1\n`,
    );
    await symlink(await realpath(realPython), path.join(made, "bin/python"));
    const found = await find({
      given: [{ path: made, source: "setting" }],
      env: { PYTHONPATH: site },
    });
    expect(found.packages["torch"]).toBe("2.9.1+cu126");
    expect(found).toMatchObject({ cudaBuild: "12.6", installer: "uv", prefix: made });
  });
});
