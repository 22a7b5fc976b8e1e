import { cp, mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  openWorkbench,
  root,
  sampleFolder,
  writeFiles,
  type Workbench,
} from "./journeyWorkbench.js";

const python = process.env["HSTU_PARITY_PYTHON"] ?? path.join(root, ".venv/bin/python");

describe("a person runs a script", () => {
  let place: string;
  let workbench: Workbench;

  beforeAll(async () => {
    place = await mkdtemp(path.join(os.tmpdir(), "script-journey-"));
    const folder = path.join(place, "sample");
    await cp(sampleFolder, folder, { recursive: true });
    process.env["HSTU_PARITY_CACHE"] = path.join(place, "cache");
    // A place on this machine is a setting of the machine or the workspace; the browser's user has another machine.
    const settings = JSON.stringify({ "hstuParity.python": python });
    writeFiles(path.join(folder, ".vscode"), { "settings.json": settings });
    workbench = await openWorkbench(folder);
  }, 90_000);
  afterAll(async () => {
    await workbench?.close();
    delete process.env["HSTU_PARITY_CACHE"];
    await rm(place, { recursive: true, force: true });
  });

  it("finds the command in the explorer's menu of a Python file", { timeout: 60_000 }, async () => {
    const { page } = workbench;
    // What an extension contributes is there a moment after the explorer is.
    await workbench.openFile("tripy_hstu_example.py");
    await page.locator(".editor-actions [aria-label*='Run This Script']").first().waitFor();
    const row = page.locator(".explorer-folders-view .monaco-list-row", {
      hasText: "tripy_hstu_example.py",
    });
    await row.first().click({ button: "right" });
    await page.locator(".monaco-menu .action-item", { hasText: "HSTU Parity" }).first().hover();
    await page.locator(".monaco-menu .action-item", { hasText: /^Run This Script$/ }).waitFor();
    await workbench.screenshot("script-menu");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
  });

  it("sees which Pythons there are, and what each lacks", { timeout: 60_000 }, async () => {
    const { page, command } = workbench;
    await command("HSTU Parity: Select Python");
    const rows = page.locator(".quick-input-list .monaco-list-row");
    await rows
      .filter({ hasText: /nvtripy 0\.1/ })
      .first()
      .waitFor();
    await rows.filter({ hasText: "Enter path…" }).waitFor();
    await rows.filter({ hasText: "Choose without the setting" }).waitFor();
    await workbench.screenshot("script-select-python");
    await page.keyboard.press("Escape");
  });

  it("runs the open file and is told the result", { timeout: 90_000 }, async () => {
    const { page, command } = workbench;
    await workbench.openFile("tripy_hstu_example.py");
    await command("HSTU Parity: Run This Script");
    const progress = page.locator(".notification-toast", { hasText: "tripy_hstu_example.py" });
    await progress.filter({ hasText: "Cancel" }).first().waitFor();
    await workbench.screenshot("script-running");
    await page.locator(".notification-toast", { hasText: "✓" }).waitFor({ timeout: 60_000 });
    const status = page.locator("#hstu-parity\\.hstu-parity\\.hstuParity\\.verdict");
    await status.filter({ hasText: "✓ Parity: pass" }).waitFor();
    await workbench.screenshot("script-pass");
    await status.hover();
    const hover = page.locator(".workbench-hover, .monaco-hover", { hasText: "Select Python" });
    await hover.filter({ hasText: "from the settings" }).first().waitFor();
    await workbench.screenshot("script-status");
    await command("Notifications: Clear All Notifications");
  });

  it(
    "gives it arguments, and sees the guilty line and what was printed",
    { timeout: 90_000 },
    async () => {
      const { page, command } = workbench;
      await command("HSTU Parity: Run This Script With Arguments");
      const input = page.locator(".quick-input-widget input.input").first();
      await page.locator(".quick-input-widget", { hasText: "Blanks separate" }).waitFor();
      await input.fill("--port 'silent_bug");
      await page.locator(".quick-input-widget", { hasText: "is not closed" }).waitFor();
      await input.fill("--port silent_bug");
      await page.keyboard.press("Enter");
      await page.locator(".notification-toast", { hasText: "✗" }).waitFor({ timeout: 60_000 });
      await page
        .locator(".notification-toast a", { hasText: "Show Script Output" })
        .first()
        .click();
      await page
        .locator(".part.panel .view-line", { hasText: /exit\scode/ })
        .first()
        .waitFor();
      await workbench.screenshot("script-fail-output");
      await command("Notifications: Clear All Notifications");
      await page.keyboard.press("Control+j");
      await workbench.openFile("tripy_hstu_dense.py");
      await workbench.goToLine(76);
      await page.locator(".monaco-editor.focused .squiggly-error").first().waitFor();
      await command("HSTU Parity: Show Layer Diff");
      await workbench.webview().locator('[role="treeitem"]').first().waitFor();
      const facts = await workbench.webview().locator(".facts").innerText();
      expect(facts).toContain("tripy_hstu_example.py");
      await workbench.screenshot("script-fail-panel");
    },
  );
});
