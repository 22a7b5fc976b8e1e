import { describe, expect, test } from "vitest";
import { exampleReport } from "../support/exampleReport.js";
import { activeLine, detailTitle, open, openWith } from "./panelSession.js";

describe("a failed comparison", () => {
  test("says its verdict, what ran, the blind own check and the proof", async () => {
    const { page } = await openWith(exampleReport());
    expect(await page.locator(".verdict").innerText()).toMatch(/✗\s*Fail/);
    expect(await page.locator("h1").innerText()).toContain("never come from the reference");
    const header = await page.locator(".summary").innerText();
    expect(header).toContain("silent-bug.parity.json · torch → tripy · coverage 97 %");
    expect(header).toContain("4 of 10 parameters never came from the reference.");
    expect(header).toContain("own check (atol 0.03) passes: it does not notice.");
    expect(header).toContain("With 2 lines (4 tensors) put right the output is 4.20e−8 off");
  });

  test("opens at the first divergence, with both source lines", async () => {
    const panel = await openWith(exampleReport());
    expect(await activeLine(panel)).toBe("◆ forward.o 0.633 0.633 exact tripy_hstu_dense.py:159");
    const detail = await panel.page.locator(".detail").innerText();
    expect(detail).toContain("hstu.py:207");
    expect(detail).toContain("return self._o(o_input) + x");
    expect(detail).toContain("return o_input @ self._output_weight + self._output_bias + x");
    expect(detail).toContain("self._output_weight = tp.ones(");
  });

  test("lists each guilty line once, with its instances and the reference's line", async () => {
    const { page } = await openWith(exampleReport());
    const origins = page.locator(".origin");
    expect(await origins.count()).toBe(2);
    const first = await origins.first().innerText();
    expect(first).toContain("tripy_hstu_dense.py:97");
    expect(first).toContain("2 instances");
    expect(first).toContain("hstu.py:171");
  });

  test("draws every verdict by a shape of its own", async () => {
    const report = exampleReport();
    const verdicts = [
      ["match", "✓"],
      ["origin", "◆"],
      ["carrier", "→"],
      ["amplifier", "▲"],
      ["masking", "▽"],
      ["expected", "≈"],
      ["paddingOnly", "▒"],
      ["unknown", "?"],
    ] as const;
    const rows = report.pairs[0]?.rows ?? [];
    verdicts.forEach(([verdict], index) => {
      const row = rows[index];
      if (row) Object.assign(row, { verdict, stage: "only", name: `row-${verdict}` });
    });
    const { page } = await openWith(report, { height: 1600 });
    for (const [verdict, glyph] of verdicts) {
      const line = page.locator(".tree-line.row", {
        hasText: `row-${verdict}`,
      });
      expect(await line.locator(".glyph").innerText()).toBe(glyph);
    }
  });

  test("shows the metrics with formulas, the worst elements and the reason of an undefined one", async () => {
    const panel = await openWith(exampleReport());
    const { page } = panel;
    const relL2 = page.locator('[data-metric="relL2"]');
    expect(await relL2.locator("dd").innerText()).toBe("0.633");
    expect(await relL2.locator("dd").getAttribute("title")).toMatch(/^0\.6326\d{8,}/);
    expect(await relL2.locator("dt").getAttribute("title")).toContain("‖d‖₂");
    expect(await page.locator("table.numbers").first().locator("tbody tr").count()).toBe(4);
    await panel.send({
      type: "select",
      address: { candidate: "tripy", row: "r1" },
    });
    const undefinedOne = page.locator('[data-metric="relL2"] dd');
    expect(await undefinedOne.innerText()).toBe("—");
    expect(await undefinedOne.getAttribute("title")).toContain("boolean");
  });

  test("lists the parameters that never came from the reference where they are declared", async () => {
    const panel = await openWith(exampleReport());
    const { page } = panel;
    await page.locator("#tab-parameters").click();
    const rows = page.locator('[data-category="notFromReference"] tbody tr');
    expect(await rows.count()).toBe(4);
    await rows.first().getByText("tripy_hstu_dense.py:97").click();
    expect(await panel.sent()).toContainEqual({
      type: "openSite",
      file: "tripy_hstu_dense.py",
      line: 97,
      beside: false,
    });
  });

  test("draws the curve with the theme's colours, and again when the theme changes", async () => {
    const panel = await openWith(exampleReport(), { theme: "dark" });
    const colours = (): Promise<string> =>
      panel.page.evaluate(() => {
        const canvas = document.querySelector<HTMLCanvasElement>(".curve canvas");
        const data = canvas?.getContext("2d")?.getImageData(0, 0, canvas.width, canvas.height).data;
        const seen = new Set<string>();
        for (let i = 0; data && i < data.length; i += 4) {
          if (data[i + 3] === 255) seen.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
        }
        return [...seen].join(" ");
      });
    expect(await colours()).toContain("241,76,76");
    await panel.setTheme("light");
    const light = await colours();
    expect(light).toContain("229,20,0");
    expect(light).not.toContain("241,76,76");
  });

  test("a click on the curve selects the row under it", async () => {
    const panel = await openWith(exampleReport());
    const box = await panel.page.locator(".curve .u-over").boundingBox();
    if (!box) throw new Error("the curve has no place");
    // 45 rows, of which one has no metrics: the last of 44 x positions is the output.
    await panel.page.mouse.click(box.x + box.width - 8, box.y + 60);
    expect(await detailTitle(panel)).toBe("current · forward.current");
  });
});

