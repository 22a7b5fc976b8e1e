import { describe, expect, it } from "vitest";
import { readOutcomes } from "../../nvidia/outcomes.js";
import { formatTable } from "../../nvidia/table.js";

const xml = `<testsuite>
<testcase classname="tests.integration.test_x.TestX" name="test_a[eager-1]" time="0.1" />
<testcase classname="tests.integration.test_x.TestX" name="test_b"><failure message="first&#10;second">
E   AssertionError: 1 != 2</failure></testcase>
<testcase classname="tests.integration.test_x" name="test_c"><failure message="x">E  Error: The Tripy op Plugin at a.py:1 cannot run outside TensorRT: no</failure></testcase>
<testcase classname="tests.integration.test_x" name="test_d"><skipped message="not today">why</skipped></testcase>
</testsuite>`;

describe("the outcomes of NVIDIA's tests", () => {
  it("are read from pytest's report", () => {
    expect(readOutcomes("test_x.py", xml)).toEqual([
      { test: "TestX::test_a[eager-1]", kind: "passed", reason: "" },
      { test: "TestX::test_b", kind: "failed", reason: "AssertionError: 1 != 2" },
      {
        test: "test_c",
        kind: "failed",
        reason: "Error: The Tripy op Plugin at a.py:1 cannot run outside TensorRT: no",
      },
      { test: "test_d", kind: "skipped", reason: "not today" },
    ]);
  });

  it("cannot apply for a listed reason only: the same failure elsewhere is a failure", () => {
    const kinds = readOutcomes("test_plugin.py", xml).map(({ kind }) => kind);
    expect(kinds).toEqual(["passed", "failed", "cannot apply", "skipped"]);
  });

  it("are counted by file, and every failure is listed", () => {
    const outcomes = readOutcomes("test_x.py", xml);
    const table = formatTable([{ file: "test_x.py", outcomes, seconds: 2 }]);
    expect(table).toContain("| test_x.py | 1 | 2 | 0 | 1 | 2 |");
    expect(table).toContain("1 of 3 tests that apply pass: 33.3 %.");
    expect(table).toContain("- 1 × test_x.py: TestX::test_b: AssertionError: 1 != 2");
  });

  it("a report without tests is no success", () => {
    expect(() => readOutcomes("test_x.py", "<testsuite/>")).toThrow("no test");
  });
});
