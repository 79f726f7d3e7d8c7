// Plotly on elements that stay: points are added, nothing is built anew, so zoom and hover survive every update.

import { el, selectBox } from "./dom.js";
import { address } from "./store.js";
import { thinned } from "./thinning.js";

/** A curve of more points has no marker on each: they would cover each other, and each is an element of the page. */
const MOST_MARKERS = 40;
/** One of more points is drawn finer. */
const MOST_POINTS_OF_BOLD_LINE = 400;

/** A server that was not there is asked again after so long. */
const LOADED_AGAIN_AFTER = 2000;

let loading = null;

/** Plotly, from this server's own copy; loaded when the first chart is about to be drawn. */
export function plotly() {
  loading ??= new Promise(load);
  return loading;
}

function load(loaded) {
  const script = el("script", { src: address("plotly.js").href });
  script.onload = () => loaded(window.Plotly);
  script.onerror = () => {
    script.remove();
    setTimeout(load, LOADED_AGAIN_AFTER, loaded);
  };
  document.head.append(script);
}

export const PLOT_OPTIONS = {
  displaylogo: false, responsive: true, displayModeBar: "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], toImageButtonOptions: { format: "png", scale: 2 },
};

export class Chart {
  /** `definition` comes from explorer/figures.py. `onPick(x)` is told when a point is clicked. */
  constructor(definition, { onPick = null } = {}) {
    this.definition = definition;
    this.measure = definition.measures[0] ?? null;
    this.plot = el("div.sx-plot");
    this.marker = el("div.sx-marker", { hidden: true });
    this.empty = el("div.sx-plot-empty", { text: "No points yet" });
    const head = el("div.sx-row.sx-between", {}, el("strong", { text: definition.title }));
    if (this.measure) head.append(this._measures());
    this.root = el("figure.sx-chart", { "data-chart": definition.name },
      el("figcaption", {}, head, el("span.sx-help", { text: definition.help })),
      el("div.sx-plot-frame", {}, this.plot, this.marker, this.empty));
    this.onPick = onPick;
    this.waiting = null;
    this.markedAt = null;
    // In a hidden view nothing is drawn; when it is seen again, what came meanwhile is.
    new ResizeObserver(() => this.isDue && this.root.offsetParent && this._draw()).observe(this.root);
  }

  _measures() {
    this.choice = selectBox(`Measure: ${this.definition.title}`, choicesOf(this.definition.measures), this.measure.key, (key) => {
      this.measure = this.definition.measures.find((measure) => measure.key === key);
      if (this.points) this.fill(this.points);
    });
    this.choice.classList.add("sx-measure");
    return this.choice;
  }

  // Some data do not allow every measure (parts that nobody marked): only those with points are offered.
  _offer() {
    const { measures } = this.definition;
    const offered = measures.filter((measure) => this._columns(measure).some(hasPoints));
    const keys = offered.map(({ key }) => key).join();
    if (!keys || keys === this.offered) return;
    this.offered = keys;
    if (!offered.includes(this.measure)) [this.measure] = offered;
    this.choice.fill(choicesOf(offered), this.measure.key);
  }

  _columns(measure) {
    return this.definition.curves.map(({ value, source }) => this.points(value.replace("{measure}", measure?.key), source));
  }