describe("keyboard", () => {
  test("arrows walk and fold, and the tree is one tab stop", async () => {
    const panel = await openWith(exampleReport());
    const tree = panel.page.getByRole("tree");
    await tree.press("Home");
    expect(await activeLine(panel)).toContain("preprocess");
    await tree.press("ArrowLeft");
    expect(await panel.page.locator(".tree-line").first().getAttribute("aria-expanded")).toBe(
      "false",
    );
    expect(await panel.page.locator(".tree-line.row", { hasText: "valid_mask" }).count()).toBe(0);
    await tree.press("ArrowRight");
    await panel.page.locator(".tree-line.row", { hasText: "valid_mask" }).waitFor();
    await tree.press("ArrowRight");
    expect(await activeLine(panel)).toContain("forward.user_embeddings");
    await tree.press("ArrowLeft");
    expect(await activeLine(panel)).toContain("preprocess");
    expect(
      await tree.evaluate((element) => element.querySelectorAll("[tabindex], button").length),
    ).toBe(0);
    const active = await tree.getAttribute("aria-activedescendant");
    expect(await panel.page.locator(`#${active}`).getAttribute("aria-selected")).toBe("true");
  });

  test("Enter opens the candidate's line and Shift+Enter the reference's", async () => {
    const panel = await openWith(exampleReport());
    const tree = panel.page.getByRole("tree");
    await tree.press("Enter");
    await tree.press("Shift+Enter");
    expect(await panel.sent()).toEqual([
      {
        type: "openSite",
        file: "tripy_hstu_dense.py",
        line: 159,
        column: 9,
        beside: false,
      },
      {
        type: "openSite",
        file: "hstu.py",
        line: 207,
        column: 9,
        beside: false,
      },
    ]);
  });

  test("N and P go round the origins and tell the extension", async () => {
    const panel = await openWith(exampleReport());
    const titles: string[] = [];
    for (const key of ["n", "n", "p"]) {
      await panel.page.keyboard.press(key);
      titles.push(await detailTitle(panel));
    }
    expect(titles).toEqual([
      "layers.1.output · forward.o",
      "layers.0.output · forward.o",
      "layers.1.output · forward.o",
    ]);
    expect(await panel.sent()).toContainEqual({
      type: "selectionChanged",
      address: { candidate: "tripy", row: "r40" },
    });
    expect(await panel.page.locator(".spoken").innerText()).toContain("origin 2 of 2");
  });

  test("/ goes to the filter, which narrows the list, and Escape clears it", async () => {
    const panel = await openWith(exampleReport());
    await panel.page.keyboard.press("/");
    await panel.page.keyboard.type("qk_attn layers.1");
    const names = await panel.page.locator(".tree-line.row").allInnerTexts();
    expect(names.length).toBe(4);
    expect(names.every((name) => name.includes("qk_attn"))).toBe(true);
    await panel.page.keyboard.press("Escape");
    expect(await panel.page.locator(".tree-line.row").count()).toBeGreaterThan(10);
    expect(await panel.page.evaluate(() => document.activeElement?.className)).toBe("tree");
  });

  test("“origins only” leaves the origins", async () => {
    const panel = await openWith(exampleReport());
    await panel.page.getByText("Origins only").click();
    expect(await panel.page.locator(".tree-line.row").count()).toBe(2);
  });
});

describe("selection", () => {
  test("survives a reload, with the fold state and the filter", async () => {
    const panel = await openWith(exampleReport());
    await panel.page.keyboard.press("n");
    await panel.page.getByText("Origins only").click();
    await panel.page.reload();
    await panel.send({ type: "showReport", report: exampleReport() });
    expect(await detailTitle(panel)).toBe("layers.1.output · forward.o");
    expect(await panel.page.locator(".tree-line.row").count()).toBe(2);
  });

  test("stays with the op when another candidate is chosen", async () => {
    const panel = await openWith(exampleReport({ dense: true }));
    expect(await activeLine(panel)).toContain("◆ forward.o");
    await panel.page.getByRole("radio", { name: "dense" }).click();
    expect(await activeLine(panel)).toBe("✓ forward.o exact exact exact tripy_hstu_dense.py:159");
  });

  test("an address that comes with the report is shown", async () => {
    const panel = await open();
    await panel.send({
      type: "showReport",
      report: exampleReport(),
      address: { origin: "o1" },
    });
    expect(await panel.page.locator(".origin.selected").innerText()).toContain("_output_bias");
  });
});
