import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { convertFloats } from "../../engine/core/conversions.js";
import {
  chooseImplementations,
  type Choice,
  type Subject,
} from "../../engine/core/implementations.js";
import type { ObservedParameter } from "../../engine/core/observation.js";
import { transposeMatrix } from "../../engine/core/parameterValues.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import { noise, tensor, vector } from "./tensors.js";

const x = tensor("float32", [4, 8], noise(32, 5));
const otherX = tensor("float32", [4, 8], noise(32, 6));
const weight = tensor("float32", [8, 8], noise(64, 7));
const bias = tensor("float32", [8], noise(8, 8));
const ownWeight = tensor("float32", [8, 8], noise(64, 9));
const ownBias = tensor("float32", [8], noise(8, 10));
const ones = tensor("float32", [8], Array<number>(8).fill(1));

const result = tensor("float32", [4, 8], noise(32, 11));
const otherResult = tensor("float32", [4, 8], noise(32, 12));

const w = parameter("linear.weight", weight);
const b = parameter("linear.bias", bias);

function parameter(name: string, value: TensorValue): ObservedParameter {
  return { name, tensor: name, value };
}

/** A call in a list of calls: its order is its place there, if it has no other. */
type Call = Omit<Subject, "order"> & { readonly order?: number };

/** A torch model with a weight and a bias that is called on x, but for what is given. */
function call(id: string, more: Partial<Subject> = {}): Call {
  const framework = more.framework ?? "torch";
  return {
    id,
    framework,
    object: `${framework} object of ${id}`,
    isJagged: false,
    dataOps: 10,
    inputs: [{ name: "x", value: x }],
    outputs: [{ shape: [4, 8], value: result }],
    parameters: [w, b],
    ...more,
  };
}

const tripy = (id: string, more: Partial<Subject> = {}) =>
  call(id, { framework: "tripy", ...more });
const inputs = (...values: TensorValue[]): Subject["inputs"] =>
  values.map((value, i) => ({ name: `input${i}`, value }));

function choose(...calls: readonly Call[]): Choice {
  return chooseImplementations(calls.map((one, order) => ({ order, ...one })));
}

/** As `choose`, where the script compares each call with each. */
function chooseAmongCompared(...calls: readonly Call[]): Choice {
  return chooseImplementations(
    calls.map((one, order) => ({ order, ...one })),
    () => true,
  );
}

function pairsOf({ pairs }: Choice): string[] {
  return pairs.map(({ reference, candidate }) => `${candidate} < ${reference}`);
}

function questionsOf({ questions }: Choice): string[] {
  return questions.map(({ code, subjects }) => `${code}: ${subjects.join(", ")}`);
}

/** What is chosen, and that nothing is asked. */
function chosen(...calls: Call[]): string[] {
  const choice = choose(...calls);
  expect(choice.questions).toEqual([]);
  return pairsOf(choice);
}

/** What is asked, and that nothing is chosen. */
function asked(...calls: Call[]): string[] {
  const choice = choose(...calls);
  expect(choice.pairs).toEqual([]);
  return questionsOf(choice);
}

