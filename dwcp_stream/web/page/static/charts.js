// Lines over time by uPlot, in the page's colours; each chart says in words what it shows.

import uPlot from "/static/vendor/uplot/uPlot.esm.js";
import { h } from "/static/dom.js";
import { number } from "/static/format.js";
import { colour } from "/static/theme.js";

const charts = new Set();
const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const width = Math.floor(contentRect.width);
    if (target.plot && width && width !== target.plot.width) target.plot.setSize({ width, height: target.plot.height });
  }
});

/** Draw all charts again in the colours of the theme. */
export function recolour() {
  for (const chart of charts) chart.rebuild();
}

/** Times of an axis: seconds only where they differ. */
function clock(ticks) {
  const seconds = ticks.some((at) => at % 60);
  return ticks.map((at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined, hourCycle: "h23" }));
}

const axis = (more) => ({
  stroke: colour("dim"),
  grid: { stroke: colour("line"), width: 1 },
  ticks: { show: false },
  font: "11px system-ui, sans-serif",
  ...more,
});

/** A chart: series are {label, colour, width, dash, points, fill, step}, bands [[upper, lower, colour]], lines at heights [[value, colour, word]]. */
export class Chart {
  constructor({ title, series, bands = [], heights = [], height = 150, spark = false, floor = null, sync = null, values = number }) {
    Object.assign(this, { title, series, bands, heights, height, spark, floor, sync, values });
    this.box = h("div", { class: "plot" });
    this.node = h("figure", { class: spark ? "spark" : "chart", role: "img", "aria-label": title }, this.box);
    this.data = [[], ...series.map(() => [])];
    charts.add(this);
  }

  update(data, words) {
    this.data = data;
    if (words) this.node.setAttribute("aria-label", `${this.title}: ${words}`);
    if (!this.box.plot) this.rebuild();
    else this.box.plot.setData(data);
    const { plot } = this.box;
    if (plot && !this.spark && plot.cursor.idx == null) plot.setLegend({ idx: data[0].length - 1 });
  }

  rebuild() {
    if (!this.box.isConnected) return;
    this.box.plot?.destroy();
    this.box.plot = new uPlot(this.options(), this.data, this.box);
    sizes.observe(this.box);
  }

  destroy() {
    charts.delete(this);
    sizes.unobserve(this.box);
    this.box.plot?.destroy();
    this.box.plot = null;
  }

  options() {
    const range = (_, low, high) => {
      const marks = this.heights.map(([value]) => value).filter((value) => value <= (high ?? 1) * 1.6 || value === this.heights[0][0]);
      let bottom = Math.min(low ?? 0, this.floor ?? low ?? 0);
      let top = Math.max(high ?? 1, ...marks);
      if (bottom === top) [bottom, top] = bottom === 0 ? [0, 1] : [bottom - Math.abs(bottom) * 0.1, top + Math.abs(top) * 0.1];
      const room = (top - bottom) * 0.08;
      return [this.floor !== null && bottom >= this.floor ? this.floor : bottom - room, top + room];
    };
    return {
      width: Math.max(60, Math.floor(this.box.clientWidth)),
      height: this.height,
      legend: { show: !this.spark, live: true },
      cursor: { show: !this.spark, points: { size: 6 }, drag: { setScale: false }, sync: this.sync ? { key: this.sync } : undefined },
      padding: this.spark ? [2, 0, 2, 0] : [8, 8, 0, 0],
      scales: { x: { time: true }, y: { range } },
      axes: this.spark
        ? [{ show: false }, { show: false }]
        : [axis({ space: 64, size: 26, values: (_, ticks) => clock(ticks) }), axis({ size: 52, space: 34, values: (_, ticks) => ticks.map((tick) => this.values(tick)) })],
      bands: this.bands.map(([upper, lower, name]) => ({ series: [upper, lower], fill: colour(name) })),
      series: [
        { label: "at", value: (_, at) => (at ? new Date(at * 1000).toLocaleTimeString([], { hourCycle: "h23" }) : "–") },
        ...this.series.map((one) => ({
          label: one.label,
          stroke: one.colour ? colour(one.colour) : "transparent",
          width: one.width ?? 1.6,
          dash: one.dash,
          fill: one.fill ? colour(one.fill) : undefined,
          paths: one.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: { show: one.points ?? false, size: 4 },
          spanGaps: one.span ?? false,
          value: (_, value) => this.values(value),
        })),
      ],
      hooks: { drawAxes: [(plot) => this.drawHeights(plot)] },
    };
  }

  drawHeights(plot) {
    const { ctx, bbox } = plot;
    for (const [value, name, word] of this.heights) {
      const y = plot.valToPos(value, "y", true);
      if (y < bbox.top || y > bbox.top + bbox.height) continue;
      ctx.save();
      ctx.strokeStyle = colour(name);
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      if (word) {
        ctx.fillStyle = colour(name);
        ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
        ctx.textAlign = "left";
        ctx.textBaseline = "bottom";
        ctx.fillText(word, bbox.left + 6 * devicePixelRatio, y - 2 * devicePixelRatio);
      }
      ctx.restore();
    }
  }
}
