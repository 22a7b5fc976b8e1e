import { describe, expect, it } from "vitest";
import { pythonStatements } from "../../engine/source/pythonStatements.js";

const source = `import torch

class Block:
    def __init__(self, width, eps=1e-5):
        self.norm = Norm(width, eps)

    def forward(self, x, mask=None):
        u, v = self.split(
            x,
            sizes=2,
        )
        if mask is not None:
            u = u * mask
        u, v = v, u
        u += 1
        for layer in self.layers[1:]:
            u = layer(u)
        return u @ v
`;

describe("the statements of a Python file", () => {
  const statements = pythonStatements(source);
  const at = (line: number) => statements.find((one) => one.line === line);

  it("name what they read and write, attributes and all, over all of their lines", () => {
    expect(at(8)).toMatchObject({
      kind: "assignment",
      endLine: 11,
      class: "Block",
      function: "forward",
      functionLine: 7,
      writes: ["u", "v"],
    });
    expect(at(8)?.reads).toEqual(expect.arrayContaining(["self.split", "x"]));
    // The keyword of a call is no variable.
    expect(at(8)?.reads).not.toContain("sizes");
    expect(at(14)).toMatchObject({ reads: ["v", "u"], writes: ["u", "v"] });
    expect(at(15)?.reads).toContain("u");
    expect(at(18)).toMatchObject({ kind: "return", reads: ["u", "v"] });
  });

  it("know the condition around them, and loops by what they go over", () => {
    expect(at(13)?.condition).toBe(12);
    expect(at(14)?.condition).toBe(0);
    expect(at(16)).toMatchObject({ kind: "loop", writes: ["layer"] });
    expect(at(16)?.reads).toContain("self.layers");
  });

  it("count every parameter of a function", () => {
    const parameters = statements.filter(({ kind }) => kind === "parameter");
    expect(parameters.filter((one) => one.function === "forward").map((p) => p.writes[0])).toEqual([
      "self",
      "x",
      "mask",
    ]);
  });

  it("of a file that does not parse are those that do", () => {
    const broken = pythonStatements("def f(x):\n    y = x +\n    return y\n");
    expect(broken.some(({ kind, line }) => kind === "return" && line === 3)).toBe(true);
  });
});
