// The player: one image, its maps side by side, one slider for the epoch. Everything it needs is in memory; moving the
// slider asks the server nothing.

import { Photograph, differenceOf, drawColourBar, drawTruth, frameOf, isEmpty, rangeOf } from "./draw.js";
import { el, number, setText } from "./dom.js";

/** Long side of a panel's pixels; the page scales them to the space there is. */
const PANEL_PIXELS = 336;
const FRAME_MS = 450;
/** Of many epochs, playing shows every second one, or third, ...: it takes no longer than this. */
const LONGEST_PLAY_MS = 60000;
const KEPT_TIMES = 400;

export class Player {
  /**
   * `names(kind)` gives a map's name; `caption(point)` the line below the panels; `onEpoch(epoch, isLast)` is told when
   * the slider moves; `tables` the colour maps; `fullStrength` the strongest share that the distribution scale shows.
   */
  constructor(root, { names, setup, onEpoch = () => {}, label }) {
    this.root = root;
    this.names = names;
    this.setup = setup;
    this.onEpoch = onEpoch;
    this.timeline = null;
    this.photograph = Photograph.blank(PANEL_PIXELS);
    this.outline = null;
    this.point = 0;
    this.playing = null;
    this.panels = new Map();
    this.drawTimes = [];
    this._build(label);
    root.player = this;
  }

  _build(label) {
    this.grid = el("div.sx-panels");
    this.slider = el("input.sx-slider", {
      type: "range", min: "0", max: "0", value: "0", step: "1", "aria-label": `Epoch of ${label}`,
      oninput: () => this.seek(Number(this.slider.value)),
    });
    this.playButton = el("button.sx-button.sx-play", { text: "Play", onclick: () => this.toggle(), "aria-pressed": "false" });
    this.epochText = el("output.sx-epoch");
    this.readout = el("div.sx-readout", { "aria-live": "off" });
    this.transport = el("div.sx-transport", {},
      el("button.sx-button.sx-icon", { text: "‹", "aria-label": "One epoch back", onclick: () => this.step(-1) }),
      this.playButton,
      el("button.sx-button.sx-icon", { text: "›", "aria-label": "One epoch on", onclick: () => this.step(1) }),
      this.slider, this.epochText);
    this.bar = el("canvas.sx-bar", { role: "img" });
    this.barLow = el("span");
    this.barHigh = el("span");
    this.legend = el("div.sx-legend", {}, this.barLow, this.bar, this.barHigh);
    this.root.replaceChildren(this.grid, this.transport, el("div.sx-row.sx-between", {}, this.legend, this.readout));
  }

  // --- What is shown ----------------------------------------------------------------------------------------------

  /** `kinds`: the maps to show, in order; `look`: how (see store.js). */
  show({ kinds, look }) {
    this.kinds = kinds;
    this.look = look;
    this._arrangePanels();
    this.redraw();
  }

  setPhotograph(image) {
    this.photograph = image ? new Photograph(image, PANEL_PIXELS) : Photograph.blank(PANEL_PIXELS);
    this.redraw();
  }

  setOutline(outline) {
    this.outline = outline;
    this.redraw();
  }

  /** Another image, or more epochs of this one; `epoch` null keeps to the last. */
  setTimeline(timeline, epoch = null) {
    this.timeline = timeline;
    const epochs = timeline ? timeline.about.epochs : [];
    const found = epoch === null ? -1 : nearest(epochs, epoch);
    this.point = found < 0 ? Math.max(0, epochs.length - 1) : found;
    this.slider.max = String(Math.max(0, epochs.length - 1));
    this.slider.disabled = epochs.length < 2;
    this.transport.hidden = epochs.length < 2;
    this.redraw();
  }

  get epoch() {
    return this.timeline?.about.epochs[this.point] ?? null;
  }

  get isAtEnd() {
    return !this.timeline || this.point >= this.timeline.about.epochs.length - 1;
  }

  // --- Moving -----------------------------------------------------------------------------------------------------

  seek(point) {
    const last = (this.timeline?.about.epochs.length ?? 1) - 1;
    const next = Math.max(0, Math.min(last, point));
    if (next === this.point) return;
    this.point = next;
    this.redraw();
    this.onEpoch(this.epoch, this.isAtEnd);
  }

  seekEpoch(epoch) {
    if (this.timeline) this.seek(nearest(this.timeline.about.epochs, epoch));
  }

