import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, FrameLocator, Locator, Page } from "playwright-core";
import { openBrowser, workbenchUrl } from "../support/codeWeb/browser.js";
import { findCodeWeb } from "../support/codeWeb/installation.js";
import { makeProfile, type Profile } from "../support/codeWeb/profile.js";
import { startServer, type CodeWebServer, type ServerOptions } from "../support/codeWeb/server.js";

/** A workbench as a person sees it: VS Code in a browser, the extension installed, a folder open. */
export interface Workbench {
  readonly page: Page;
  readonly profile: Profile;
  /** Runs a command from the palette by its title. */
  command(title: string): Promise<void>;
  openFile(name: string): Promise<void>;
  /** Goes to a 1-based line and gives the element that shows it. */
  goToLine(line: number): Promise<Locator>;
  /** The document inside a webview, which lies two frames deep. */
  webview(): FrameLocator;
  setTheme(name: string): Promise<void>;
  screenshot(name: string): Promise<void>;
  close(): Promise<void>;
}

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
export const sampleFolder =
  process.env["HSTU_PARITY_TEST_FOLDER"] ?? path.join(root, "samples/hstu");

/** Where screenshots go: a git-ignored folder, or the one that the environment names. */
const shots = process.env["HSTU_PARITY_SHOTS"] ?? path.join(root, "test-results");

export async function openWorkbench(
  folder: string,
  options: ServerOptions & {
    readonly settings?: Readonly<Record<string, unknown>>;
  } = {},
): Promise<Workbench> {
  const codeWeb = findCodeWeb(root);
  if (!codeWeb) {
    throw new Error("VS Code's web server is not installed: test/support/codeWeb/install.sh");
  }
  const profile = makeProfile({
    "workbench.colorTheme": "Default Dark Modern",
    ...options.settings,
  });
  const extension = process.env["HSTU_PARITY_EXTENSION"] ?? root;
  symlinkSync(extension, path.join(profile.extensionsDir, "hstu-parity.hstu-parity-0.1.0"));
  let server: CodeWebServer | undefined;
  let browser: Browser | undefined;
  const close = async (): Promise<void> => {
    await browser?.close();
    await server?.stop();
    profile.remove();
  };
  try {
    server = await startServer(codeWeb, profile, options);
    browser = await openBrowser(codeWeb);
    const page = await browser.newPage({
      viewport: { width: 1500, height: 900 },
    });
    page.setDefaultTimeout(30_000);
    await page.goto(workbenchUrl(server.port, folder));
    await page.locator(".explorer-folders-view .monaco-list-row").first().waitFor();
    return { ...driver(page), page, profile, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function driver(page: Page): Omit<Workbench, "page" | "profile" | "close"> {
  const input = page.locator(".quick-input-widget input.input").first();
  /** Anything that takes the focus meanwhile closes the input: then it is opened again. */
  const openInput = async (key: string, text: string): Promise<void> => {
    for (let attempt = 0; ; attempt++) {
      await page.keyboard.press(key);
      try {
        await input.fill(text, { timeout: 3000 });
        return;
      } catch (error) {
        if (attempt === 4) throw error;
        await page.keyboard.press("Escape");
      }
    }
  };
  return {
    command: async (title) => {
      await openInput("F1", `>${title}`);
      const row = page.locator(".quick-input-list .monaco-list-row", { hasText: title }).first();
      // The palette lists what was contributed when it opened: type again until the command is in.
      for (let attempt = 0; ; attempt++) {
        await input.fill(`>${title}`);
        try {
          await row.waitFor({ timeout: 1500 });
          break;
        } catch (error) {
          if (attempt === 15) throw error;
          await input.fill(">");
        }
      }
      await row.click();
    },
    openFile: async (name) => {
      await openInput("Control+P", name);
      await page.locator(".quick-input-list .monaco-list-row", { hasText: name }).first().waitFor();
      await page.keyboard.press("Enter");
      await page.locator(`.monaco-editor[data-uri$="/${name}"] .view-line`).first().waitFor();
    },
    goToLine: async (line) => {
      await openInput("Control+G", `:${line}`);
      await page.keyboard.press("Enter");
      await input.waitFor({ state: "hidden" });
      const number = page.locator(".monaco-editor.focused .line-numbers.active-line-number");
      await number.filter({ hasText: new RegExp(`^${line}$`) }).waitFor();
      const box = await number.boundingBox();
      if (!box) throw new Error(`line ${line} is not in view`);
      // Lines of the view stand in the order in which they were drawn: the right one is found by its height.
      const lines = page.locator(".monaco-editor.focused .view-line");
      for (let i = 0; i < (await lines.count()); i++) {
        const place = await lines.nth(i).boundingBox();
        if (place && Math.abs(place.y - box.y) < 4) return lines.nth(i);
      }
      throw new Error(`line ${line} has no text in view`);
    },
    webview: () => page.frameLocator("iframe.webview.ready").frameLocator("#active-frame"),
    setTheme: async (name) => {
      const rows = page.locator(".quick-input-list .monaco-list-row");
      await openInput("F1", ">Preferences: Color Theme");
      await rows.filter({ hasText: "Preferences: Color Theme" }).first().click();
      // The list of themes has taken the palette's place once it shows themes.
      await rows.filter({ hasText: "Modern" }).first().waitFor();
      await input.fill(name);
      await rows.filter({ hasText: name }).first().waitFor();
      await page.keyboard.press("Enter");
      await input.waitFor({ state: "hidden" });
    },
    screenshot: async (name) => {
      mkdirSync(shots, { recursive: true });
      await page.screenshot({ path: path.join(shots, `${name}.png`) });
    },
  };
}

/** A folder in which a person has not yet said that it can be trusted. */
export function writeFiles(folder: string, files: Readonly<Record<string, string>>): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
}
