// One image, large: its box, parts and mask drawn over it, and what is known of it. Arrow keys go on to the next.

import { address, ask } from "./store.js";
import { bytes, checkBox, el, setText } from "./dom.js";
import { sentences } from "./data-words.js";
import { drawTruth, outlineOf } from "./draw.js";
import { loadPicture } from "./pictures.js";

/** An image smaller than the space for it is enlarged, but not so far that it becomes a blur. */
const LARGEST_SCALE = 3;

export class PhotoViewer {
  /** `describe(row)`: what the dataset says of an image; `onShow(row)`: which is shown, null when closed. */
  constructor({ query, describe, onShow }) {
    this.query = query;
    this.describe = describe;
    this.onShow = onShow;
    this.shown = { box: true, parts: true, mask: true };
    window.addEventListener("resize", () => this.dialog?.open && this._draw());
  }

  _build() {
    this.picture = el("img.sx-photo-picture", { alt: "" });
    this.truth = el("canvas.sx-truth", { "aria-hidden": "true" });
    this.frame = el("div.sx-photo-frame", {}, this.picture, this.truth);
    this.space = el("div.sx-photo-space", {}, this.frame);
    this.problem = el("p.sx-photo-problem", { hidden: true, role: "alert" });
    this.title = el("h3.sx-photo-title");
    this.facts = el("dl.sx-photo-facts");
    this.place = el("span.sx-help", { role: "status" });
    const toggle = (name, label) => checkBox(label, this.shown[name], (on) => {
      this.shown[name] = on;
      this._draw();
    });
    this.toggles = { box: toggle("box", "Box"), parts: toggle("parts", "Parts"), mask: toggle("mask", "Outline") };
    this.none = el("span.sx-help", { text: "This dataset marks no box, parts or mask." });
    const step = (text, label, by) => el("button.sx-button.sx-icon", { type: "button", text, "aria-label": label, autofocus: by > 0, onclick: () => this.step(by) });
    this.back = step("‹", "Image before", -1);
    this.on = step("›", "Next image", 1);
    this.dialog = el("dialog.sx-dialog.sx-photo", { "aria-label": "Image", onclose: () => this.onShow(null), onkeydown: (event) => this._key(event) },
      el("div.sx-root.sx-photo-body", {},
        el("div.sx-row.sx-between.sx-photo-head", {}, this.title,
          el("button.sx-button.sx-icon", { type: "button", text: "×", "aria-label": "Close", onclick: () => this.dialog.close() })),
        this.space, this.problem,
        el("div.sx-row.sx-between", {}, el("div.sx-row", {}, this.back, this.on, this.place), el("div.sx-row", {}, ...Object.values(this.toggles), this.none)),
        this.facts));
    // A click beside the picture closes it, as people expect.
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    document.body.append(this.dialog);
  }

  /** Show `row`; the keys go through `rows`. */
  open(row, rows) {
    if (!this.dialog) this._build();
    this.rows = rows.includes(row) ? rows : [row];
    this._show(row);
    if (!this.dialog.open) this.dialog.showModal();
  }

  step(by) {
    const next = this.rows[this.rows.indexOf(this.row) + by];
    if (next !== undefined) this._show(next);
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else return;
    event.preventDefault();
  }

  async _show(row) {
    this.row = row;
    const about = this.describe(row);
    const at = this.rows.indexOf(row);
    setText(this.title, about.id);
    setText(this.place, `${(at + 1).toLocaleString("en")} of ${this.rows.length.toLocaleString("en")}`);
    this.back.disabled = at === 0;
    this.on.disabled = at === this.rows.length - 1;
    this.picture.alt = `${about.class}, ${about.group}`;
    this._state({ class: about.class, is: about.group });
    for (const name of ["box", "parts", "mask"]) this.toggles[name].hidden = !about.has[name];
    this.none.hidden = Object.values(about.has).some(Boolean);
    this.onShow(row);
    const query = { set: this.query().set, image: about.id, v: about.version };
    const isShown = () => this.row === row;
    this.known = null;
    this.outline = null;
    try {
      const [picture, known] = await Promise.all([
        loadPicture(address("data/large", query)), ask("data/image", { query }).then((answer) => answer.json()),
      ]);
      if (!isShown()) return;
      this.problem.hidden = true;
      this.space.hidden = false;
      this.picture.src = picture.src;
      this.size = [picture.naturalWidth, picture.naturalHeight];
      this.known = known;
      this._state({ class: about.class, is: about.group, size: known.width ? `${known.width} × ${known.height} pixels, ${bytes(known.bytes)}` : null,
        box: about.has.box && !known.box ? "none marked" : null, parts: known.parts.length ? known.parts.map(([name]) => name).join(", ") : null });
      this._draw();
      if (known.mask) {
        const outline = outlineOf(await loadPicture(address("data/mask", query)));
        if (!isShown()) return;
        this.outline = outline;
        this._draw();
      }
      this._loadNeighbour(row);
    } catch {
      if (!isShown()) return;
      if (!this.known) await this._explain(query, isShown);
    }
  }

  /** The picture did not come: its address says why. */
  async _explain(query, isShown) {
    this.space.hidden = true;
    let words = "This picture cannot be shown.";
    try {
      await ask("data/large", { query });
    } catch (error) {
      words = sentences(error);
    }
    if (!isShown()) return;
    setText(this.problem, words);
    this.problem.hidden = false;
  }

  /** The next picture is fetched ahead, so that going on does not wait. */
  _loadNeighbour(row) {
    const next = this.rows[this.rows.indexOf(row) + 1];
    if (next === undefined) return;
    const { id, version } = this.describe(next);
    loadPicture(address("data/large", { set: this.query().set, image: id, v: version })).catch(() => {});
  }

  _state(facts) {
    const words = { class: "Class", is: "Used as", size: "Size", box: "Box", parts: "Visible parts" };
    this.facts.replaceChildren(...Object.entries(facts).filter(([, value]) => value).flatMap(([name, value]) => [el("dt", { text: words[name] }), el("dd", { text: value })]));
  }

  _draw() {
    if (!this.known) return;
    const [width, height] = this.size;
    const scale = Math.min(this.space.clientWidth / width, this.space.clientHeight / height, LARGEST_SCALE);
    const drawn = { width: Math.round(width * scale), height: Math.round(height * scale) };
    for (const part of [this.frame, this.picture]) Object.assign(part.style, { width: `${drawn.width}px`, height: `${drawn.height}px` });
    drawTruth(this.truth, drawn, {
      box: this.shown.box ? this.known.box : null, parts: this.shown.parts ? this.known.parts : null,
      outline: this.shown.mask ? this.outline : null, named: true,
    });
  }
}
