import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CaptureIndex } from "../../engine/protocol/capture.js";
import { UserError } from "../../engine/protocol/userError.js";
import { readCapturedCalls } from "../../engine/run/capturedCalls.js";
import {
  compareCalls,
  type CompareCallsOptions,
  type ComparedCalls,
} from "../../engine/run/compareCalls.js";
import { noise, tensor } from "../core/tensors.js";
import { madeTorch, writeCapture, type MadeCall } from "./handMadeCapture.js";

const x = tensor("float32", [4, 8], noise(32, 1));
const y = tensor("float32", [4, 8], noise(32, 2));
const w = tensor("float32", [4, 8], noise(32, 3));
const v = tensor("float32", [4, 8], noise(32, 4));
let home: string;
let captures = 0;

beforeAll(async () => {
  home = await mkdtemp(path.join(os.tmpdir(), "hstu-parity-compare-calls-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

const model: MadeCall = { label: "Model", inputs: { x }, parameters: { weight: w } };
const port: MadeCall = { ...model, label: "Port" };
const wrong: MadeCall = { ...model, label: "Wrong", scale: 0.25 };
const stranger: MadeCall = { ...model, label: "Stranger", parameters: { weight: v } };

async function compare(
  calls: readonly MadeCall[],
  options: Partial<CompareCallsOptions> = {},
  index: Partial<CaptureIndex> = {},
): Promise<ComparedCalls> {
  const folder = path.join(home, `capture-${captures++}`);
  const capture = await writeCapture(folder, home, calls, index);
  return compareCalls(await readCapturedCalls(capture, folder), {
    base: home,
    folder,
    index: capture,
    executor: {
      name: "none",
      provider: "cpu",
      evaluate: () => Promise.reject(new Error("no model is evaluated here")),
      dispose: () => {},
    },
    torch: madeTorch,
    signal: new AbortController().signal,
    onProgress: () => {},
    ...options,
  });
}

const verdicts = ({ compared }: ComparedCalls) =>
  compared.map(({ result: { pair } }) => `${pair.candidate} < ${pair.reference}: ${pair.verdict}`);
const codes = ({ problems }: ComparedCalls) => problems.map(({ code }) => code);

async function refusal(promise: Promise<unknown>) {
  const error: unknown = await promise.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(UserError);
  return (error as UserError).problems[0];
}

describe("without a word from the user", () => {
  it("compares what was found, and says what was chosen, why, and how to choose otherwise", async () => {
    const result = await compare([model, port, wrong]);
    expect(verdicts(result)).toEqual(["Port < Model: pass", "Wrong < Model: fail"]);
    expect(result.references.map(({ id }) => id)).toEqual(["Model"]);
    expect(result.atBest).toBe("pass");
    expect(result.problems).toHaveLength(2);
    expect(result.problems[1]).toMatchObject({
      severity: "information",
      code: "implementations-chosen",
      message:
        "Wrong was compared with Model: the same 1 input, 1 of 1 parameter with the same values",
    });
    expect(result.problems[1]?.nextStep).toMatch(/--reference ID and --candidate ID.*run file/);
  });

  it("blames the line of the op that differs", async () => {
    const [found] = (await compare([model, wrong])).compared;
    expect(found?.result.pair.origins.map(({ site }) => [site.file, site.line])).toEqual([
      ["script.py", 3],
    ]);
    expect(found?.result.pair.repair).toMatchObject({ proves: true });
  });

  it("keeps a hash of each parameter and input that was compared, and of no other", async () => {
    const result = await compare([model, port, { ...stranger, inputs: { x: y } }]);
    expect(Object.keys(result.hashes).sort()).toEqual([
      "Model/weight",
      "Model/x",
      "Port/weight",
      "Port/x",
    ]);
    const hash = createHash("sha256").update("float32").update(w.bytes).digest("hex");
    expect(result.hashes["Port/weight"]).toBe(hash);
    expect(new Set(Object.values(result.hashes)).size).toBe(2);
  });

  it("knows nothing where nothing was called, and says what a script must do", async () => {
    const result = await compare([]);
    expect(result).toMatchObject({ compared: [], atBest: "unknown" });
    expect(codes(result)).toEqual(["nothing-captured"]);
    expect(result.problems[0]?.nextStep).toContain("both implementations on the same inputs");
  });

  it("knows nothing where one model only was called, and names it", async () => {
    const result = await compare([model]);
    expect(result).toMatchObject({ compared: [], atBest: "unknown" });
    expect(codes(result)).toEqual(["nothing-to-compare-with"]);
    expect(result.problems[0]?.message).toMatch(/^the script called Model, and nothing/);
  });

  it("blames nobody where one side differs from itself as much, and does where it does hardly", async () => {
    const noisy = { ...model, entry: { calls: 3, differing: 0.4 } };
    for (const calls of [
      [noisy, wrong],
      [model, { ...wrong, entry: { calls: 2, differing: "Infinity" as const } }],
    ]) {
      const result = await compare(calls);
      expect(verdicts(result)).toEqual(["Wrong < Model: unknown"]);
      expect(result.compared[0]?.result.pair.origins).toEqual([]);
      expect(result.compared[0]?.result.pair.repair).toBeUndefined();
    }
    const nearly = { ...model, entry: { calls: 3, differing: 2e-7 } };
    expect(verdicts(await compare([nearly, wrong]))).toEqual(["Wrong < Model: fail"]);
  });

  it("widens its gates by what the reference differs from itself", async () => {
    const slightly = { ...port, scale: 0.5 * (1 + 3e-5) };
    expect(verdicts(await compare([model, slightly]))).toEqual(["Port < Model: fail"]);
    const shaky = { ...model, entry: { calls: 3, differing: 5e-5 } };
    expect(verdicts(await compare([shaky, slightly]))).toEqual(["Port < Model: pass"]);
  });

  it("says of a candidate that raised that it has no output", async () => {
    const result = await compare([model, { ...port, entry: { incomplete: true } }]);
    const said = result.problems.find(({ code }) => code === "call-incomplete");
    expect(said?.message).toMatch(/^Port raised before it returned/);
    expect(codes(await compare([model, port]))).not.toContain("call-incomplete");
  });

  it("tells how far it is, and stops when it is cancelled", async () => {
    const stages: [string, number][] = [];
    await compare([model, port, wrong], {
      onProgress: (stage, fraction = NaN) => stages.push([stage, fraction]),
    });
    expect(stages.map(([stage]) => stage)).toContain("Comparing Wrong with Model");
    const fractions = stages.map(([, fraction]) => fraction);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(fractions.every((fraction) => fraction >= 0.5 && fraction < 1)).toBe(true);
    const cancel = new AbortController();
    const running = compare([model, port, wrong], {
      signal: cancel.signal,
      onProgress: (stage) => {
        if (stage.startsWith("Comparing Port")) cancel.abort(new Error("enough"));
      },
    });
    await expect(running).rejects.toThrow("enough");
  });
});

describe("a question that is open", () => {
  it("is UNKNOWN at best, beside what was compared, and says what to do", async () => {
    const other = { ...port, label: "Other", inputs: { x: y } };
    const result = await compare([model, port, other]);
    expect(verdicts(result)).toEqual(["Port < Model: pass"]);
    expect(result.atBest).toBe("unknown");
    const asked = result.problems.find(({ code }) => code === "inputs-differ");
    expect(asked).toMatchObject({ severity: "warning", nextStep: "Give both the same inputs." });
    expect(asked?.message).toMatch(/^Other shares parameters with Model .*"x" differs$/);
  });

  it("is none where two strangers are, unless the script compares them: said with its line", async () => {
    const alone = await compare([model, port, stranger]);
    expect(alone.atBest).toBe("pass");
    expect(codes(alone)).toContain("no-shared-values");
    expect(alone.problems.map(({ message }) => message).join()).not.toContain("and the script");
    const comparisons = [
      {
        traces: ["call-0.trace.json", "call-2.trace.json"] as [string, string],
        op: "torch.allclose",
        frame: { file: path.join(home, "script.py"), line: 3, function: "<module>" },
      },
    ];
    const checked = await compare([model, port, stranger], {}, { comparisons });
    expect(checked.atBest).toBe("unknown");
    const asked = checked.problems.find(({ code }) => code === "no-shared-values");
    expect(asked?.message).toMatch(/proves nothing, and the script does \(torch\.allclose\)$/);
    expect(asked?.site).toEqual({ file: "script.py", line: 3, function: "<module>" });
    const elsewhere = [{ ...comparisons[0]!, traces: ["call-0.trace.json", "call-1.trace.json"] }];
    const others = await compare(
      [model, port, stranger],
      {},
      {
        comparisons: elsewhere as CaptureIndex["comparisons"],
      },
    );
    expect(others.atBest).toBe("pass");
  });

  it("is a Tripy program that nothing can be compared with, but not a tensor that was looked at", async () => {
    const lone = (kind: "compile" | "eval"): MadeCall => ({
      label: "lone",
      inputs: { x: y },
      entry: { framework: "tripy", kind },
    });
    const compiled = await compare([model, port, lone("compile")]);
    expect(compiled.atBest).toBe("unknown");
    expect(codes(compiled)).toContain("nothing-to-compare-with");
    expect((await compare([model, port, lone("eval")])).atBest).toBe("pass");
  });

  it("is answered by naming both sides", async () => {
    const result = await compare([model, stranger], {
      reference: "Model",
      candidates: ["Stranger"],
    });
    expect(verdicts(result)).toEqual(["Stranger < Model: fail"]);
    expect(codes(result)).not.toContain("no-shared-values");
    expect(result.problems[0]?.message).toBe("Stranger was compared with Model: you named them");
  });
});

describe("what the user asks for", () => {
  it("is the reference: all that was found is compared with it", async () => {
    const result = await compare([model, port, wrong], { reference: "Wrong" });
    expect(verdicts(result)).toEqual(["Model < Wrong: fail", "Port < Wrong: fail"]);
    expect(result.references.map(({ id }) => id)).toEqual(["Wrong"]);
  });

  it("is the reference alone: only what got its inputs is compared with it", async () => {
    const at = (label: string): MadeCall => ({ ...stranger, label, inputs: { x: y } });
    const result = await compare([model, port, at("A"), at("B")], { reference: "B" });
    expect(verdicts(result)).toEqual(["A < B: pass"]);
    const asked = await refusal(compare([model, at("A")], { reference: "Model" }));
    expect(asked).toMatchObject({ code: "candidate-missing" });
    expect(asked?.message).toContain('got the same inputs as "Model"');
  });

  it("is refused where the two got other inputs: they would be blamed on a line", async () => {
    const options = { reference: "Model", candidates: ["Port"] };
    const asked = await refusal(compare([model, { ...port, inputs: { x: y } }], options));
    expect(asked).toMatchObject({
      code: "inputs-differ",
      message: 'Model and Port did not get the same inputs: "x" differs',
    });
  });

  it("is one call against itself: refused", async () => {
    const same = { reference: "Model", candidates: ["Model"] };
    expect(await refusal(compare([model, port], same))).toMatchObject({ code: "same-call" });
  });

  it("is compared once, however often it is named", async () => {
    const twice = { candidates: ["Port", "Port"] };
    expect(verdicts(await compare([model, port], twice))).toHaveLength(1);
    expect(verdicts(await compare([model, port], { reference: "Model", ...twice }))).toHaveLength(
      1,
    );
  });

  it("is a candidate: only that is compared, with the reference that was found for it", async () => {
    const result = await compare([model, port, wrong], { candidates: ["Wrong"] });
    expect(verdicts(result)).toEqual(["Wrong < Model: fail"]);
  });

  it("names one of several calls of a label", async () => {
    const second = { ...model, inputs: { x: y } };
    const of = { ...wrong, label: "Port", inputs: { x: y } };
    const result = await compare([model, port, second, of], {
      reference: "Model.2",
      candidates: ["Port.2"],
    });
    expect(verdicts(result)).toEqual(["Port.2 < Model.2: fail"]);
  });

  it("was not called: what was is listed", async () => {
    for (const options of [{ reference: "model" }, { candidates: ["Port", "model"] }]) {
      expect(await refusal(compare([model, port], options))).toMatchObject({
        code: "implementation-unknown",
        message: 'the script called nothing that is named "model"',
        nextStep: "Choose among: Model, Port.",
      });
    }
    const none = await refusal(compare([], { reference: "Model" }));
    expect(none?.nextStep).toBe("It called no model at all.");
  });

  it("is a candidate without a reference: the others are offered", async () => {
    const asked = await refusal(compare([model, port, stranger], { candidates: ["Stranger"] }));
    expect(asked).toMatchObject({
      code: "candidate-without-reference",
      message: 'nothing says what "Stranger" is to be compared with',
      nextStep: "Name it: --reference ID, one of: Model, Port.",
    });
  });
});
