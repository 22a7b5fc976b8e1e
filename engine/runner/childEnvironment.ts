/**
 * The environment of a child that runs our own JavaScript. On Electron's Node, `process.execPath` is the editor: only
 * with ELECTRON_RUN_AS_NODE does it start as Node, and without it a second editor opens.
 */
export function childEnvironment(
  own: NodeJS.ProcessEnv,
  extra: Readonly<Record<string, string>>,
  versions: Readonly<Record<string, string | undefined>>,
): NodeJS.ProcessEnv {
  return {
    ...own,
    ...extra,
    ORT_DISABLE_TELEMETRY: "1",
    ...(versions["electron"] !== undefined && { ELECTRON_RUN_AS_NODE: "1" }),
  };
}
