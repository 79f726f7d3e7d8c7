// The recorded images of a run: filtered and sorted here, from columns that came once.

import { askJson, address, runPath, store } from "./store.js";
import { complain, el, selectBox, setText } from "./dom.js";

const PAGE = 60;

const FILTERS = [
  ["all", "All images", () => true],
  ["wrong", "Predicted wrong", (columns, at) => columns.predicted && columns.predicted[at] !== columns.label[at]],
  ["right", "Predicted right", (columns, at) => columns.predicted && columns.predicted[at] === columns.label[at]],
];
const SPLITS = [
  ["", "Every split"], ["labelled", "Labelled, training"], ["test", "Test"], ["swapped", "Test, habitats swapped"],
];
const ORDERS = [
  ["order", "As recorded"],
  ["disagreement", "Largest disagreement", "Images on which pseudo-attention and learned attention differ most, by KL"],
  ["change", "Largest change", "Images whose attention moved most since the first epoch"],
  ["unsure", "Least confident"],
  ["sure-wrong", "Most confident and wrong"],
];

export class Gallery {
  constructor(root) {
    this.root = root;
    this.columns = null;
    this.shown = PAGE;
    this.choice = { filter: "all", split: "", order: "order", class: "" };
    const change = (name) => (value) => {
      this.choice[name] = value;
      this.shown = PAGE;
      this._arrange();
    };
    this.filter = selectBox("Show", FILTERS, "all", change("filter"));
    this.split = selectBox("Split", SPLITS, "", change("split"));
    this.class = selectBox("Class", [["", "Every class"]], "", change("class"));
    this.order = selectBox("Order", ORDERS, "order", change("order"));
    this.count = el("p.sx-help", { role: "status" });
    this.list = el("div.sx-thumbs", { role: "listbox", "aria-label": "Recorded images" });
    this.more = el("button.sx-button", { text: "Show more", hidden: true, onclick: () => {
      this.shown += PAGE;
      this._arrange();
    } });
    root.replaceChildren(
      el("div.sx-filters", {}, this.filter, this.split, this.class, this.order), this.count, this.list, this.more);
    store.on("run", () => this.load());
    store.on("recorded", () => this.load());
    store.on("image", () => this._mark());
    this.load();
  }

  /** Fetch the columns of the run that is open; what was chosen stays. */
  async load() {
    const run = store.place.run;
    if (!run) return this._empty("Choose a run to see its images.");
    // Two events often come together (another run, and its recorded epochs): one question answers both.
    const wanted = `${run}/${store.live?.id === run ? store.live.recorded.length : ""}`;
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    try {
      const columns = await askJson(runPath(run, "/samples"));
      if (wanted !== this.wanted) return;
      this.columns = columns;
      this.measures = null;
      this.class.fill([["", "Every class"], ...columns.classes.map((name, label) => [String(label), name])], this.choice.class);
      const present = new Set(columns.ids.map((_, at) => splitOf(columns, at)));
      this.split.fill(SPLITS.filter(([key]) => !key || present.has(key)), this.choice.split);
      await this._arrange();
      if (!columns.ids.length) setText(this.count, "The run has not listed its images yet.");
      if (!store.place.image && columns.ids.length) store.openImage(columns.ids[this._first()], store.place.epoch);
    } catch (error) {
      if (wanted !== this.wanted) return;
      this.wanted = null;
      this._empty(error.message);
    }
  }

  // A test image says more than one the network was trained on.
  _first() {
    const test = this.columns.split.indexOf("test");
    return test < 0 ? 0 : test;
  }

  _empty(words) {
    this.columns = null;
    this.list.replaceChildren();
    this.more.hidden = true;
    setText(this.count, words);
  }

  async _arrange() {
    const { columns, choice } = this;
    if (!columns) return;
    const keep = FILTERS.find(([name]) => name === choice.filter)[2];
    let chosen = columns.ids.map((_, at) => at).filter((at) => keep(columns, at)
      && (!choice.split || splitOf(columns, at) === choice.split)
      && (choice.class === "" || columns.label[at] === Number(choice.class)));
    if (choice.order === "sure-wrong") chosen = chosen.filter((at) => columns.predicted?.[at] !== columns.label[at]);
    const values = await this._values(choice.order);
    if (values) chosen.sort((a, b) => (values[b] ?? -Infinity) - (values[a] ?? -Infinity));
    if (columns !== this.columns) return;
    this.chosen = chosen;
    setText(this.count, chosen.length === columns.ids.length
      ? `${chosen.length} images` : `${chosen.length} of ${columns.ids.length} images`);
    this._fillList(chosen.slice(0, this.shown));
    this.more.hidden = chosen.length <= this.shown;
  }

  /** The figure that an order sorts by, largest first; those made from the maps are asked for once. */
  async _values(order) {
    const { confidence } = this.columns;
    if (order === "unsure") return confidence?.map((value) => -value);
    if (order === "sure-wrong") return confidence;
    if (order === "order") return null;
    if (!this.measures) {
      setText(this.count, "Comparing the maps of every image…");
      try {
        this.measures = await askJson(runPath(this.columns.run, "/rankings"));
      } catch (error) {
        complain(error);
        return null;
      }
    }
    return this.measures[order];
  }

  _fillList(places) {
    // Thumbnails that are there already stay: nothing flickers while a run goes on.
    const known = new Map([...this.list.children].map((item) => [item.dataset.key, item]));
    this.list.replaceChildren(...places.map((at) => {
      const key = `${this.columns.run}/${this.columns.ids[at]}`;
      const item = known.get(key) ?? this._thumb(at, key);
      const right = this.columns.predicted ? this.columns.predicted[at] === this.columns.label[at] : null;
      item.classList.toggle("sx-wrong", right === false);
      item.setAttribute("aria-label", this._describe(at));
      item.title = this._describe(at);
      return item;
    }));
    this._mark();
  }

  _thumb(at, key) {
    const id = this.columns.ids[at];
    const picture = el("img", {
      src: address(runPath(this.columns.run, `/thumb/${at}`)).href, alt: "", loading: "lazy", width: 72, height: 72,
      onerror: () => picture.classList.add("sx-gone"),
    });
    const item = el("button.sx-thumb", { type: "button", role: "option", onclick: () => store.openImage(id) }, picture);
    item.dataset.key = key;
    item.dataset.id = id;
    return item;
  }

  _describe(at) {
    const { columns } = this;
    const label = columns.classes[columns.label[at]] ?? "?";
    if (!columns.predicted) return `${columns.ids[at]}: ${label}`;
    const predicted = columns.classes[columns.predicted[at]] ?? "?";
    const said = predicted === label ? "predicted right" : `predicted ${predicted}`;
    return `${columns.ids[at]}: ${label}, ${said} (${Math.round(100 * columns.confidence[at])} %)`;
  }

  _mark() {
    for (const item of this.list.children) {
      item.setAttribute("aria-selected", String(item.dataset.id === store.place.image));
    }
  }

  /** The image before or after the one that is open, in the order shown. */
  neighbour(by) {
    if (!this.chosen?.length) return null;
    const at = this.chosen.findIndex((place) => this.columns.ids[place] === store.place.image);
    const next = this.chosen[Math.max(0, Math.min(this.chosen.length - 1, at + by))];
    return this.columns.ids[next];
  }
}

function splitOf(columns, at) {
  return columns.labelled[at] ? "labelled" : columns.split[at];
}
