import type { TensorKey } from "../core/observation.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { OperandValue, Program } from "./program.js";

/** Evaluates the ops of a recorded torch trace again, in the user's own torch. */
export interface TorchExecutor {
  readonly name: string;
  evaluate(
    request: {
      /** The trace file, absolute. */
      readonly trace: string;
      readonly outputs: readonly string[];
      readonly replace: ReadonlyMap<string, TensorValue>;
      readonly correct: ReadonlyMap<string, TensorValue>;
      readonly parameters: ReadonlyMap<string, TensorValue>;
      readonly operands: readonly OperandValue[];
      readonly isTrial: boolean;
      readonly double: boolean;
    },
    signal: AbortSignal,
  ): Promise<{
    values: Map<TensorKey, TensorValue>;
    /** Why an output could not be evaluated. */
    unavailable: Map<TensorKey, string>;
  }>;
}

const none: ReadonlyMap<TensorKey, TensorValue> = new Map();

/** A recorded torch trace as a program. Its tensors are keyed by the trace's tensor ids. */
export function torchProgram(trace: string, executor: TorchExecutor): Program {
  return {
    isDouble: () => true,
    evaluate: async (
      {
        outputs,
        replaced = none,
        corrected = none,
        parameters = none,
        operands = [],
        isTrial = false,
        double = false,
      },
      signal,
    ) => {
      if (outputs.length === 0) return none;
      const request = {
        trace,
        outputs,
        replace: replaced,
        correct: corrected,
        parameters,
        operands,
        isTrial,
        double,
      };
      return (await executor.evaluate(request, signal)).values;
    },
  };
}