describe("two calls that got the same inputs and share parameters", () => {
  it("are implementations of one another, and why is said", () => {
    const choice = choose(call("Model"), call("Port"));
    expect(choice).toEqual({
      pairs: [
        {
          reference: "Model",
          candidate: "Port",
          because: "the same 1 input, 2 of 2 parameters with the same values",
        },
      ],
      questions: [],
    });
  });

  it("go by content, not by names", () => {
    const port = call("Port", {
      inputs: [{ name: "tokens", value: x }],
      parameters: [parameter("proj.kernel", weight), parameter("proj.offset", bias)],
    });
    expect(chosen(call("Model"), port)).toEqual(["Port < Model"]);
  });

  it("may hold a parameter transposed, or rounded to a narrower type", () => {
    const turned = call("Turned", { parameters: [parameter("w", transposeMatrix(weight))] });
    const narrow = call("Narrow", {
      inputs: inputs(convertFloats(x, "float16")),
      parameters: [parameter("w", convertFloats(weight, "float16"))],
    });
    expect(chosen(call("Model"), turned, narrow)).toEqual(["Turned < Model", "Narrow < Model"]);
  });

  it("share some of the parameters: the others are the finding", () => {
    const port = call("Port", { parameters: [w, parameter("linear.bias", ownBias)] });
    const { pairs } = choose(call("Model"), port);
    expect(pairs[0]?.because).toBe("the same 1 input, 1 of 2 parameters with the same values");
  });

  it("do not share them by constants that any model has", () => {
    const norm = parameter("norm.weight", ones);
    const model = call("Model", { parameters: [w, norm] });
    const stranger = call("Stranger", {
      parameters: [parameter("linear.weight", ownWeight), norm],
    });
    expect(asked(model, stranger)).toEqual(["no-shared-values: Model, Stranger"]);
  });

  it("may get inputs of other names and in another order", () => {
    const mask = vector([1, 1, 0, 1], "bool");
    const model = call("Model", { inputs: inputs(x, mask) });
    const port = call("Port", { inputs: inputs(mask, x) });
    const [pair] = choose(model, port).pairs;
    expect(pair?.because).toMatch(/^the same 2 inputs,/);
  });

  it("may get their parameters as inputs: that is no other input", () => {
    const port = call("port", { inputs: inputs(x, weight, bias), parameters: [] });
    expect(chosen(call("Model"), port)).toEqual(["port < Model"]);
  });

  it("may leave to one of them what the other computes itself", () => {
    const mask = tensor("float32", [4, 4], noise(16, 11));
    const port = call("Port", { inputs: inputs(x, mask) });
    expect(chosen(call("Model"), port)).toEqual(["Port < Model"]);
  });

  it("may get their rows jagged and padded", () => {
    const jagged = tensor("float32", [3, 8], noise(24, 12));
    const padded = tensor("float32", [2, 2, 8], [...noise(24, 12), ...Array<number>(8).fill(0)]);
    const dense = call("Dense", { inputs: inputs(padded) });
    const model = call("Jagged", { inputs: inputs(jagged), isJagged: true });
    expect(chosen(dense, model)).toEqual(["Dense < Jagged"]);
  });

  it("got inputs that say nothing, all of them the same", () => {
    const constant = inputs(tensor("float32", [4, 8], Array<number>(32).fill(1)));
    expect(chosen(call("Model", { inputs: constant }), call("Port", { inputs: constant }))).toEqual(
      ["Port < Model"],
    );
  });
});

describe("the reference", () => {
  it.each<[string, Partial<Subject>, Partial<Subject>]>([
    ["torch before Tripy, although Tripy came first", {}, { framework: "tripy", order: -1 }],
    ["wide before narrow", { order: 9 }, narrowed("bfloat16")],
    ["jagged before dense", { isJagged: true, order: 9 }, { order: 0 }],
    ["the earlier one of two that are alike", { order: 1 }, { order: 2 }],
    ["torch before Tripy, although narrower", narrowed("float16"), { framework: "tripy" }],
    ["wide before jagged", { order: 9 }, { ...narrowed("bfloat16"), isJagged: true }],
    ["jagged before float64", { isJagged: true, order: 9 }, narrowed("float64")],
    ["float64 before float32", { ...narrowed("float64"), order: 9 }, { order: 0 }],
    [
      "torch before Tripy, although dense and later",
      { order: 9 },
      { framework: "tripy", isJagged: true, order: 0 },
    ],
  ])("is %s", (_, ofReference, ofCandidate) => {
    const reference = call("reference", ofReference);
    const candidate = call("candidate", ofCandidate);
    for (const subjects of [
      [reference, candidate],
      [candidate, reference],
    ]) {
      expect(chosen(...subjects)).toEqual(["candidate < reference"]);
    }
  });

  it("has all its candidates, and none is a candidate's candidate", () => {
    const subjects = [
      tripy("TripyPort"),
      call("Dense"),
      call("Jagged", { isJagged: true }),
      call("Half", narrowed("float16")),
    ];
    expect(chosen(...subjects)).toEqual(["Dense < Jagged", "Half < Jagged", "TripyPort < Jagged"]);
  });

  it("is that of each candidate's own inputs, where a script compares several things", () => {
    const at = (id: string, value: TensorValue, own: TensorValue): Call =>
      call(id, { inputs: inputs(value), parameters: [parameter("w", own)] });
    expect(
      chosen(at("A", x, weight), at("B", otherX, ownWeight), at("B2", otherX, ownWeight)),
    ).toEqual(["B2 < B"]);
    expect(
      chosen(
        at("A", x, weight),
        at("B", otherX, ownWeight),
        at("B2", otherX, ownWeight),
        at("A2", x, weight),
      ),
    ).toEqual(["B2 < B", "A2 < A"]);
  });

  it("shares more inputs than another, or as many and more parameters", () => {
    const y = tensor("float32", [4, 8], noise(32, 13));
    const few = call("Few", { inputs: inputs(x), parameters: [w] });
    const many = call("Many", {
      inputs: inputs(x, y),
      parameters: [parameter("b", bias), parameter("v", ownWeight)],
    });
    const port = tripy("Port", { inputs: inputs(x, y), parameters: [w, parameter("b", bias)] });
    expect(pairsOf(choose(few, many, port))).toEqual(["Port < Many"]);
    const all = call("All", { parameters: [parameter("b", bias), parameter("v", ownWeight)] });
    const two = tripy("Two", {
      parameters: [w, parameter("b", bias), parameter("v", ownWeight)],
    });
    expect(pairsOf(choose(few, all, two))).toEqual(["Two < All"]);
  });

  it("is not the same object: two calls of one model are not compared", () => {
    const object = "torch the model";
    expect(chosen(call("Model", { object }), call("Model.2", { object }))).toEqual([]);
  });

  it("is the call of its object that computes more, where two fit alike", () => {
    const object = "torch the model";
    const subjects = [
      call("Model", { object, dataOps: 2 }),
      call("Model.2", { object, dataOps: 20 }),
      call("Port"),
    ];
    expect(chosen(...subjects)).toEqual(["Port < Model.2"]);
  });

  it("computes: a call without an operation on floats is nobody's reference or candidate", () => {
    expect(chosen(call("Empty", { dataOps: 0 }), call("Model"))).toEqual([]);
  });
});

