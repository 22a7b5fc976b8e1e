import uPlot from "uplot";
import { formatDifference } from "../ui/format.js";
import { readThemeColours, type ThemeColours } from "../ui/theme.js";
import type { CurveData } from "./curveData.js";
import { wordsOfRowVerdict } from "./words.js";

const height = 164;
const firstCurve = 3;
const valueAxisWidth = 52;

/** The error curve over depth. Draws on a canvas, so it holds colours: `redraw` reads them again. */
export class ErrorCurve {
  readonly #host: HTMLElement;
  readonly #tooltip: HTMLElement;
  readonly #onSelect: (rowId: string) => void;
  readonly #resize: ResizeObserver;
  #plot: uPlot | undefined;
  #data: CurveData | undefined;
  #labels: readonly string[] = [];
  #selected: number | undefined;

  constructor(host: HTMLElement, onSelect: (rowId: string) => void) {
    this.#host = host;
    this.#onSelect = onSelect;
    this.#tooltip = document.createElement("div");
    this.#tooltip.className = "curve-tooltip";
    this.#tooltip.hidden = true;
    this.#resize = new ResizeObserver(() => this.#fit());
    this.#resize.observe(host);
  }

  /** `labels` name the candidates, in the order of the series. */
  show(data: CurveData, labels: readonly string[]): void {
    this.#data = data;
    this.#labels = labels;
    this.redraw();
  }

  select(rowId: string | undefined): void {
    const x =
      rowId === undefined ? -1 : (this.#data?.rows.findIndex((row) => row?.id === rowId) ?? -1);
    this.#selected = x < 0 ? undefined : x;
    this.#plot?.redraw(false);
  }

  /** Draws anew with the theme's present colours. */
  redraw(): void {
    if (!this.#data) return;
    this.#plot?.destroy();
    const { series, gate, noise, keys } = this.#data;
    const width = Math.max(this.#host.clientWidth, 80);
    this.#plot = new uPlot(
      this.#options(this.#data, readThemeColours(), width),
      [keys.map((_, x) => x), gate, noise, ...series.map(({ values }) => values)],
      this.#host,
    );
    this.#plot.over.append(this.#tooltip);
    this.#plot.over.addEventListener("click", () => {
      const row = this.#data?.rows[this.#plot?.cursor.idx ?? -1];
      if (row) this.#onSelect(row.id);
    });
  }

  dispose(): void {
    this.#resize.disconnect();
    this.#plot?.destroy();
  }