  step(by) {
    this.pause();
    this.seek(this.point + by);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (!this.timeline || this.timeline.about.epochs.length < 2) return;
    if (this.isAtEnd) this.seek(0);
    this.playing = setInterval(() => {
      if (!this.root.isConnected || this.isAtEnd) this.pause();
      else this.seek(this.point + Math.ceil((this.timeline.about.epochs.length * FRAME_MS) / LONGEST_PLAY_MS));
    }, FRAME_MS);
    this._showPlaying();
  }

  pause() {
    clearInterval(this.playing);
    this.playing = null;
    this._showPlaying();
  }

  _showPlaying() {
    setText(this.playButton, this.playing ? "Pause" : "Play");
    this.playButton.setAttribute("aria-pressed", String(Boolean(this.playing)));
  }

  // --- Panels -----------------------------------------------------------------------------------------------------

  _arrangePanels() {
    const wanted = ["photograph", ...this.kinds];
    if (this.look.first && this.look.second) wanted.push("difference");
    if ([...this.panels.keys()].join() === wanted.join()) return;
    this.panels = new Map(wanted.map((kind) => [kind, this._panel(kind)]));
    this.grid.replaceChildren(...[...this.panels.values()].map((panel) => panel.root));
    this.grid.style.setProperty("--panels", String(Math.min(wanted.length, 5)));
  }

  _panel(kind) {
    const canvas = el("canvas.sx-map", { role: "img" });
    const truth = el("canvas.sx-truth", { "aria-hidden": "true" });
    const title = el("figcaption.sx-panel-title");
    const note = el("div.sx-panel-note");
    const frame = el("div.sx-frame", {}, canvas, truth);
    const panel = { kind, canvas, truth, title, note, root: el("figure.sx-panel", { "data-kind": kind }, title, frame, note) };
    if (kind !== "photograph") {
      frame.addEventListener("pointermove", (event) => this._read(panel, event));
      frame.addEventListener("pointerleave", () => setText(this.readout, ""));
    }
    return panel;
  }

  /** Draw now: a handful of small canvases, a few milliseconds in all. */
  redraw() {
    if (!this.look || !this.panels.size) return;
    const started = performance.now();
    for (const panel of this.panels.values()) this._drawPanel(panel);
    this._drawLegend();
    const epochs = this.timeline?.about.epochs ?? [];
    this.slider.value = String(this.point);
    const text = epochs.length ? `epoch ${epochs[this.point]} of ${epochs.at(-1)}` : "no epoch recorded yet";
    setText(this.epochText, text);
    this.slider.setAttribute("aria-valuetext", text);
    this.drawTimes.push(performance.now() - started);
    if (this.drawTimes.length > KEPT_TIMES) this.drawTimes.shift();
  }

  _drawPanel(panel) {
    const { kind, canvas } = panel;
    if (kind === "photograph") {
      if (panel.drawn !== this.photograph) this.photograph.drawPlain(canvas);
      panel.drawn = this.photograph;
      setText(panel.title, "Photograph");
    } else if (kind === "difference") this._drawDifference(panel);
    else this._drawMap(panel);
    canvas.setAttribute("aria-label", `${panel.title.textContent}, ${this.epochText.textContent}. ${panel.note.textContent}`);
    this._drawTruth(panel);
  }

  /** What is known of the object lies on a canvas of its own, drawn again only when it changes. */
  _drawTruth(panel) {
    const about = this.timeline?.about;
    const shown = [this.photograph, this.look.box && about?.id, this.look.parts && about?.id, this.look.outline && this.outline];
    if (panel.truthShown?.every((value, at) => value === shown[at])) return;
    panel.truthShown = shown;
    drawTruth(panel.truth, this.photograph, {
      box: shown[1] ? about.box : null, parts: shown[2] ? about.parts : null, outline: shown[3] || null,
      named: panel.kind === "photograph", // in every panel they would hide the maps
    });
  }

  _drawMap(panel) {
    const map = this.timeline?.maps[panel.kind];
    const name = this.names(panel.kind);
    setText(panel.title, name);
    if (!map || !map.raw.length) {
      this.photograph.drawPlain(panel.canvas, { grey: true });
      setText(panel.note, this.timeline && map === null ? missingBecause(panel.kind, this.timeline.about) : "");
      return;
    }
    const colours = this.setup.colour_maps[this.look.colours];
    this.photograph.drawMap(panel.canvas, {
      values: frameOf(map, this.look.scale, this.point),
      grid: map.grid,
      range: rangeOf(this.timeline, this.kinds, panel.kind, this.look.scale, this.point, this.setup.full_strength),
      table: colours.table,
      opacity: this.look.opacity,
      smooth: !this.look.cells,
    });
    setText(panel.note, this._noteFor(panel.kind, map));
  }

