// Four images of the open run whose attention changes while the network learns.

import { address, ask, askJson, runPath, store } from "./store.js";
import { el, segmented, setText } from "./dom.js";
import { decodeTimeline } from "./wire.js";
import { Photograph, frameOf } from "./draw.js";
import { loadPicture } from "./pictures.js";

const IMAGES = 4;
const PIXELS = 200;

export class Strip {
  constructor(root) {
    this.root = root;
    this.kind = null;
    this.tiles = [];
    this.choice = segmented("Attention while it learns", [["learned", "Learned attention"], ["cam", "CAM"]], "learned", (kind) => {
      this.kind = kind;
      this.draw();
    });
    this.note = el("span.sx-help");
    this.row = el("div.sx-strip-row");
    root.replaceChildren(el("div.sx-row.sx-between", {}, this.choice, this.note), this.row);
    store.on("recorded", () => this.update());
    store.on("look", () => this.draw());
  }

  open(run) {
    this.run = run;
    this.kind = null;
    this.tiles = [];
    this.drawnPoints = -1;
    this.row.replaceChildren();
    this.root.hidden = true;
  }

  /** Show the newest recorded epoch, if it is not the one shown. */
  async update() {
    if (this.busy) return;
    this.busy = true;
    // Another epoch, or another run, may come while one is fetched; it may be the last to come.
    while (this._recordedPoints() && this._recordedPoints() !== this.drawnPoints && await this._fetch());
    this.busy = false;
  }

  _recordedPoints() {
    return store.live?.id === this.run ? store.live.recorded.length : 0;
  }

  /** Whether it could be fetched. */
  async _fetch() {
    const { run } = this;
    const points = this._recordedPoints();
    try {
      if (!this.tiles.length) await this._choose();
      const last = store.live.recorded.at(-2) ?? -1;
      await Promise.all(this.tiles.map(async (tile) => {
        const response = await ask(runPath(run, "/timeline"), { query: { image: tile.id, after: last } });
        tile.timeline = decodeTimeline(await response.arrayBuffer());
      }));
      if (run === this.run) {
        this.drawnPoints = points;
        this.root.hidden = !this.tiles.length;
        this.draw();
      }
      return true;
    } catch {
      return false; // the next epoch tries again
    }
  }

  async _choose() {
    const { run } = this;
    const columns = await askJson(runPath(run, "/strip"), { query: { images: IMAGES } });
    if (run !== this.run) return;
    this.tiles = columns.images.map(({ id, row, label }) => {
      const canvas = el("canvas.sx-map", { role: "img" });
      const text = el("span.sx-help");
      const tile = { id, label, canvas, text, photograph: Photograph.blank(PIXELS) };
      tile.root = el("button.sx-tile", { type: "button", title: "Look at this image", "aria-label": `Look at ${id} in the Attention view`, onclick: () => {
        store.openImage(id, null);
        store.showView("attention");
      } }, canvas, text);
      loadPicture(address(runPath(run, `/view/${row}`))).then((picture) => {
        tile.photograph = new Photograph(picture, PIXELS);
        this.draw();
      }).catch(() => {});
      return tile;
    });
    this.classes = columns.classes;
    this.row.replaceChildren(...this.tiles.map((tile) => tile.root));
  }

  draw() {
    const { setup, look } = store;
    const first = this.tiles.find((tile) => tile.timeline);
    if (!first) return;
    const learned = first.timeline.maps.learned !== null;
    const kind = this.kind ?? (learned ? "learned" : first.timeline.maps.cam ? "cam" : "gradcam");
    this.choice.select(kind);
    this.choice.hidden = !learned;
    for (const tile of this.tiles) {
      const map = tile.timeline?.maps[kind];
      const { about } = tile.timeline ?? {};
      if (!map?.raw.length) continue;
      const at = map.raw.length - 1;
      tile.photograph.drawMap(tile.canvas, {
        values: frameOf(map, "distribution", at), grid: map.grid, range: [0, setup.full_strength],
        table: setup.colour_maps[look.colours].table, opacity: look.opacity, smooth: !look.cells,
      });
      const right = about.predicted[at] === about.label;
      setText(tile.text, right ? `right, ${Math.round(100 * about.confidence[at])} %` : `wrong: ${this.classes[about.predicted[at]] ?? "?"}`);
      tile.text.classList.toggle("sx-false", !right);
      tile.canvas.setAttribute("aria-label", `${this.classes[tile.label] ?? ""}: ${setup.maps[kind].label} after epoch ${about.epochs[at]}`);
    }
    setText(this.note, `${setup.maps[kind].label}, test images, after epoch ${first.timeline.about.epochs.at(-1)}`);
  }
}
