import path from "node:path";
import type { Interpreter } from "../capture/interpreter.js";
import { createTorchExecutor } from "../capture/torchExecutor.js";
import { chooseImplementations } from "../core/implementations.js";
import type { Problem } from "../protocol/report.js";
import type { PythonScript, PythonSource } from "../protocol/runFile.js";
import { userError } from "../protocol/userError.js";
import type { Executor } from "../runner/executor.js";
import { captureCalls, nameOfTarget, requireScript, type CapturedScript } from "./captureCalls.js";
import type { CapturedCall } from "./capturedCalls.js";
import { observeCall, requireSameCall } from "./compareCalls.js";
import { describeCapture } from "./describeCapture.js";
import type { ObservedImplementation } from "./observe.js";

/** What runs the scripts that a run file names. */
export interface ScriptHost {
  /** Folder that holds the Python package `hstu_capture`. */
  readonly agentFolder: string;
  /** Finds the Python for a script in this folder; `given` is an absolute path or a name on the PATH. */
  readonly interpreterFor: (folder: string, given: string | undefined) => Promise<Interpreter>;
  readonly byteBudget?: number;
  readonly onOutput?: (stream: "stdout" | "stderr", text: string) => void;
}

export interface ScriptSourcesOptions {
  readonly host: ScriptHost | undefined;
  /** Folder of the run file. */
  readonly folder: string;
  readonly base: string;
  readonly executor: Executor;
  /** Limit for a script and for one evaluation. */
  readonly timeoutMs?: number;
  readonly signal: AbortSignal;
  readonly onProgress: (stage: string) => void;
}

/** The implementations that scripts of a run file call. Each script runs once, however many of its calls are named. */
export interface ScriptSources {
  /**
   * @param role which of two calls is meant where the run file does not say so.
   * @throws UserError when the script fails, or does not make such a call.
   */
  observe(
    id: string,
    source: PythonSource,
    role: "reference" | "candidate",
  ): Promise<ObservedImplementation>;
  /** Two implementations that are calls of one script: whether they got the same inputs is known by their values. */
  haveSameInputs(reference: string, candidate: string): boolean;
  /** What is to be said of the scripts' runs, and the best verdict that they allow. */
  ended(): { problems: Problem[]; atBest: "pass" | "warn" };
  dispose(): Promise<void>;
}

interface ScriptInstance extends CapturedScript {
  readonly interpreter: Interpreter;
  readonly name: string;
  readonly torch: ReturnType<typeof createTorchExecutor>;
}

export function createScriptSources(options: ScriptSourcesOptions): ScriptSources {
  const { folder, base, executor, signal } = options;
  const running = new Map<string, Promise<ScriptInstance>>();
  const chosen = new Map<string, { script: ScriptInstance; call: CapturedCall }>();
  const settled = async (): Promise<ScriptInstance[]> => {
    const all = await Promise.allSettled(running.values());
    return all.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  };
  let ended: ScriptInstance[] = [];

  return {
    observe: async (id, { python, label }, role) => {
      const key = JSON.stringify({ ...python, function: undefined });
      const script = running.get(key) ?? start(python, options);
      running.set(key, script);
      const instance = await script;
      if (!ended.includes(instance)) ended = [...ended, instance];
      const call = callOf(id, python, role, instance);
      chosen.set(id, { script: instance, call });
      return observeCall(
        { ...call, id, ...(label !== undefined && { label }) },
        { base, executor, torch: instance.torch, signal },
      );
    },
    haveSameInputs: (reference, candidate) => {
      const [r, c] = [chosen.get(reference), chosen.get(candidate)];
      if (!r || !c) return false;
      requireSameCall(r.call, c.call);
      return true;
    },
    ended: () => {
      const all = ended.map(({ index, result }) => describeCapture(index, result, base));
      return {
        problems: all.flatMap(({ problems }) => problems),
        atBest: all.some(({ atBest }) => atBest === "warn") ? "warn" : "pass",
      };
    },
    dispose: async () => {
      for (const instance of await settled()) {
        instance.torch.dispose();
        await instance.dispose();
      }
    },
  };

  async function start(python: PythonScript, settings: ScriptSourcesOptions) {
    const { host, timeoutMs, onProgress } = settings;
    if (!host) throw new Error("nothing is there that could run a script");
    const target =
      python.script === undefined
        ? { module: python.module ?? "" }
        : { script: path.resolve(folder, python.script) };
    if ("script" in target) requireScript(target.script);
    const cwd = path.resolve(folder, python.cwd ?? ".");
    const given = python.interpreter;
    const interpreter = await host.interpreterFor(
      "script" in target ? path.dirname(target.script) : cwd,
      given !== undefined && /[/\\]/.test(given) ? path.resolve(folder, given) : given,
    );
    const name = nameOfTarget(target);
    onProgress(`Running ${name}`);
    const captured = await captureCalls(
      { target, args: python.args ?? [], cwd, interpreter, ...(python.env && { env: python.env }) },
      { ...host, executor, signal, ...(timeoutMs !== undefined && { timeoutMs }) },
    );
    const { agentFolder } = host;
    const torch = createTorchExecutor({
      python: interpreter.path,
      agentFolder,
      timeoutMs: timeoutMs ?? 120_000,
    });
    return { ...captured, interpreter, name, torch };
  }
}

/** The call that is named, or the one that the choice among all calls gives this role. */
function callOf(
  id: string,
  { function: wanted }: PythonScript,
  role: "reference" | "candidate",
  { calls, name }: ScriptInstance,
): CapturedCall {
  const ids = calls.map((call) => call.id);
  const offer = ids.length > 0 ? `It called: ${ids.join(", ")}.` : "It called no model at all.";
  if (wanted !== undefined) {
    const call = calls.find((one) => one.id === wanted);
    if (call) return call;
    throw userError(
      "implementation-unknown",
      `${id}: ${name} called nothing that is named "${wanted}"`,
      offer,
    );
  }
  const objects = new Set(calls.map(({ object }) => object));
  const largest = [...calls].sort((a, b) => b.dataOps - a.dataOps)[0];
  if (largest && objects.size === 1) return largest;
  const { pairs } = chooseImplementations(calls);
  const found = new Set(pairs.map((pair) => pair[role]));
  const only = found.size === 1 ? calls.find((call) => found.has(call.id)) : undefined;
  if (only) return only;
  throw userError(
    "function-missing",
    `${id}: which of the calls of ${name} it is cannot be told`,
    `Say it with "function". ${offer}`,
  );
}
