import { describe, expect, it } from "vitest";
import type { Interpreter } from "../../engine/capture/interpreter.js";
import {
  explainImportError,
  installCommand,
  missingPackages,
} from "../../engine/capture/pythonPackages.js";
import type { CapturedError } from "../../engine/protocol/capture.js";

function interpreter(changes: Partial<Interpreter> = {}): Interpreter {
  return {
    path: "/home/me/my env/bin/python",
    source: "setting",
    version: "3.11.7",
    executable: "/home/me/my env/bin/python",
    prefix: "/home/me/my env",
    searchPath: [],
    packages: { torch: "2.9.1", numpy: "2.3.1", nvtripy: "0.1.7", pip: "25.0" },
    installer: "pip",
    ...changes,
  };
}

function importError(message: string, type = "ModuleNotFoundError"): CapturedError {
  return {
    type,
    message,
    frames: [
      { file: "/home/me/port/layers.py", line: 3, function: "<module>" },
      { file: "/home/me/port/main.py", line: 7, function: "<module>" },
    ],
  };
}

describe("what is missing", () => {
  it("is nothing in an interpreter that has what the script needs", () => {
    expect(missingPackages(interpreter(), ["torch", "nvtripy"])).toEqual([]);
    expect(missingPackages(interpreter({ packages: {} }), [])).toEqual([]);
  });

  it("comes with the command that installs it for that interpreter", () => {
    const [torch, nvtripy, ...more] = missingPackages(interpreter({ packages: {} }), [
      "torch",
      "nvtripy",
    ]);
    expect(more).toEqual([]);
    expect(torch).toMatchObject({ severity: "error", code: "package-missing-torch" });
    expect(torch?.message).toContain("/home/me/my env/bin/python (Python 3.11.7)");
    expect(torch?.nextStep).toContain('"/home/me/my env/bin/python" -m pip install torch');
    expect(nvtripy?.nextStep).toContain(
      '"/home/me/my env/bin/python" -m pip install --no-deps nvtripy==0.1.7 colored',
    );
  });

  it("is numpy: a warning, with a version that an old torch can load", () => {
    const found = missingPackages(interpreter({ packages: { torch: "2.2.1" } }), ["torch"]);
    expect(found).toMatchObject([{ severity: "warning", code: "package-missing-numpy" }]);
    expect(found[0]?.nextStep).toContain('"numpy<2"');
    const newer = missingPackages(interpreter({ packages: { torch: "2.9.0" } }), ["torch"]);
    expect(newer[0]?.nextStep).not.toContain("<2");
  });

  it("is not nvtripy's version as long as it is a 0.1", () => {
    const withVersion = (nvtripy: string) =>
      missingPackages(interpreter({ packages: { nvtripy, numpy: "2.3.1" } }), ["nvtripy"]);
    expect(withVersion("0.1.3")).toEqual([]);
    const [problem] = withVersion("0.2.0");
    expect(problem).toMatchObject({ severity: "warning", code: "nvtripy-untested" });
    expect(problem?.message).toContain("nvtripy 0.2.0");
    expect(withVersion("0.10.0")).toHaveLength(1);
  });

  it("is a Python that nvtripy runs on", () => {
    const [problem] = missingPackages(
      interpreter({ version: "3.9.2", packages: { numpy: "2.0.0" } }),
      ["nvtripy"],
    );
    expect(problem?.message).toContain("needs Python 3.10");
    expect(problem?.nextStep).not.toContain("pip install");
  });

  it("is no package but a Python that was tried", () => {
    const [problem] = missingPackages(interpreter({ version: "3.14.0" }), ["torch"]);
    expect(problem).toMatchObject({ severity: "warning", code: "python-untested" });
  });
});

