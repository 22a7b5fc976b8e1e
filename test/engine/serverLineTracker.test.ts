import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { linesOfSnippets, trackLines } from "../../engine/server/lineTracker.js";

const base = ["a", "b", "c", "d", "e"];

describe("lines of a report followed through edits", () => {
  const cases: {
    name: string;
    document: string[];
    /** Where the lines 1 … 5 are now. */
    now: (number | undefined)[];
  }[] = [
    { name: "nothing changed", document: ["a", "b", "c", "d", "e"], now: [1, 2, 3, 4, 5] },
    { name: "a line above", document: ["x", "a", "b", "c", "d", "e"], now: [2, 3, 4, 5, 6] },
    { name: "a line below", document: ["a", "b", "c", "d", "e", "x"], now: [1, 2, 3, 4, 5] },
    {
      name: "a line changed",
      document: ["a", "b", "x", "d", "e"],
      now: [1, 2, undefined, 4, 5],
    },
    { name: "a line gone", document: ["a", "b", "d", "e"], now: [1, 2, undefined, 3, 4] },
    {
      name: "two lines changed, the one between them is still there",
      document: ["a", "x", "c", "y", "e"],
      now: [1, undefined, 3, undefined, 5],
    },
    {
      name: "a line changed and one inserted below",
      document: ["x", "b", "c", "y", "d", "e"],
      now: [undefined, 2, 3, 5, 6],
    },
    {
      name: "only trailing space changed",
      document: ["a ", "b", "c\t", "d", "e"],
      now: [1, 2, 3, 4, 5],
    },
    { name: "everything gone", document: [""], now: Array<undefined>(5).fill(undefined) },
  ];
  it.each(cases)("$name", ({ document, now }) => {
    const tracker = trackLines(base, document);
    expect(base.map((_, index) => tracker.now(index + 1))).toEqual(now);
    for (const [index, line] of now.entries()) {
      if (line !== undefined) expect(tracker.before(line), `line ${line}`).toBe(index + 1);
    }
  });

  it("follows a line among equal ones", () => {
    const tracker = trackLines(["x", "x", "y"], ["new", "x", "x", "y"]);
    expect([1, 2, 3].map((line) => tracker.now(line))).toEqual([2, 3, 4]);
  });

  it("gives no two lines one place", () => {
    const tracker = trackLines(["a", "a"], ["a"]);
    expect([1, 2].map((line) => tracker.now(line))).toEqual([1, undefined]);
  });

  it("gives no line of the report for a line that is new", () => {
    expect(trackLines(base, ["x", ...base]).before(1)).toBeUndefined();
  });

  it("compares in place where only the functions that took part are known", () => {
    const known = linesOfSnippets([{ startLine: 3, text: "c\nd" }]);
    const same = trackLines(known, ["1", "2", "c", "d", "e", "f", "g"]);
    expect([1, 2, 3, 4, 5].map((line) => same.now(line))).toEqual([
      undefined,
      undefined,
      3,
      4,
      undefined,
    ]);
    expect(trackLines(known, ["0", "1", "2", "c", "d"]).now(3)).toBeUndefined();
  });

  it("never says that a line is somewhere with another text", () => {
    const lines = fc.array(fc.constantFrom("a", "b", "c", ""), { maxLength: 12 });
    fc.assert(
      fc.property(lines, lines, (before, document) => {
        const tracker = trackLines(before, document);
        for (const [index, text] of before.entries()) {
          const now = tracker.now(index + 1);
          if (now !== undefined) expect(document[now - 1]).toBe(text);
        }
        for (const [index, text] of document.entries()) {
          const line = tracker.before(index + 1);
          if (line !== undefined) expect(before[line - 1]).toBe(text);
        }
      }),
    );
  });
});
