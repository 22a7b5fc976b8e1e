import * as vscode from "vscode";

/** What is used of the Python extension's published API. */
interface PythonExtension {
  readonly environments?: {
    getActiveEnvironmentPath(resource?: vscode.Uri): unknown;
    resolveEnvironment(environment: unknown): Promise<
      | {
          readonly executable?: { readonly uri?: vscode.Uri | undefined };
        }
      | undefined
    >;
  };
}

/** Finding environments takes a moment after the start; a run does not wait for ever. */
const limitMs = 10_000;

/** The interpreter that is chosen in the Python extension for a file; undefined without the extension or a choice. */
export async function activePython(
  resource: vscode.Uri | undefined,
  log: vscode.LogOutputChannel,
): Promise<string | undefined> {
  const extension = vscode.extensions.getExtension<PythonExtension | undefined>("ms-python.python");
  if (!extension) return undefined;
  try {
    return await withinLimit(async () => {
      const { environments } = (await extension.activate()) ?? {};
      if (!environments) return undefined;
      const active = environments.getActiveEnvironmentPath(resource);
      const resolved = await environments.resolveEnvironment(active);
      return resolved?.executable?.uri?.fsPath;
    });
  } catch (error) {
    log.warn(`the Python extension does not tell its interpreter: ${String(error)}`);
    return undefined;
  }
}

async function withinLimit<T>(ask: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${limitMs / 1000} s`)), limitMs);
  });
  try {
    return await Promise.race([ask(), late]);
  } finally {
    clearTimeout(timer);
  }
}
