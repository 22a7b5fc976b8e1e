import * as ort from "onnxruntime-node";
import type { DType } from "../../../engine/protocol/tensor.js";
import type { Executor } from "../../../engine/runner/executor.js";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

/** ONNX Runtime in the test's own process, for float32 alone. The product runs it in a child that can be killed. */
export function inProcessExecutor(): Executor {
  return {
    name: "onnxruntime-node",
    provider: "cpu",
    async evaluate(model, feeds, outputs) {
      const session = await ort.InferenceSession.create(model, { logSeverityLevel: 4 });
      try {
        const tensors = Object.entries(feeds).map(
          ([name, { shape, bytes }]): [string, ort.Tensor] => {
            const data = new Float32Array(new Uint8Array(bytes).buffer);
            return [name, new ort.Tensor("float32", data, [...shape])];
          },
        );
        const results = await session.run(Object.fromEntries(tensors), [...outputs]);
        return Object.fromEntries(
          Object.entries(results).map(([name, { type, dims, data }]) => {
            const { buffer, byteOffset, byteLength } = data as Float32Array;
            const bytes = new Uint8Array(buffer, byteOffset, byteLength);
            return [name, { dtype: type as DType, shape: dims, bytes }];
          }),
        );
      } finally {
        await session.release();
      }
    },
    dispose() {
      // The sessions are released after each run.
    },
  };
}
