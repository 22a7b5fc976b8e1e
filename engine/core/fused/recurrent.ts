import type { Expansion, Node, StepWriter } from "./builder.js";
import { map, matmul, reshape, slice, zip } from "./ndarray.js";
import { add, multiply, sigmoid, transposed } from "./products.js";

interface Cell {
  readonly inputWeight: Node;
  readonly stateWeight: Node;
  readonly inputBias: Node | undefined;
  readonly stateBias: Node | undefined;
}

/** One step: what a state becomes. The names of tensors begin with `at`. */
type Advance<State> = (
  w: StepWriter,
  at: string,
  fromInput: Node,
  state: State,
  cell: Cell,
) => State;

const gru: Advance<Node> = (w, at, fromInput, state, cell) => {
  const fromState = projected(w, `${at}from the state`, state, cell.stateWeight, cell.stateBias);
  const [resetX, updateX, newX] = chunks(w, at, "input", fromInput, 3) as [Node, Node, Node];
  const [resetH, updateH, newH] = chunks(w, at, "state", fromState, 3) as [Node, Node, Node];
  const sum = (name: string, a: Node, b: Node): Node =>
    w.step(`${at}${name}`, zip(a, b, add), a, b);
  const gate = (name: string, a: Node): Node => w.step(`${at}${name}`, map(a, sigmoid), a);
  const reset = gate("reset gate", sum("reset sum", resetX, resetH));
  const update = gate("update gate", sum("update sum", updateX, updateH));
  const kept = w.step(`${at}reset state`, zip(reset, newH, multiply), reset, newH);
  const inner = sum("new sum", newX, kept);
  const fresh = w.step(`${at}new`, map(inner, Math.tanh), inner);
  const share = w.step(
    `${at}share of the new`,
    map(update, (x) => 1 - x),
    update,
  );
  const taken = w.step(`${at}taken`, zip(share, fresh, multiply), share, fresh);
  const carried = w.step(`${at}carried`, zip(update, state, multiply), update, state);
  return w.step(`${at}state`, zip(taken, carried, add), taken, carried);
};

const lstm: Advance<readonly [Node, Node]> = (w, at, fromInput, [state, memory], cell) => {
  const fromState = projected(w, `${at}from the state`, state, cell.stateWeight, cell.stateBias);
  const sum = w.step(`${at}gates`, zip(fromInput, fromState, add), fromInput, fromState);
  const [i, f, g, o] = chunks(w, at, "gates", sum, 4) as [Node, Node, Node, Node];
  const gate = (name: string, a: Node): Node => w.step(`${at}${name}`, map(a, sigmoid), a);
  const [input, forget, output] = [
    gate("input gate", i),
    gate("forget gate", f),
    gate("output gate", o),
  ];
  const fresh = w.step(`${at}new`, map(g, Math.tanh), g);
  const kept = w.step(`${at}kept`, zip(forget, memory, multiply), forget, memory);
  const taken = w.step(`${at}taken`, zip(input, fresh, multiply), input, fresh);
  const cellState = w.step(`${at}memory`, zip(kept, taken, add), kept, taken);
  const shown = w.step(`${at}tanh of the memory`, map(cellState, Math.tanh), cellState);
  return [w.step(`${at}state`, zip(output, shown, multiply), output, shown), cellState];
};

export function gruCell(w: StepWriter): Expansion | undefined {
  return inCell(w, (fromInput, cell) => {
    const state = w.operand("hx");
    return state && gru(w, "", fromInput, state, cell);
  });
}

export function lstmCell(w: StepWriter): Expansion | undefined {
  return inCell(w, (fromInput, cell) => {
    const [state, memory] = [w.operand("hx"), w.operand("hx", 1)];
    return state && memory && lstm(w, "", fromInput, [state, memory], cell)[0];
  });
}

