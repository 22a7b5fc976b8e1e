import path from "node:path";
import { readdir, readFile } from "node:fs/promises";
import type { Locator } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Report } from "../../engine/protocol/report.js";
import { openWorkbench, sampleFolder, type Workbench } from "./journeyWorkbench.js";

const themes = [
  { name: "Light Modern", shot: "light" },
  { name: "Dark Modern", shot: "dark" },
  { name: "Dark High Contrast", shot: "high-contrast" },
];

describe("a person looks for the bug in a port", () => {
  let workbench: Workbench;
  let report: Report;

  beforeAll(async () => {
    workbench = await openWorkbench(sampleFolder);
  }, 90_000);
  afterAll(() => workbench?.close());

  it("runs a run file from the palette and is told the result", { timeout: 90_000 }, async () => {
    const { page, command } = workbench;
    await command("HSTU Parity: Run Parity");
    const choice = page.locator(".quick-input-list .monaco-list-row", {
      hasText: "silent-bug",
    });
    await choice.first().click();
    await page.locator(".notification-toast", { hasText: "✗" }).waitFor({ timeout: 60_000 });
    const status = page.locator("#hstu-parity\\.hstu-parity\\.hstuParity\\.verdict");
    await status.filter({ hasText: "✗ Parity: fail" }).waitFor();
    const spoken = await status.locator("[aria-label]").first().getAttribute("aria-label");
    expect(spoken).toContain("HSTU Parity: fail");
    report = await writtenReport(workbench);
    expect(report.verdict).toBe("fail");
    await workbench.screenshot("run-told");
    await command("Notifications: Clear All Notifications");
  });

  it("sees a squiggle on the guilty line and reads its hover", { timeout: 60_000 }, async () => {
    const { page } = workbench;
    const origin = firstOrigin(report);
    await workbench.openFile(path.basename(origin.site.file));
    const line = await workbench.goToLine(origin.site.line);
    await page.locator(".monaco-editor.focused .squiggly-error").first().waitFor();
    const hover = await hoverOver(workbench, line);
    await hover.filter({ hasText: "This declaration makes the difference" }).waitFor();
    await hover.filter({ hasText: "introduced" }).waitFor();
  });

  it("follows the hover's link into the layer diff", { timeout: 60_000 }, async () => {
    const { page } = workbench;
    const link = page.locator(".monaco-hover:visible a", {
      hasText: "Open the layer diff here",
    });
    await link.first().click();
    const panel = workbench.webview();
    await panel.locator('[role="treeitem"]').first().waitFor();
    expect(await panel.locator('[role="treeitem"]').count()).toBeGreaterThan(2);
    await panel.locator('[role="treeitem"][aria-selected="true"]').first().waitFor();
    const chart = panel.locator(".uplot canvas").first();
    await chart.waitFor();
    const drawn = await chart.evaluate((canvas: HTMLCanvasElement) => {
      const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
      return data.some((value, index) => index % 4 === 3 && value > 0);
    });
    expect(drawn, "the chart's canvas has something on it").toBe(true);
  });

  it("goes from the panel to the source line", { timeout: 60_000 }, async () => {
    const { page } = workbench;
    const panel = workbench.webview();
    const link = panel.locator("button.link", { hasText: /\.py:\d+/ }).first();
    const text = ((await link.textContent()) ?? "").trim();
    const [, file, line] = /([^/\s]+\.py):(\d+)/.exec(text) ?? [];
    await link.click();
    await page.locator(`.monaco-editor[data-uri$="/${file}"] .view-line`).first().waitFor();
    await page
      .locator(".line-numbers.active-line-number")
      .filter({ hasText: new RegExp(`^${line}$`) })
      .first()
      .waitFor();
  });

  it("reads panel and hover in every kind of theme", { timeout: 120_000 }, async () => {
    const { page } = workbench;
    const origin = firstOrigin(report);
    for (const { name, shot } of themes) {
      await workbench.setTheme(name);
      await workbench.openFile(path.basename(origin.site.file));
      const line = await workbench.goToLine(origin.usedAt?.line ?? origin.site.line);
      const hover = await hoverOver(workbench, line);
      await hover.filter({ hasText: "instance" }).waitFor();
      await workbench.screenshot(`hover-${shot}`);
      await page.keyboard.press("Escape");
      await workbench.screenshot(`panel-${shot}`);
    }
  });

  it("finds report, panel and findings again after a reload", { timeout: 90_000 }, async () => {
    const { page } = workbench;
    await page.reload();
    const status = page.locator("#hstu-parity\\.hstu-parity\\.hstuParity\\.verdict");
    await status.filter({ hasText: "✗ Parity: fail" }).waitFor();
    await workbench.webview().locator('[role="treeitem"]').first().waitFor();
    const origin = firstOrigin(report);
    await workbench.openFile(path.basename(origin.site.file));
    await workbench.goToLine(origin.site.line);
    await page.locator(".monaco-editor.focused .squiggly-error").first().waitFor();
  });
});

describe("a folder that is not trusted", () => {
  it("runs nothing and says why", { timeout: 120_000 }, async () => {
    const workbench = await openWorkbench(sampleFolder, {
      workspaceTrust: true,
      settings: { "security.workspace.trust.startupPrompt": "never" },
    });
    try {
      await workbench.command("HSTU Parity: Run Parity");
      await workbench.page
        .locator(".notification-toast", {
          hasText: "In Restricted Mode nothing is run",
        })
        .waitFor();
    } finally {
      await workbench.close();
    }
  });
});

/** A hover needs a mouse that moves, over text that is in view: the beginning of the line is. */
async function hoverOver({ page }: Workbench, line: Locator): Promise<Locator> {
  const words = line.locator("span > span").filter({ hasText: /\S/ });
  const hover = page.locator(".monaco-hover:visible");
  for (let attempt = 0; ; attempt++) {
    const box = await words.first().boundingBox();
    if (!box) throw new Error("the line is not in view");
    await page.mouse.move(box.x + 4, box.y - 60);
    await page.mouse.move(box.x + box.width - 6, box.y + box.height / 2, { steps: 8 });
    try {
      await hover.first().waitFor({ timeout: 4000 });
      return hover;
    } catch (error) {
      // The editor may still be laying itself out under the mouse.
      if (attempt === 4) throw error;
    }
  }
}

function firstOrigin(report: Report): Report["pairs"][number]["origins"][number] {
  const origin = report.pairs.flatMap((pair) => pair.origins)[0];
  if (!origin) throw new Error("the report has no origin");
  return origin;
}

/** The report that the engine wrote into the workspace's storage. */
async function writtenReport({ profile }: Workbench): Promise<Report> {
  const names = await readdir(profile.dir, { recursive: true });
  const name = names.find((file) => file.endsWith("silent-bug.parity-report.json"));
  if (name === undefined) throw new Error("no report was written");
  return JSON.parse(await readFile(path.join(profile.dir, name), "utf8")) as Report;
}