describe("near misses", () => {
  it("a port whose parameters pair neither by name nor by values is asked about", () => {
    const own = [parameter("other.weights", ownWeight)];
    expect(asked(call("Model"), tripy("Port", { parameters: own }))).toEqual([
      "no-shared-values: Model, Port",
    ]);
  });

  it("a name alone is no counterpart where the shape is another", () => {
    const own = [parameter("linear.weight", tensor("float32", [3], noise(3, 1)))];
    expect(asked(call("Model"), tripy("Port", { parameters: own }))).toEqual([
      "no-shared-values: Model, Port",
    ]);
  });

  it("a tie at any place is asked about", () => {
    const object = "torch object of A";
    const calls = [
      call("A", { object }),
      call("A.2", { object }),
      call("B", { object: "torch object of B", inputs: inputs(otherX) }),
    ];
    const both = tripy("Port", { inputs: inputs(x, otherX) });
    expect(questionsOf(choose(...calls, both))).toContain("several-references: A, B, Port");
  });

  it("calls that share all parameters and no input are asked about", () => {
    const other = [{ name: "y", value: tensor("float32", [2, 8], noise(16, 3)) }];
    expect(asked(call("Model"), call("Port", { inputs: other }))).toEqual([
      "inputs-differ: Model, Port",
    ]);
  });
});

describe("functions without parameters", () => {
  const bare = { parameters: [] };

  it("pair by their inputs", () => {
    const [pair] = choose(call("attention", bare), tripy("port", bare)).pairs;
    expect(pair).toEqual({
      reference: "attention",
      candidate: "port",
      because: "the same 1 input",
    });
  });

  it("are not made a port of a model that got the same input, in either order", () => {
    const summary = call("summary", bare);
    expect(chosen(call("Model"), summary)).toEqual([]);
    expect(chosen(summary, call("Model"))).toEqual([]);
    expect(chosen(call("Model"), summary, call("Port"))).toEqual(["Port < Model"]);
  });

  it("get the parameters as inputs that a module holds, in either order", () => {
    const functional = call("functional", { ...bare, inputs: inputs(x, weight, bias) });
    for (const calls of [
      [call("Model"), functional],
      [functional, call("Model")],
    ]) {
      const { pairs, questions } = choose(...calls);
      expect(questions).toEqual([]);
      expect(pairs).toMatchObject([
        { because: "the same 1 input, 2 of 2 parameters with the same values" },
      ]);
    }
  });

  it("need results that resemble one another, unless the script compares them", () => {
    const mean = call("mean", bare);
    const deviation = call("deviation", {
      ...bare,
      outputs: [{ shape: [4, 8], value: otherResult }],
    });
    expect(asked(mean, deviation)).toEqual(["unlike-results: mean, deviation"]);
    expect(pairsOf(chooseAmongCompared(mean, deviation))).toEqual(["deviation < mean"]);
    const total = call("total", {
      ...bare,
      outputs: [{ shape: [], value: tensor("float32", [], [1]) }],
    });
    expect(chosen(mean, total)).toEqual([]);
    // Beside what was found, helpers are no question.
    expect(chosen(mean, deviation, call("mean2", bare))).toEqual(["mean2 < mean"]);
  });

  it("are strangers with other inputs: nothing is asked about torch", () => {
    const stranger = call("mask", { ...bare, inputs: inputs(otherX) });
    expect(chosen(call("attention", bare), stranger)).toEqual([]);
  });

  it("are strangers without any input", () => {
    expect(chosen(call("f", { ...bare, inputs: [] }), call("g", { ...bare, inputs: [] }))).toEqual(
      [],
    );
  });

  it("do not pair by an input alone that says nothing, where others differ", () => {
    const scale = tensor("float32", [], [0.5]);
    const f = call("f", { ...bare, inputs: inputs(x, scale) });
    const rows = { name: "rows", value: tensor("float32", [2, 3], noise(6)) };
    const g = call("g", { ...bare, inputs: [rows, { name: "by", value: scale }] });
    expect(chosen(f, g)).toEqual([]);
  });
});