describe("the command that installs", () => {
  it("fits whoever made the environment", () => {
    const by = (installer: Interpreter["installer"]) =>
      installCommand(interpreter({ installer, path: "/v/bin/python" }), "torch", "linux");
    expect(by("pip")).toBe('"/v/bin/python" -m pip install torch');
    expect(by("uv")).toBe('uv pip install --python "/v/bin/python" torch');
    expect(by("ensurepip")).toMatch(/^"\/v\/bin\/python" -m ensurepip, then .* install torch$/);
    expect(by("venv")).toMatch(/^"\/v\/bin\/python" -m venv \.venv, then \.venv\/bin\/python -m/);
  });

  it("is quoted for the platform's shell", () => {
    const command = (path: string, platform: NodeJS.Platform) =>
      installCommand(interpreter({ path }), "torch", platform);
    expect(command('/a "b" $c/python', "darwin")).toBe(
      '"/a \\"b\\" \\$c/python" -m pip install torch',
    );
    expect(command("C:\\v\\python.exe", "win32")).toBe("C:\\v\\python.exe -m pip install torch");
    expect(command("C:\\my v\\python.exe", "win32")).toBe(
      '& "C:\\my v\\python.exe" -m pip install torch',
    );
  });

  it("takes the build that fits torch", () => {
    const cuda = interpreter({ cudaBuild: "12.6" });
    expect(installCommand(interpreter(), "fbgemm_gpu")).toMatch(/ fbgemm_gpu-cpu$/);
    expect(installCommand(cuda, "fbgemm_gpu")).toMatch(/ fbgemm_gpu$/);
    expect(installCommand(cuda, "cupy")).toMatch(/ cupy-cuda12x$/);
  });
});

describe("an import that failed", () => {
  it("is explained with the command and the line of the import", () => {
    const bare = interpreter({ packages: {} });
    for (const name of ["torch", "nvtripy", "fbgemm_gpu", "tensorrt"]) {
      const problem = explainImportError(importError(`No module named '${name}'`), bare);
      expect(problem?.code).toBe(`package-missing-${name.replace("_", "-")}`);
      expect(problem?.nextStep).toContain("-m pip install");
      expect(problem?.site).toEqual({
        file: "/home/me/port/layers.py",
        line: 3,
        function: "<module>",
      });
    }
    expect(
      explainImportError(importError("No module named 'mlir_tensorrt'"), bare)?.nextStep,
    ).toContain("NVIDIA's backend");
  });

  it("names the package of a missing submodule, or the installed version that lacks it", () => {
    const error = importError("No module named 'torch.nn.attention'");
    const absent = explainImportError(error, interpreter({ packages: {} }));
    expect(absent?.nextStep).toMatch(/-m pip install torch\b/);
    const old = explainImportError(error, interpreter({ packages: { torch: "1.9.0" } }));
    expect(old).toMatchObject({ code: "package-lacks-module" });
    expect(old?.message).toContain("torch 1.9.0");
  });

  it("may be of a name that the installed version does not have", () => {
    const problem = explainImportError(
      importError(
        "cannot import name 'Rope' from 'nvtripy' (/v/nvtripy/__init__.py)",
        "ImportError",
      ),
      interpreter(),
    );
    expect(problem?.message).toContain("Rope from nvtripy, which nvtripy 0.1.7");
  });

  it("may be of the user's own module: both ways out are said", () => {
    const problem = explainImportError(importError("No module named 'my_layers'"), interpreter());
    expect(problem?.nextStep).toContain("-m pip install my_layers");
    expect(problem?.nextStep).toContain("PYTHONPATH");
    const known = explainImportError(importError("No module named 'yaml'"), interpreter());
    expect(known?.nextStep).toMatch(/-m pip install PyYAML, or/);
  });

  it("may be due to a file of the user's that hides the package", () => {
    const error = importError("No module named 'torch.nn'; 'torch' is not a package");
    expect(explainImportError(error, interpreter())).toMatchObject({ code: "package-shadowed" });
  });

  it("may be of a part of Python that was not built", () => {
    const problem = explainImportError(importError("No module named '_lzma'"), interpreter());
    expect(problem?.message).toContain("a part of Python itself");
    expect(problem?.nextStep).not.toContain("pip");
  });

  it("is nothing to explain when it is another error, and has no site without frames", () => {
    expect(explainImportError(importError("boom", "ValueError"), interpreter())).toBeUndefined();
    expect(
      explainImportError(importError("No module named 'torch'", "KeyError"), interpreter()),
    ).toBeUndefined();
    const bare = { type: "ModuleNotFoundError", message: "No module named 'torch'", frames: [] };
    expect(explainImportError(bare, interpreter({ packages: {} }))).not.toHaveProperty("site");
  });
});
