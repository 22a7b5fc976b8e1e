import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { layerDiffHtml } from "../../webview/layerDiff/html.js";
import type { HostMessage, PanelMessage } from "../../webview/protocol/messages.js";
import { panelThemes, type ThemeName } from "./panelThemes.js";

/** The bundled panel in a plain browser, under the policy that VS Code would give it. One for a test file. */
export interface PanelServer {
  open(options?: OpenOptions): Promise<PanelPage>;
  close(): Promise<void>;
}

export interface OpenOptions {
  theme?: ThemeName;
  width?: number;
  height?: number;
  reducedMotion?: boolean;
}

export interface PanelPage {
  page: Page;
  /** Sends as the extension would, and waits until it is drawn. Gives the milliseconds from message to picture. */
  send(message: HostMessage): Promise<number>;
  /** Sends anything, as a broken host would. */
  sendRaw(message: unknown): Promise<number>;
  /** What the panel sent to the extension so far, without `ready`. */
  sent(): Promise<PanelMessage[]>;
  setTheme(theme: ThemeName): Promise<void>;
  /** Everything that the browser complained about: policy violations, errors, failed loads. */
  complaints: string[];
  close(): Promise<void>;
}

export async function startPanelServer(): Promise<PanelServer> {
  const folder = await mkdtemp(join(tmpdir(), "hstu-panel-"));
  await build({
    entryPoints: { layerDiff: "webview/layerDiff/main.ts" },
    outdir: folder,
    bundle: true,
    format: "iife",
    platform: "browser",
    target: "es2022",
    minify: true,
    logLevel: "warning",
  });
  const { server, origin } = await serve(folder);
  const browser = await chromium.launch({
    executablePath: process.env["HSTU_PARITY_CHROMIUM"] ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-background-networking",
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
    ],
  });
  return {
    open: (options = {}) => openPanel(browser, origin, options),
    close: async () => {
      await browser.close();
      await new Promise((resolve) => server.close(resolve));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function serve(folder: string): Promise<{ server: Server; origin: string }> {
  const types: Record<string, string> = {
    js: "text/javascript",
    css: "text/css",
  };
  const server = createServer((request, response) => {
    const name = request.url?.slice(1) ?? "";
    const { port } = server.address() as AddressInfo;
    const cspSource = `http://localhost:${port}`;
    if (name === "") {
      response.setHeader("content-type", "text/html; charset=utf-8");
      response.end(
        layerDiffHtml({
          cspSource,
          nonce: "bm9uY2Utb2YtdGhlLXRlc3Q=",
          scriptUri: `${cspSource}/layerDiff.js`,
          styleUri: `${cspSource}/layerDiff.css`,
        }),
      );
      return;
    }
    const type = types[name.slice(name.lastIndexOf(".") + 1)];
    if (!type || !/^layerDiff\.(js|css)$/.test(name)) {
      response.writeHead(name === "favicon.ico" ? 204 : 404).end();
      return;
    }
    readFile(join(folder, name)).then(
      (content) => response.setHeader("content-type", `${type}; charset=utf-8`).end(content),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  return {
    server,
    origin: `http://localhost:${(server.address() as AddressInfo).port}/`,
  };
}

async function openPanel(
  browser: Browser,
  origin: string,
  { theme = "dark", width = 1280, height = 900, reducedMotion = false }: OpenOptions,
): Promise<PanelPage> {
  const context: BrowserContext = await browser.newContext({
    viewport: { width, height },
    reducedMotion: reducedMotion ? "reduce" : "no-preference",
  });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("requestfailed", (request) => complaints.push(`failed: ${request.url()}`));
  await page.addInitScript(stubVsCode);
  await page.addInitScript(applyTheme, panelThemes[theme]);
  await page.goto(origin);
  await page.waitForFunction(() => window.panelSent.some(({ type }) => type === "ready"));
  const sendRaw = async (message: unknown): Promise<number> => {
    // As text and in pieces: the browser's test connection takes minutes over large objects, and no piece over 100 MB.
    const text = JSON.stringify(message);
    for (let start = 0; start < text.length; start += pieceLength) {
      await page.evaluate(
        (piece) => {
          window.panelInbox += piece;
        },
        text.slice(start, start + pieceLength),
      );
    }
    return page.evaluate(deliver);
  };
  return {
    page,
    sendRaw,
    send: sendRaw,
    sent: () => page.evaluate(() => window.panelSent.filter(({ type }) => type !== "ready")),
    setTheme: async (name) => {
      await page.evaluate(applyTheme, panelThemes[name]);
      await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
    },
    complaints,
    close: () => context.close(),
  };
}

const pieceLength = 8 * 1024 * 1024;

/** Posts what is in the inbox; two frames after the message's own task what it changed has been drawn. */
function deliver(): Promise<number> {
  const message: unknown = JSON.parse(window.panelInbox);
  window.panelInbox = "";
  return new Promise((resolve) => {
    const started = performance.now();
    window.postMessage(message, "*");
    const drawn = (): void => resolve(performance.now() - started);
    const afterFrame = (): void => void requestAnimationFrame(drawn);
    addEventListener("message", () => requestAnimationFrame(afterFrame), {
      once: true,
    });
  });
}

declare global {
  interface Window {
    panelSent: PanelMessage[];
    panelInbox: string;
  }
}

/** Runs in the page before its scripts. Keeps the state over a reload, as VS Code does. */
function stubVsCode(): void {
  window.panelSent = [];
  window.panelInbox = "";
  Object.assign(window, {
    acquireVsCodeApi: () => ({
      postMessage: (message: PanelMessage) => window.panelSent.push(message),
      getState: (): unknown => JSON.parse(sessionStorage.getItem("state") ?? "null") ?? undefined,
      setState: (state: unknown) => sessionStorage.setItem("state", JSON.stringify(state)),
    }),
  });
}

/** Sets the theme as VS Code does: variables on the root's style, the kind as the body's class, before our script. */
function applyTheme({ bodyClass, variables }: (typeof panelThemes)[ThemeName]): void {
  const apply = (): boolean => {
    if (!document.body) return false;
    const { style } = document.documentElement;
    for (const name of [...style]) style.removeProperty(name);
    for (const [name, value] of Object.entries(variables)) style.setProperty(name, value);
    document.body.className = bodyClass;
    return true;
  };
  if (apply()) return;
  const observer = new MutationObserver(() => {
    if (apply()) observer.disconnect();
  });
  observer.observe(document, { childList: true, subtree: true });
}