  _noteFor(kind, map) {
    if (isEmpty(map.raw[this.point])) return "Empty: no position speaks for this class.";
    const inside = this.timeline.about.measures?.localisation?.[kind]?.inside?.[this.point];
    const uniform = this.timeline.about.measures?.localisation?.uniform?.inside;
    const parts = [];
    if (inside !== null && inside !== undefined) {
      parts.push(`${Math.round(100 * inside)} % on the object, its area ${Math.round(100 * uniform)} %`);
    }
    if (this.look.scale === "frame") parts.push(`largest ${number(Math.max(...map.raw[this.point]))}`);
    return parts.join(", ");
  }

  _drawDifference(panel) {
    const { first, second } = this.look;
    const [a, b] = [this.timeline?.maps[first], this.timeline?.maps[second]];
    setText(panel.title, `${this.names(first)} minus ${this.names(second)}`);
    if (!a || !b || a.grid.join() !== b.grid.join() || !a.raw.length) {
      this.photograph.drawPlain(panel.canvas, { grey: true });
      setText(panel.note, this.timeline ? "One of the two maps is missing here." : "");
      return;
    }
    const { grid, values, end } = differenceOf(this.timeline, first, second, this.look.scale, this.point, this.setup.full_strength);
    this.photograph.drawMap(panel.canvas, {
      values, grid, range: [-end, end], table: this.setup.colour_maps.difference.table, diverging: true,
      opacity: this.look.opacity, smooth: !this.look.cells,
    });
    setText(panel.note, `orange: more ${this.names(first)}; blue: more ${this.names(second)}`);
  }

  _drawLegend() {
    const colours = this.setup.colour_maps[this.look.colours];
    if (this.bar.dataset.colours !== this.look.colours) {
      drawColourBar(this.bar, colours.table);
      this.bar.dataset.colours = this.look.colours;
    }
    const ends = {
      distribution: ["0", `${number(this.setup.full_strength)} × a uniform share`],
      frame: ["0", "each map's largest value"],
      epochs: ["0", "each map's largest value of all epochs"],
      maps: ["0", "largest value of all maps"],
    }[this.look.scale];
    if (this.look.scale === "maps" && this.timeline && this.kinds.some((kind) => this.timeline.maps[kind])) {
      const kind = this.kinds.find((name) => this.timeline.maps[name]);
      ends[1] = number(rangeOf(this.timeline, this.kinds, kind, "maps", this.point, this.setup.full_strength)[1]);
    }
    setText(this.barLow, ends[0]);
    setText(this.barHigh, ends[1]);
    this.bar.setAttribute("aria-label", `Colours from ${ends[0]} to ${ends[1]}`);
  }

  /** The value under the pointer: of the cell, not of the smoothed picture. */
  _read(panel, event) {
    const map = this.timeline?.maps[panel.kind];
    if (!map || !map.raw.length) return;
    const place = panel.canvas.getBoundingClientRect();
    const [rows, columns] = map.grid;
    const column = clamp(Math.floor(((event.clientX - place.left) / place.width) * columns), columns);
    const row = clamp(Math.floor(((event.clientY - place.top) / place.height) * rows), rows);
    const cell = row * columns + column;
    const share = number(map.distribution[this.point][cell]);
    setText(this.readout,
      `${this.names(panel.kind)}, row ${row + 1}, column ${column + 1}: raw ${number(map.raw[this.point][cell])}, ${share} × uniform`);
  }
}

const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));

function nearest(epochs, epoch) {
  let best = -1;
  epochs.forEach((value, at) => {
    if (best < 0 || Math.abs(value - epoch) < Math.abs(epochs[best] - epoch)) best = at;
  });
  return best;
}

function missingBecause(kind, about) {
  if (kind === "learned") return `This network has none: method ${about.method} trains no attention head.`;
  if (about.pooling === "compact" && kind.startsWith("cam")) return "Under compact pooling there is no CAM.";
  return "This network has none.";
}