  /** `points(value, source)` gives {x, y} of one curve. Drawn once per frame at most. */
  fill(points) {
    this.points = points;
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this._draw();
    });
  }

  async _draw() {
    this.isDue = !this.root.offsetParent;
    if (this.isDue) return;
    if (this.measure) this._offer();
    const columns = this._columns(this.measure);
    const counts = columns.map(({ y }) => y.reduce((sum, value) => sum + isThere(value), 0));
    const drawn = counts.map(Boolean);
    this.empty.hidden = drawn.includes(true);
    if (!this.empty.hidden && !this.drawn) return;
    const Plotly = await plotly();
    if (!this.root.isConnected) return;
    const { figure } = this.definition;
    this.range = this._zoomedTo();
    const shown = thinned(columns, this.range);
    this.isThinned = shown !== columns;
    const traces = figure.data.map((trace, at) => ({
      ...trace, ...shown[at], visible: drawn[at],
      mode: counts[at] > MOST_MARKERS ? "lines" : trace.mode, connectgaps: true, // not every epoch is evaluated
      line: counts[at] > MOST_POINTS_OF_BOLD_LINE ? { ...trace.line, width: 1 } : trace.line,
    }));
    await Plotly.react(this.plot, traces, { ...figure.layout, ...themeColours(figure.layout, this.measure?.unit) }, PLOT_OPTIONS);
    if (!this.drawn) {
      this.drawn = true;
      followSize(this.plot);
      this.plot.on("plotly_afterplot", () => this._placeMarker());
      this.plot.on("plotly_relayout", () => this._followZoom());
      if (this.onPick) this.plot.on("plotly_click", (event) => this.onPick(event.points[0].x));
    }
    this._placeMarker();
  }

  _zoomedTo() {
    const axis = this.plot._fullLayout?.xaxis;
    return axis && !axis.autorange ? axis.range.map(Number) : null;
  }

  /** Of a long run, a part looked at closely shows every point that it has room for. */
  _followZoom() {
    if (this.isThinned && String(this._zoomedTo()) !== String(this.range)) this._draw();
  }

  /** A line at one epoch. It is an element of its own: moving it costs nothing, drawing the figure anew would. */
  mark(x) {
    this.markedAt = x;
    this._placeMarker();
  }

  _placeMarker() {
    const axis = this.plot._fullLayout?.xaxis;
    this.marker.hidden = this.markedAt === null || !axis;
    if (this.marker.hidden) return;
    const at = axis.l2p(this.markedAt);
    this.marker.hidden = !(at >= -1 && at <= axis._length + 1);
    this.marker.style.transform = `translateX(${axis._offset + at}px)`;
    const plotted = this.plot._fullLayout._size;
    this.marker.style.top = `${plotted.t}px`;
    this.marker.style.height = `${plotted.h}px`;
  }

  /** Let go of what Plotly keeps. */
  remove() {
    if (this.drawn) window.Plotly?.purge(this.plot);
    this.root.remove();
  }

  repaint() {
    if (this.drawn && this.points) this._draw();
  }
}

const choicesOf = (measures) => measures.map(({ key, name }) => [key, name]);

const isThere = (value) => value !== null && value !== undefined;
const hasPoints = ({ y }) => y.some(isThere);

/** A figure drawn while its tab is hidden has no width to go by, and a hidden one hears of no change: both fit when seen. */
export function followSize(plot) {
  new ResizeObserver(() => plot.offsetParent && window.Plotly.Plots.resize(plot)).observe(plot.parentElement);
}

// The page knows light from dark; a figure is drawn in the page's own colours, its axis named after the measure shown.
export function themeColours(layout, unit) {
  const style = getComputedStyle(document.body);
  const ink = style.getPropertyValue("--body-text-color").trim() || "#333";
  const grid = style.getPropertyValue("--sx-grid").trim() || "#ddd";
  const axis = (own) => ({ ...own, gridcolor: grid, linecolor: grid, tickcolor: grid, color: ink });
  const colours = {
    font: { family: style.fontFamily, size: 12, color: ink },
    xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
    hoverlabel: { bgcolor: style.getPropertyValue("--background-fill-primary").trim() || "#fff", font: { color: ink } },
  };
  if (unit) colours.yaxis.title = { ...layout.yaxis.title, text: unit };
  // Its own round numbers: Plotly would write what it has beside the other axis's ticks, 1.01 and 2.01.
  if (layout.yaxis2) colours.yaxis2 = { ...axis(layout.yaxis2), showgrid: false, tickmode: "auto" };
  return colours;
}

const repainted = new Set();
let watching = null;

/** Charts that follow the page from light to dark. */
export function followTheme(chart) {
  repainted.add(chart);
  watching ??= new MutationObserver(() => {
    for (const known of repainted) {
      if (known.root.isConnected) known.repaint();
      else repainted.delete(known);
    }
  });
  watching.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  return chart;
}

