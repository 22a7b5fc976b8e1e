import { existsSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { format } from "node:util";
import type { Browser } from "playwright-core";
import { openBrowser, workbenchUrl } from "./browser.js";
import { findCodeWeb } from "./installation.js";
import { makeProfile } from "./profile.js";
import { startServer, type CodeWebServer } from "./server.js";
import { runnerSource } from "./testRunner.js";

/**
 * Stands in for the desktop `code` executable: it takes the arguments that @vscode/test-electron passes, and runs the
 * same test module in the Node.js extension host of VS Code's web server, with the workbench in a headless browser.
 */
async function main(): Promise<number> {
  const launch = parseArguments(process.argv.slice(2));
  const codeWeb = findCodeWeb(process.env["CODE_WEB_ROOT"] ?? process.cwd());
  if (!codeWeb) throw new Error("the VS Code web server is not installed");
  if (launch.flags.has("version")) {
    console.log(codeWeb.version);
    return 0;
  }
  const tests = launch.values.get("extensionTestsPath");
  if (tests === undefined || launch.extensions.length === 0) {
    throw new Error("--extensionDevelopmentPath and --extensionTestsPath are needed");
  }
  const profile = makeProfile(settingsOf(launch.values.get("user-data-dir")));
  const runner = path.join(profile.dir, "runner.cjs");
  const resultFile = path.join(profile.dir, "result.json");
  writeFileSync(runner, runnerSource(toPath(tests), resultFile));

  const [developed = "", ...others] = launch.extensions.map(toPath);
  // The workbench takes one extension from its address: what else is developed is installed.
  for (const other of others) {
    const { publisher, name, version } = JSON.parse(
      readFileSync(path.join(other, "package.json"), "utf8"),
    ) as Record<"publisher" | "name" | "version", string>;
    symlinkSync(other, path.join(profile.extensionsDir, `${publisher}.${name}-${version}`));
  }
  const onlyDeveloped = launch.flags.has("disable-extensions") && others.length === 0;

  let server: CodeWebServer | undefined;
  let browser: Browser | undefined;
  const cleanUp = async (): Promise<void> => {
    await browser?.close().catch(() => undefined);
    await server?.stop();
    profile.remove();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => void cleanUp().finally(() => process.exit(130)));
  }
  try {
    server = await startServer(codeWeb, profile, { smokeDriver: true });
    browser = await openBrowser(codeWeb);
    const { port } = server;
    const remote = (file: string): string => `vscode-remote://localhost:${port}${toPath(file)}`;
    const folder = launch.values.get("folder-uri") ?? launch.positional[0];
    const url = workbenchUrl(port, folder === undefined ? undefined : toPath(folder), [
      ["extensionDevelopmentPath", remote(developed)],
      ["extensionTestsPath", remote(runner)],
      ...(onlyDeveloped ? ([["disableExtensions", "true"]] as const) : []),
    ]);
    const code = await runWorkbench(browser, url);
    return verdict(code, resultFile, server);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    if (verbose) console.error(server?.log());
    return 1;
  } finally {
    await cleanUp();
  }
}

const limitMs = Number(process.env["CODE_WEB_TIMEOUT_MS"] ?? 300_000);
const verbose = Boolean(process.env["CODE_WEB_VERBOSE"]);

/** Opens the workbench, passes its log on, and waits for the exit code of the test module. */
async function runWorkbench(browser: Browser, url: string): Promise<number> {
  const page = await browser.newPage({
    viewport: { width: 1280, height: 800 },
  });
  let timer: NodeJS.Timeout | undefined;
  const ended = new Promise<number>((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`there is no result after ${limitMs} ms`)), limitMs);
    page.on("crash", () => reject(new Error("the workbench page crashed")));
    browser.on("disconnected", () => reject(new Error("the browser went away")));
    page.exposeFunction("codeAutomationExit", resolve).catch(reject);
  });
  // It may reject while the page is still loading: that is not unhandled, it is awaited below.
  ended.catch(() => undefined);
  await page.exposeFunction("codeAutomationLog", (type: string, args: unknown[]) => {
    const line = format(...args);
    if (!verbose && isNoise(line)) return;
    (type === "error" ? process.stderr : process.stdout).write(`${line}\n`);
  });
  try {
    await page.goto(url);
    return await ended;
  } finally {
    clearTimeout(timer);
  }
}

/** When the extension host dies, the workbench still says 0: only the result file proves that the run came to its end. */
function verdict(code: number, resultFile: string, server: CodeWebServer): number {
  if (!existsSync(resultFile)) {
    const last = /Extension Host Process exited with code: [^\n]*/.exec(server.log())?.[0];
    console.error(`the extension host ended before the tests did${last ? ` (${last})` : ""}`);
    return 1;
  }
  const result = JSON.parse(readFileSync(resultFile, "utf8")) as {
    ok: boolean;
  };
  return result.ok ? code : code || 1;
}

/** The workbench's own log lines, which share a channel with the extension host's console. */
function isNoise(line: string): boolean {
  return (
    /^(Resolv(ing|ed) connection token|Creating a socket|\[reconnection-grace-time\]|Ignoring fetching additional|Updating additional builtin|\[Service Worker\] registration|\[AgentHost|\[AccountPolicyGate\]|No search provider registered|\[DefaultAccount\])/.test(
      line,
    ) || line.includes("/static/out/vs/code/browser/workbench/")
  );
}

interface Launch {
  readonly extensions: readonly string[];
  readonly positional: readonly string[];
  readonly flags: ReadonlySet<string>;
  readonly values: ReadonlyMap<string, string>;
}

const optionsWithValue = new Set([
  "extensionDevelopmentPath",
  "extensionTestsPath",
  "user-data-dir",
  "extensions-dir",
  "folder-uri",
  "file-uri",
  "log",
  "locale",
  "profile",
  "enable-proposed-api",
]);

function parseArguments(args: readonly string[]): Launch {
  const extensions: string[] = [];
  const positional: string[] = [];
  const flags = new Set<string>();
  const values = new Map<string, string>();
  for (let i = 0; i < args.length; i++) {
    const argument = args[i] as string;
    const [, name, inline] = /^--([^=]+)(?:=(.*))?$/s.exec(argument) ?? [];
    if (name === undefined) {
      if (!/^-\w$/.test(argument)) positional.push(argument);
    } else if (!optionsWithValue.has(name)) {
      flags.add(name);
    } else {
      const value = inline ?? args[++i] ?? "";
      if (name === "extensionDevelopmentPath") extensions.push(value);
      else values.set(name, value);
    }
  }
  return { extensions, positional, flags, values };
}

/** Settings that the caller put into the profile that it names. */
function settingsOf(userData: string | undefined): Record<string, unknown> {
  if (userData === undefined) return {};
  const file = path.join(userData, "User/settings.json");
  return existsSync(file)
    ? (JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>)
    : {};
}

function toPath(file: string): string {
  return file.startsWith("file:") ? fileURLToPath(file) : path.resolve(file);
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  },
);