function inCell(
  w: StepWriter,
  advance: (fromInput: Node, cell: Cell) => Node | undefined,
): Expansion | undefined {
  const input = w.operand("input");
  const inputWeight = w.operand("w_ih");
  const stateWeight = w.operand("w_hh");
  if (!input || !inputWeight || !stateWeight) return undefined;
  const [inputBias, stateBias] = [w.operand("b_ih"), w.operand("b_hh")];
  const cell = { inputWeight, stateWeight, inputBias, stateBias };
  const made = advance(projected(w, "from the input", input, inputWeight, inputBias), cell);
  return made && w.end(made);
}

export function gruSequence(w: StepWriter): Expansion | undefined {
  return sequence<Node>(w, gru, (at) => w.operand("hx") && part(w, w.operand("hx") as Node, at), [
    (state) => state,
  ]);
}

export function lstmSequence(w: StepWriter): Expansion | undefined {
  const start = (at: number): readonly [Node, Node] | undefined => {
    const [state, memory] = [w.operand("hx"), w.operand("hx", 1)];
    return state && memory && [part(w, state, at), part(w, memory, at, "memory")];
  };
  return sequence<readonly [Node, Node]>(w, lstm, start, [([state]) => state]);
}

/** The first state of one layer out of [layers, batch, width]. */
function part(w: StepWriter, state: Node, layer: number, word = "state"): Node {
  const { shape } = state;
  const own = reshape(slice(state, 0, layer, layer + 1), shape.slice(1));
  return w.step(`layer ${layer} first ${word}`, own, state);
}

function sequence<State>(
  w: StepWriter,
  advance: Advance<State>,
  start: (layer: number) => State | undefined,
  [stateOf]: readonly [(state: State) => Node],
): Expansion | undefined {
  const first = w.operand("input");
  if (!first || first.shape.length !== 3 || w.attribute("bidirectional") === true) return undefined;
  if (w.attribute("train") === true && w.number("dropout", 0) !== 0) return undefined;
  const axis = w.attribute("batch_first") === true ? 1 : 0;
  const length = first.shape[axis] ?? 0;
  const hasBias = w.attribute("has_biases") === true;
  const layers = w.number("num_layers", 1);
  let inputs: Node[] = Array.from({ length }, (_, t) =>
    w.step(`input ${t}`, atTime(first, axis, t), first),
  );
  for (let layer = 0; layer < layers; layer++) {
    const count = hasBias ? 4 : 2;
    const read = (at: number): Node | undefined => w.operand("params", layer * count + at);
    const [inputWeight, stateWeight] = [read(0), read(1)];
    let state = start(layer);
    if (!inputWeight || !stateWeight || state === undefined) return undefined;
    const cell: Cell = {
      inputWeight,
      stateWeight,
      inputBias: hasBias ? read(2) : undefined,
      stateBias: hasBias ? read(3) : undefined,
    };
    inputs = inputs.map((input, t) => {
      const at = `${layers > 1 ? `layer ${layer} ` : ""}step ${t} `;
      const fromInput = projected(w, `${at}from the input`, input, inputWeight, cell.inputBias);
      state = advance(w, at, fromInput, state as State, cell);
      return stateOf(state);
    });
  }
  return w.end(...inputs);
}

function atTime(a: Node, axis: number, t: number) {
  const one = slice(a, axis, t, t + 1);
  return reshape(
    one,
    a.shape.filter((_, at) => at !== axis),
  );
}

function projected(w: StepWriter, name: string, a: Node, weight: Node, bias?: Node): Node {
  const product = w.step(`${name}, product`, matmul(a, transposed(weight)), a, weight);
  return bias ? w.step(name, zip(product, bias, add), product, bias) : product;
}

function chunks(w: StepWriter, at: string, word: string, a: Node, count: number): Node[] {
  const axis = a.shape.length - 1;
  const size = (a.shape[axis] ?? 0) / count;
  return Array.from({ length: count }, (_, n) =>
    w.step(`${at}${word} ${n}`, slice(a, axis, n * size, (n + 1) * size), a),
  );
}