describe("a Tripy model", () => {
  it("whose parameters pair by name but hold own values is a candidate: that is the finding", () => {
    const port = tripy("Port", {
      parameters: [parameter("linear.weight", ownWeight), parameter("linear.bias", ownBias)],
    });
    const choice = choose(call("Model"), port);
    expect(choice.questions).toEqual([]);
    expect(choice.pairs).toEqual([
      {
        reference: "Model",
        candidate: "Port",
        because: "the same 1 input, 0 of 2 parameters with the same values",
      },
    ]);
  });

  it("that got what no torch model got has nothing to be compared with", () => {
    const port = tripy("Port", {
      inputs: inputs(otherX),
      parameters: [parameter("own", ownWeight)],
    });
    expect(asked(call("Model"), port)).toEqual(["nothing-to-compare-with: Port"]);
    expect(asked(tripy("Alone"))).toEqual(["nothing-to-compare-with: Alone"]);
  });

  it("that was compared in one of its calls leaves no question open about the others", () => {
    const object = "tripy the port";
    const warmUp = tripy("Port", { object, inputs: inputs(otherX) });
    const real = tripy("Port.2", { object });
    expect(chosen(call("Model"), warmUp, real)).toEqual(["Port.2 < Model"]);
  });
});

describe("what nobody can say", () => {
  it("is asked: the parameters are shared, but an input differs, which is named", () => {
    const port = call("Port", { inputs: [{ name: "x", value: otherX }] });
    const { pairs, questions } = choose(call("Model"), port);
    expect(pairs).toEqual([]);
    expect(questions).toEqual([
      {
        code: "inputs-differ",
        subjects: ["Model", "Port"],
        text: 'Port shares parameters with Model but did not get the same inputs: "x" differs',
      },
    ]);
  });

  it("is asked where one input is the same and another of its name is not", () => {
    const lengths = vector([2, 1], "int32");
    const model = call("Model", { inputs: inputs(x, lengths) });
    const port = call("Port", { inputs: inputs(x, vector([1, 2], "int32")) });
    const { questions } = choose(model, port);
    expect(questions[0]?.text).toMatch(/: "input1" differs$/);
    const shorter = call("Port", { inputs: inputs(x, vector([3], "int32")) });
    expect(choose(model, shorter).questions[0]?.text).toMatch(/: "input1" differs$/);
    const other = [
      { name: "x", value: x },
      { name: "mask", value: vector([3], "int32") },
    ];
    expect(chosen(model, call("Port", { inputs: other }))).toEqual(["Port < Model"]);
  });

  it("is asked: two torch models with the same inputs share no values", () => {
    const stranger = call("Stranger", {
      parameters: [parameter("linear.weight", ownWeight), parameter("linear.bias", ownBias)],
    });
    const { pairs, questions } = choose(call("Model"), stranger);
    expect(pairs).toEqual([]);
    expect(questions.map(({ code, subjects }) => [code, ...subjects])).toEqual([
      ["no-shared-values", "Model", "Stranger"],
    ]);
    expect(questions[0]?.text).toContain("comparing them proves nothing");
  });

  it("is not asked of two torch models that got different inputs and share nothing", () => {
    const stranger = call("Stranger", {
      inputs: inputs(otherX),
      parameters: [parameter("linear.weight", ownWeight)],
    });
    expect(chosen(call("Model"), stranger)).toEqual([]);
  });

  it("is asked: several references fit alike", () => {
    const first = call("First", { parameters: [parameter("w", weight)] });
    const second = call("Second", { parameters: [parameter("w", ownWeight)] });
    const port = tripy("Port", { parameters: [parameter("a", weight), parameter("b", ownWeight)] });
    const { pairs, questions } = choose(first, second, port);
    expect(pairs).toEqual([]);
    expect(questions.at(-1)).toEqual({
      code: "several-references",
      subjects: ["First", "Second", "Port"],
      text: "Port fits First as well as Second: which of them is its reference?",
    });
    expect(questions.map(({ code }) => code)).not.toContain("nothing-to-compare-with");
  });

  it("is not asked again of what was compared with something else", () => {
    const stranger = call("Stranger", {
      parameters: [parameter("linear.weight", ownWeight), parameter("linear.bias", ownBias)],
    });
    const port = tripy("Port", { parameters: stranger.parameters });
    // The Tripy port is the stranger's, whose question is answered by that.
    expect(chosen(call("Model"), stranger, port)).toEqual(["Port < Stranger"]);
  });
});

