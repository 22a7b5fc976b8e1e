import type { ChildProcess } from "node:child_process";

/**
 * Tells once how a child ended: "it was ended by SIGKILL". Its last words may come after its end, and something that it
 * started may hold its stderr open for ever, so that 200 ms are waited for them at most.
 */
export function onceEnded(
  child: ChildProcess,
  { exited, ended }: { readonly exited: () => void; readonly ended: (how: string) => void },
): void {
  child.once("exit", (code, signal) => {
    exited();
    const how = signal ? `it was ended by ${signal}` : `it ended with exit code ${code}`;
    const timer = setTimeout(() => ended(how), 200);
    child.once("close", () => {
      clearTimeout(timer);
      ended(how);
    });
  });
}

/** A ring buffer of the last bytes that a stream said. */
export function rememberLast(stream: NodeJS.ReadableStream | null, bytes: number): () => string {
  let kept = Buffer.alloc(0);
  stream?.on("data", (chunk: Buffer) => {
    kept = Buffer.concat([kept, chunk]).subarray(-bytes);
  });
  return () => kept.toString("utf8").trim();
}

/** A child that waits for work must not keep the host from ending. */
export function keepAlive(things: readonly unknown[], keep: boolean): void {
  for (const thing of things as ({ ref?(): void; unref?(): void } | null | undefined)[]) {
    if (keep) thing?.ref?.();
    else thing?.unref?.();
  }
}
