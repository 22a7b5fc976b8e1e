import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { joinArguments, splitArguments } from "../../extension/scriptArguments.js";

describe("a line of arguments", () => {
  it.each([
    ["", []],
    ["   ", []],
    ["--config tiny", ["--config", "tiny"]],
    ["  a\t b ", ["a", "b"]],
    ["'a b' \"c d\"", ["a b", "c d"]],
    ["--name='it is'x", ["--name=it isx"]],
    ["'' \"\"", ["", ""]],
    ["a\\ b", ["a b"]],
    ['"a \\"b\\" \\\\ \\n"', ['a "b" \\ \\n']],
    ["'\\'", ["\\"]],
    ["größe 模型", ["größe", "模型"]],
  ])("%j is split as a shell does", (line, args) => {
    expect(splitArguments(line, "linux")).toEqual(args);
  });

  it("keeps the backslashes of paths on Windows", () => {
    expect(splitArguments('C:\\new\\x "D:\\a b\\y" \\"', "win32")).toEqual([
      "C:\\new\\x",
      "D:\\a b\\y",
      '"',
    ]);
    expect(joinArguments(["C:\\new\\x", "D:\\a b"], "win32")).toBe("C:\\new\\x 'D:\\a b'");
  });

  it("says which quote is not closed", () => {
    expect(splitArguments("a 'b c", "linux")).toEqual({ wrong: "the quote ' is not closed" });
  });

  it("gives any arguments back that were joined", () => {
    const text = fc.string({ unit: fc.constantFrom(..."ab '\"\\\t$*ü模") });
    fc.assert(
      fc.property(fc.array(text), (args) => {
        expect(splitArguments(joinArguments(args, "linux"), "linux")).toEqual(args);
      }),
      { numRuns: 1000 },
    );
  });
});