describe("the choice", () => {
  /** Three models that do different things, each with some ports and some other inputs. */
  const scripts = fc.array(
    fc.record({
      model: fc.integer({ min: 0, max: 2 }),
      input: fc.integer({ min: 0, max: 1 }),
      framework: fc.constantFrom("torch" as const, "tripy" as const),
      isJagged: fc.boolean(),
      isNarrow: fc.boolean(),
    }),
    { minLength: 1, maxLength: 7 },
  );
  type Script = { model: number; input: number } & Pick<Subject, "framework" | "isJagged"> & {
      isNarrow: boolean;
    };

  function subjectsOf(script: readonly Script[]): Call[] {
    return script.map(({ model, input, framework, isJagged, isNarrow }, order) => {
      const narrow = (value: TensorValue) => (isNarrow ? convertFloats(value, "bfloat16") : value);
      return call(`${framework}${order}`, {
        framework,
        isJagged,
        order,
        inputs: inputs(narrow(tensor("float32", [4, 8], noise(32, 100 + 10 * model + input)))),
        parameters: [
          parameter(`w${model}`, narrow(tensor("float32", [8, 8], noise(64, 1 + model)))),
        ],
      });
    });
  }

  it("pairs what belongs together and nothing else, with the best of them as reference", () => {
    fc.assert(
      fc.property(scripts, (script) => {
        const subjects = subjectsOf(script);
        const rank = (s: Script, order: number) =>
          [s.framework === "torch" ? 0 : 1, s.isNarrow ? 1 : 0, s.isJagged ? 0 : 1, order].map(
            (n) => String(n).padStart(2, "0"),
          );
        const groups = new Map<string, number[]>();
        for (const [order, { model, input }] of script.entries()) {
          const key = `${model} ${input}`;
          groups.set(key, [...(groups.get(key) ?? []), order]);
        }
        const expected = [...groups.values()].flatMap((group) => {
          const sorted = group.sort((i, j) =>
            String(rank(script[i] as Script, i)) < String(rank(script[j] as Script, j)) ? -1 : 1,
          );
          const ids = sorted.map((order) => (subjects[order] as Call).id);
          return ids.slice(1).map((id) => `${id} < ${ids[0]}`);
        });
        const choice = choose(...subjects);
        expect(pairsOf(choice).sort()).toEqual(expected.sort());
      }),
      { numRuns: 200 },
    );
  });

  it("does not depend on the order in which the calls are listed", () => {
    fc.assert(
      fc.property(scripts, fc.nat(), (script, seed) => {
        const subjects = subjectsOf(script);
        const keys = noise(subjects.length, seed + 1);
        const mixed = subjects
          .map((subject, i) => ({ subject, key: keys[i] as number }))
          .sort((a, c) => a.key - c.key)
          .map(({ subject }) => subject);
        expect(choose(...mixed)).toEqual(choose(...subjects));
      }),
      { numRuns: 100 },
    );
  });
});

function narrowed(dtype: "float16" | "bfloat16" | "float64"): Partial<Subject> {
  return {
    inputs: inputs(convertFloats(x, dtype)),
    parameters: [w, b].map((p) => ({ ...p, value: convertFloats(p.value, dtype) })),
  };
}