  #fit(): void {
    const width = Math.max(this.#host.clientWidth, 80);
    if (this.#plot && this.#plot.width !== width) this.#plot.setSize({ width, height });
  }

  #options(data: CurveData, colours: ThemeColours, width: number): uPlot.Options {
    const bottom = data.exactLane - 0.6;
    const last = Math.max(data.keys.length - 1, 0);
    const axis = {
      stroke: colours.muted,
      font: colours.font,
    } satisfies uPlot.Axis;
    return {
      width,
      height,
      padding: [8, 12, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        points: {
          size: 7,
          // The gate and the noise floor are background: only the curves have a point under the cursor.
          show: (plot, series) => {
            const point = document.createElement("div");
            point.hidden = series < firstCurve;
            const stroke = plot.series[series]?.stroke;
            // uPlot turns a colour into a function that gives it.
            const colour = typeof stroke === "function" ? stroke(plot, series) : stroke;
            if (typeof colour === "string") point.style.background = colour;
            return point;
          },
        },
        drag: { x: true, y: false, dist: 6 },
      },
      scales: {
        x: {
          time: false,
          range: (_, from, to) => (last === 0 ? [-1, 1] : [from - 0.5, to + 0.5]),
        },
        y: { range: [bottom, data.top + 0.2] },
      },
      axes: [
        {
          ...axis,
          size: 22,
          gap: 4,
          ticks: { show: false },
          grid: { show: false },
          ...layerAxis(data),
        },
        {
          ...axis,
          size: valueAxisWidth,
          gap: 4,
          ticks: { show: false },
          grid: { stroke: faint(colours.foreground, 10), width: 1 },
          splits: () => decades(data),
          values: (_, splits) =>
            splits.map((y) => (y === data.exactLane ? "exact" : `1e${y}`.replace("-", "−"))),
        },
      ],
      series: [
        {},
        {
          stroke: faint(colours.gate, 70),
          width: 1,
          fill: faint(colours.gate, 14),
          fillTo: () => bottom,
          points: { show: false },
        },
        {
          stroke: colours.noise,
          width: 1,
          dash: [1, 3],
          points: { show: false },
        },
        ...data.series.map(({ chosen }, index): uPlot.Series => {
          const stroke = colours.series[index % colours.series.length] ?? colours.foreground;
          return {
            stroke,
            width: chosen ? 1.5 : 1,
            ...(!chosen && { dash: [4, 3] }),
            points: { size: 4, fill: stroke, stroke },
          };
        }),
      ],
      hooks: {
        drawClear: [(plot) => drawLayers(plot, data, colours)],
        draw: [(plot) => this.#drawMarks(plot, data, colours)],
        setCursor: [(plot) => this.#moveTooltip(plot, data)],
      },
    };
  }

  #drawMarks(plot: uPlot, data: CurveData, colours: ThemeColours): void {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    if (this.#selected !== undefined) {
      const x = Math.round(plot.valToPos(this.#selected, "x", true));
      ctx.strokeStyle = colours.focus;
      ctx.lineWidth = ratio;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    const values = data.series.find(({ chosen }) => chosen)?.values ?? [];
    ctx.fillStyle = colours.origin;
    ctx.strokeStyle = colours.background;
    ctx.lineWidth = ratio;
    for (const origin of data.origins) {
      const y = values[origin];
      if (y !== null && y !== undefined) {
        diamond(ctx, plot.valToPos(origin, "x", true), plot.valToPos(y, "y", true), 5.5 * ratio);
      }
    }
    ctx.restore();
  }

  #moveTooltip(plot: uPlot, data: CurveData): void {
    const index = plot.cursor.idx ?? -1;
    const row = data.rows[index];
    this.#tooltip.hidden = !row || (plot.cursor.left ?? -1) < 0;
    if (!row) return;
    const words = wordsOfRowVerdict(row.verdict);
    const values = data.series.map(({ values: series }, position) => {
      const y = series[index];
      const text =
        y === null || y === undefined ? "—" : formatDifference(y === data.exactLane ? 0 : 10 ** y);
      return `${this.#labels[position] ?? ""} ${text}`;
    });
    this.#tooltip.textContent = `${words.glyph} ${row.stage} · ${row.name}\n${values.join(" · ")}`;
    const x = plot.valToPos(index, "x");
    const onLeft = x > plot.over.clientWidth / 2;
    this.#tooltip.style.left = onLeft ? "auto" : `${x + 10}px`;
    this.#tooltip.style.right = onLeft ? `${plot.over.clientWidth - x + 10}px` : "auto";
  }
}

function diamond(ctx: CanvasRenderingContext2D, x: number, y: number, radius: number): void {
  ctx.beginPath();
  ctx.moveTo(x, y - radius);
  ctx.lineTo(x + radius, y);
  ctx.lineTo(x, y + radius);
  ctx.lineTo(x - radius, y);
  ctx.closePath();
  ctx.fill();
  ctx.stroke();
}

/** A line before each layer, under the curves. */
function drawLayers(plot: uPlot, data: CurveData, colours: ThemeColours): void {
  const { ctx, bbox } = plot;
  const perPixel = bbox.width / Math.max(data.layers.length, 1);
  if (perPixel < 6) return;
  ctx.save();
  ctx.strokeStyle = faint(colours.foreground, 18);
  ctx.lineWidth = devicePixelRatio;
  for (const { from } of data.layers) {
    const x = Math.round(plot.valToPos(from - 0.5, "x", true));
    if (x <= bbox.left || x >= bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height + 4 * devicePixelRatio);
    ctx.stroke();
  }
  ctx.restore();
}

/** Layer names at the middle of their run, none over another. */
function layerAxis(data: CurveData): Pick<uPlot.Axis, "splits" | "values"> {
  const shown = (plot: uPlot, from: number, to: number): { label: string; x: number }[] => {
    // The plotting area is laid out after its axes, so its width is not known here.
    const pixelsPerX = (plot.width - valueAxisWidth - 12) / Math.max(to - from, 1);
    const widest = Math.max(...data.layers.map((layer) => layer.to - layer.from + 1)) * pixelsPerX;
    let free = -Infinity;
    return data.layers.flatMap((layer) => {
      const left = Math.max(layer.from - 0.5, from);
      const right = Math.min(layer.to + 0.5, to);
      const x = (left + right) / 2;
      const room = (right - left) * pixelsPerX;
      const name = shortLabel(layer.label);
      // Where no layer has room for its own name, every few layers one is named.
      const label = widest < 48 ? name : fitted(name, room * 1.3);
      const half = (label.length * 6) / 2;
      const centre = (x - from) * pixelsPerX;
      const beyond = centre + half > (to - from) * pixelsPerX + 12;
      if (right <= left || label === "" || centre - half < free || beyond) return [];
      free = centre + half + 8;
      return [{ label, x }];
    });
  };
  return {
    splits: (plot, _axis, from, to) => shown(plot, from, to).map(({ x }) => x),
    values: (plot, splits) => {
      const { min = 0, max = 0 } = plot.scales["x"] ?? {};
      const byX = new Map(shown(plot, min, max).map(({ x, label }) => [x, label]));
      return splits.map((x) => byX.get(x) ?? "");
    },
  };
}

/** "_hstu._attention_layers.0" → "attention_layers.0": the last name and what is numbered in it. */
function shortLabel(label: string): string {
  const parts = label.split(/[./]/).filter(Boolean);
  const numbered = /^\d+$/.test(parts.at(-1) ?? "");
  return parts
    .slice(numbered ? -2 : -1)
    .join(".")
    .replace(/^_+/, "");
}

function fitted(label: string, room: number): string {
  const characters = Math.floor(room / 6);
  if (label.length <= characters) return label;
  return characters < 4 ? "" : `${label.slice(0, characters - 1)}…`;
}

function decades({ exactLane, low, top }: CurveData): number[] {
  const step = Math.max(1, Math.ceil((top - low) / 5));
  const splits = [exactLane];
  for (let y = low; y <= top; y++) if (y % step === 0) splits.push(y);
  return splits;
}

function faint(colour: string, percent: number): string {
  return `color-mix(in srgb, ${colour} ${percent}%, transparent)`;
}
