import {
  findInterpreter,
  interpreterCandidates,
  wordsOfSource,
  type FindInterpreterOptions,
  type Interpreter,
} from "../capture/interpreter.js";
import { installCommand } from "../capture/pythonPackages.js";
import type { Problem } from "../protocol/report.js";
import type {
  InterpreterFacts,
  InterpretersParams,
  InterpretersResult,
} from "../protocol/scriptRequests.js";
import { UserError } from "../protocol/userError.js";

/** What a comparison can need, in the order in which people look for it. */
const shownPackages = ["torch", "fbgemm_gpu", "nvtripy"] as const;

/**
 * All interpreters that somebody chose or that can be found, each environment once. One that was chosen and does not
 * work is told as a problem; one that was merely found and does not work is left out.
 */
export async function listInterpreters(
  { given, folders }: InterpretersParams,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<InterpretersResult> {
  const problems: Problem[] = [];
  const ask = async (
    one: NonNullable<FindInterpreterOptions["given"]>[number],
  ): Promise<Interpreter | undefined> => {
    try {
      return await findInterpreter({ given: [one], folders, env, signal });
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      if (given.some(({ path }) => path === one.path)) problems.push(...error.problems);
      return undefined;
    }
  };
  const found = await interpreterCandidates(folders, env, process.platform);
  const wanted = [
    ...given.filter(({ path }) => path.trim() !== ""),
    ...found.map(({ file, source }) => ({ path: file, source })),
  ];
  const answers: (Interpreter | undefined)[] = [];
  // A few at a time: each is a start of Python.
  for (let at = 0; at < wanted.length; at += 4) {
    answers.push(...(await Promise.all(wanted.slice(at, at + 4).map(ask))));
  }
  const environments = new Map<string, Interpreter>();
  for (const answer of answers) {
    // Links and shims lead to one environment; the first way to it is the most important one.
    const key = answer && `${answer.prefix}\n${answer.version}`;
    if (answer && key !== undefined && !environments.has(key)) environments.set(key, answer);
  }
  return { interpreters: [...environments.values()].map(interpreterFacts), problems };
}

/** What is shown of an interpreter: what it is, how it was found, and what is installed or how to install it. */
export function interpreterFacts(interpreter: Interpreter): InterpreterFacts {
  const { path, version, source, packages } = interpreter;
  return {
    path,
    version,
    found: wordsOfSource[source],
    packages: shownPackages.map((name) => {
      const there = packages[name];
      return there === undefined
        ? { name, install: installCommand(interpreter, name) }
        : { name, version: there };
    }),
  };
}
