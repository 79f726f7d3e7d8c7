// Images per class as a plot that scrolls: hundreds of classes stay readable, each with its name.

import { el, selectBox } from "./dom.js";
import { PLOT_OPTIONS, followSize, plotly, themeColours } from "./charts.js";
import { store } from "./store.js";

const ROW_HEIGHT = 20;
const LONGEST_NAME = 26;
const PATTERNS = { "": "sx-plain", "/": "sx-striped", x: "sx-crossed" };
const ORDERS = [["listed", "As listed"], ["most", "Most images"], ["fewest", "Fewest images"], ["name", "By name"]];

export class ClassCounts {
  /** `onPick(label)` is told which class was clicked. */
  constructor({ onPick }) {
    this.onPick = onPick;
    this.order = "listed";
    this.plot = el("div.sx-plot");
    const order = selectBox("Order of the classes", ORDERS, this.order, (value) => {
      this.order = value;
      this._draw();
    });
    order.classList.add("sx-measure");
    this.root = el("figure.sx-chart.sx-counts", { "data-chart": "class-counts" },
      el("figcaption", {}, el("div.sx-row.sx-between", {}, el("strong", { text: "Images per class" }), order),
        el("span.sx-help", { text: "A click on a class shows its images." })),
      (this.legend = el("p.sx-legend-line.sx-counts-legend")),
      el("div.sx-counts-scroll", { tabindex: "0", role: "group", "aria-label": "Images per class, a plot" }, this.plot));
  }

  /** `counts`: for each class the number of images by group. */
  fill(names, counts) {
    this.names = names;
    this.counts = counts;
    this._draw();
  }

  repaint() {
    if (this.names) this._draw();
  }

  async _draw() {
    const Plotly = await plotly();
    if (!this.root.isConnected) return;
    const { names, counts } = this;
    const { figure, groups } = store.setup.counts_chart;
    const total = counts.map((count) => Object.values(count).reduce((sum, value) => sum + value, 0));
    const labels = names.map((_, label) => label);
    if (this.order === "most") labels.sort((a, b) => total[b] - total[a]);
    if (this.order === "fewest") labels.sort((a, b) => total[a] - total[b]);
    if (this.order === "name") labels.sort((a, b) => names[a].localeCompare(names[b], "en", { numeric: true }));
    const place = labels.map((_, at) => at);
    const present = groups.filter(({ group }) => counts.some((count) => count[group]));
    this.legend.replaceChildren(...present.map(({ name, colour, pattern }) => el("span.sx-legend-item", {},
      el(`span.sx-swatch.${PATTERNS[pattern]}`, { style: `--swatch:${colour}`, "aria-hidden": "true" }), name)));
    const traces = groups.map(({ group }, at) => ({
      ...figure.data[at], y: place, x: labels.map((label) => counts[label][group] ?? 0), customdata: labels,
      text: labels.map((label) => names[label]), visible: present.some((one) => one.group === group),
    }));
    // The sum stands at the end of each bar, so that a long plot needs no axis in sight.
    traces.push({ ...figure.data.at(-1), y: place, x: labels.map((label) => total[label]), text: labels.map((label) => ` ${total[label]}`), customdata: labels });
    const theme = themeColours(figure.layout);
    const layout = {
      ...figure.layout, ...theme, font: { ...theme.font, family: getComputedStyle(this.root).fontFamily }, height: ROW_HEIGHT * names.length + figure.layout.margin.t + figure.layout.margin.b,
      yaxis: { ...theme.yaxis, tickcolor: "rgba(0,0,0,0)", tickvals: place, ticktext: labels.map((label) => short(names[label])), range: [names.length - 0.5, -0.5] },
      xaxis: { ...theme.xaxis, range: [0, 1.12 * Math.max(1, ...total)] },
    };
    await Plotly.react(this.plot, traces, layout, { ...PLOT_OPTIONS, displayModeBar: false });
    if (this.listening) return;
    this.listening = true;
    followSize(this.plot);
    this.plot.on("plotly_click", (event) => this.onPick(event.points[0].customdata));
  }
}

const short = (name) => (name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name);
