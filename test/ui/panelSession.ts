import { afterAll, afterEach, beforeAll, expect, vi } from "vitest";
import type { Report } from "../../engine/protocol/report.js";
import {
  startPanelServer,
  type OpenOptions,
  type PanelPage,
  type PanelServer,
} from "./panelPage.js";

// A browser on a machine that does other things as well.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

/** Importing this file gives a test file its browser; every panel that it opens is closed after the test. */
let server: PanelServer;
const opened: PanelPage[] = [];

beforeAll(async () => {
  server = await startPanelServer();
});

afterAll(async () => {
  await server.close();
});

/** Whatever a test does, the browser must have nothing to complain about: no policy violation, no error. */
afterEach(async () => {
  for (const panel of opened.splice(0)) {
    const { complaints } = panel;
    await panel.close();
    expect(complaints).toEqual([]);
  }
});

export async function open(options?: OpenOptions): Promise<PanelPage> {
  const panel = await server.open(options);
  opened.push(panel);
  return panel;
}

export async function openWith(report: Report, options?: OpenOptions): Promise<PanelPage> {
  const panel = await open(options);
  await panel.send({ type: "showReport", report });
  return panel;
}

/** The active line's text, its parts separated by one space. */
export async function activeLine({ page }: PanelPage): Promise<string> {
  const text = await page.locator(".tree-line.active").textContent();
  return (text ?? "").replace(/\s+/g, " ").trim();
}

export async function detailTitle({ page }: PanelPage): Promise<string> {
  return (await page.locator(".detail h2 .text").innerText()).trim();
}
