// The Data view: the datasets there are on the left, on the right what is in the one that is open.

import { ask, askJson, store } from "./store.js";
import { complain, confirmed, el, selectBox, setText, toast } from "./dom.js";
import { AddBox } from "./data-add.js";
import { ClassCounts } from "./data-counts.js";
import { ImageGrid } from "./data-grid.js";
import { PhotoViewer } from "./data-photo.js";
import { ProblemList } from "./data-problems.js";
import { SetList } from "./data-sets.js";
import { followTheme } from "./charts.js";
import { SPLIT_WORDS, countWords, groupOf, sentences } from "./data-words.js";

const ASK_AGAIN_MS = 500;
const TYPING_MS = 250;
/** What of the view is in its link, and what it is without one. */
const LINKED = { set: "", ratio: "10", classes: "", seed: "0", level: "variant", split: "", class: "", photo: "" };
const LEVELS = [["variant", "Variant"], ["family", "Family"], ["manufacturer", "Manufacturer"]];

export async function mount(root) {
  await store.start();
  return new DataView(root);
}

class DataView {
  constructor(root) {
    this.root = root;
    root.view = this;
    const query = new URL(location.href).searchParams;
    this.choice = Object.fromEntries(Object.entries(LINKED).map(([name, normal]) => [name, query.get(name) ?? normal]));
    this.columns = null;
    this.labelled = new Set();
    this._build();
    this.list.load().then(() => this._openFirst());
  }

  _build() {
    const { choice } = this;
    const list = el("section.sx-sets", { "aria-label": "Datasets" });
    const add = el("section.sx-add", { "aria-label": "Add photographs" });
    this.list = new SetList(list, { onOpen: (row) => this.open(row.key), onChange: () => this._describe() });
    this.add = new AddBox(add, { onAdded: (key) => this._openNew(key) });

    this.title = el("h2.sx-image-title");
    this.about = el("p.sx-facts");
    this.train = el("button.sx-button.sx-primary", { text: "Train on this set", onclick: () => this._train() });
    this.remove = el("button.sx-button.sx-danger", { text: "Delete…", hidden: true, onclick: () => this._delete() });
    this.copy = el("button.sx-button", { text: "Copy link", title: "A link that reopens this set with these choices", onclick: () => this._copyLink() });
    this.waiting = el("div.sx-waiting", { hidden: true, role: "status" });
    this.failure = el("div.sx-empty", { hidden: true, role: "alert" });

    this.ratio = el("input.sx-ratio", { type: "range", min: "1", max: "100", step: "1", "aria-label": "Label ratio in percent", oninput: () => this._changeLabels("ratio", this.ratio.value) });
    this.ratioNumber = numberField("Labelled images, % of each class", choice.ratio, { min: "0.1", max: "100", step: "any" }, (value) => this._changeLabels("ratio", value));
    this.ratioNumber.input.before(this.ratio);
    this.classes = numberField("Classes", choice.classes, { min: "2", step: "1", placeholder: "all" }, (value) => this._changeLabels("classes", value));
    this.seed = numberField("Split seed", choice.seed, { min: "0", step: "1" }, (value) => this._changeSplit("seed", value));
    this.level = selectBox("A class is a", LEVELS, choice.level, (value) => this._changeSplit("level", value));
    this.labelWords = el("p.sx-label-words", { role: "status" });
    this.controls = el("div.sx-controls.sx-data-controls", {},
      this.ratioNumber, this.classes, this.seed, this.level);

    this.counts = followTheme(new ClassCounts({ onPick: (label) => this._chooseClass(String(label)) }));
    this.problems = new ProblemList({ onOpen: (row) => this._openPhoto(row, [row]), query: () => this._query() });

    this.split = selectBox("Show", [["", "All images"]], choice.split, (value) => this._filter("split", value));
    this.class = selectBox("Class", [["", "Every class"]], choice.class, (value) => this._filter("class", value));
    this.shown = el("p.sx-help", { role: "status" });
    this.legend = el("p.sx-legend-line");
    this.grid = new ImageGrid({
      onOpen: (row, rows) => this._openPhoto(row, rows), onClass: (label) => this._chooseClass(String(label)),
      query: () => this._query(),
    });
    this.viewer = new PhotoViewer({
      query: () => this._query(), describe: (row) => this._describeImage(row),
      onShow: (row) => this._notePhoto(row === null ? "" : this.columns.ids[row]),
    });
    this.content = el("div.sx-data-content", { hidden: true },
      this.controls, this.labelWords,
      el("div.sx-data-two", {}, this.counts.root, this.problems.root),
      el("section.sx-images", { "aria-label": "Images" },
        el("div.sx-row.sx-images-head", {}, el("h3", { text: "Images" }), this.split, this.class, this.shown), this.legend, this.grid.root));
    this.root.replaceChildren(el("div.sx-data", {},
      el("aside.sx-side", {}, list, add),
      el("div.sx-stage", {},
        el("header.sx-data-head", {}, el("div.sx-stage-head", {}, this.title, this.about), el("div.sx-row", {}, this.train, this.copy, this.remove)),
        this.waiting, this.failure, this.content)));
  }

  // --- Which set --------------------------------------------------------------------------------------------------

  /** Without a link: the first set that can be looked into, which is the field guide. */
  _openFirst() {
    const first = this.list.rows.find((row) => row.state !== "refused");
    if (this.choice.set) this.open(this.choice.set, { keep: true });
    else if (first) this.open(first.key, { keep: true });
  }

  /** Open a set by its key, or look at its files again; what was chosen of another set is let go, unless `keep`. */
  open(key, { keep = false } = {}) {
    if (!keep) {
      if (key !== this.choice.set) Object.assign(this.choice, { classes: "", level: "variant", split: "", class: "", photo: "" });
    }
    this.choice.set = key;
    this.columns = null;
    this._fillControls();
    this._keepLink();
    this._load();
  }

  async _openNew(key) {
    await this.list.load();
    this.open(key);
  }

  get row() {
    return this.list.rows.find((row) => row.key === this.choice.set || row.name === this.choice.set) ?? null;
  }

  _fillControls() {
    const { choice } = this;
    this.ratio.value = choice.ratio;
    this.ratioNumber.input.value = choice.ratio;
    this.classes.input.value = choice.classes;
    this.seed.input.value = choice.seed;
    this.level.select.value = choice.level;
    this._describe();
  }

  /** The head of the stage, from what the list knows. */
  _describe() {
    const { row } = this;
    this.list.mark(this.choice.set);
    setText(this.title, row?.label ?? this.choice.set);
    const facts = row?.classes ? countWords(row) : "";
    const layout = this.columns?.layout ?? row?.layout ?? row?.description ?? "";
    setText(this.about, [facts, layout].filter(Boolean).join(" · "));
    this.about.title = row?.place ?? "";
    this.remove.hidden = !row?.added;
    this.train.disabled = this.copy.disabled = !this.columns;
    this.level.hidden = row?.name !== "aircraft" && !/aircraft/i.test(layout);
  }

  _query(more = {}) {
    const { set, ratio, classes, seed, level } = this.choice;
    return { set, ratio, classes, seed, level, ...more };
  }

  /** Fetch what is in the set, as often as it takes. */
  async _load() {
    const wanted = (this.wanted = Symbol("the newest question"));
    this.content.hidden = true;
    this.failure.hidden = true;
    this._wait("Opening the dataset…");
    try {
      let columns = null;
      while (!columns) {
        const { set, seed, level } = this.choice;
        const response = await ask("data/contents", { query: { set, seed, level } });
        if (wanted !== this.wanted) return;
        const answer = await response.json();
        if (response.status === 202) {
          this._wait(answer.words, answer);
          await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
          if (wanted !== this.wanted || !this.root.isConnected) return;
        } else columns = answer;
      }
      this.columns = columns;
      this.labelled = new Set();
      this._fillFilters();
      await this._loadLabels();
      if (wanted !== this.wanted) return;
      this.waiting.hidden = true;
      this.content.hidden = false;
      this._describe();
      this._show();
      this.problems.show(columns);
      if (!this.row || this.row.state === "unread" || this.row.state === "closed") this.list.load();
      const photo = columns.ids.indexOf(this.choice.photo);
      if (photo >= 0) this._openPhoto(photo, this.grid.rows);
    } catch (error) {
      if (wanted !== this.wanted) return;
      this.waiting.hidden = true;
      this.failure.replaceChildren(el("h3", { text: "This dataset cannot be opened" }), el("p", { text: sentences(error) }));
      this.failure.hidden = false;
      this._describe();
    }
  }

  _wait(words, { done = 0, total = 0 } = {}) {
    const bar = el("progress.sx-progress", { max: total || 1, "aria-label": words });
    if (total) bar.value = done;
    const counted = total ? `${words}: ${done.toLocaleString("en")} of ${total.toLocaleString("en")}` : words;
    this.waiting.replaceChildren(el("p", { text: counted }), bar);
    this.waiting.hidden = false;
  }

  // --- Which images are labelled ----------------------------------------------------------------------------------

  async _loadLabels() {
    const asked = (this.askedLabels = Symbol("the newest question"));
    try {
      const answer = await askJson("data/labels", { query: this._query() });
      if (asked !== this.askedLabels) return false;
      this.labelled = new Set(answer.rows);
      this.labelWords.classList.remove("sx-error");
      const classes = this.classCount;
      const perClass = answer.rows.length / classes;
      const each = Number.isInteger(perClass) ? `${perClass} of each class` : `${perClass.toFixed(1)} of a class on average`;
      const isListed = answer.source !== "seeded rule";
      const { lists } = this.columns;
      const source = isListed ? `those of the ${answer.source}` : `by the seeded rule, seed ${this.choice.seed}`;
      const others = lists.length && !isListed ? ` The dataset's own lists are for ${lists.join(", ")} %.` : "";
      this.labelWords.replaceChildren(
        el("strong", { text: `${answer.rows.length.toLocaleString("en")} labelled images of ${classes} classes` }),
        el("span", { text: ` at ${this.choice.ratio} %: ${each}, ${source}.${others}` }));
    } catch (error) {
      if (asked !== this.askedLabels) return false;
      this.labelled = new Set();
      this.labelWords.classList.add("sx-error");
      setText(this.labelWords, sentences(error));
    }
    return true;
  }

  get classCount() {
    const wanted = Number(this.choice.classes);
    return wanted >= 2 ? Math.min(wanted, this.columns.classes.length) : this.columns.classes.length;
  }

  _changeLabels(name, value) {
    this.choice[name] = value;
    if (name === "ratio") {
      if (document.activeElement !== this.ratioNumber.input) this.ratioNumber.input.value = value;
      this.ratio.value = value;
    }
    clearTimeout(this._typing);
    this._typing = setTimeout(async () => {
      this._keepLink();
      if (this.columns && await this._loadLabels()) {
        this._fillFilters();
        this._show();
      }
    }, TYPING_MS);
  }

  _changeSplit(name, value) {
    this.choice[name] = value === "" ? LINKED[name] : value;
    if (name === "level") this.choice.class = "";
    clearTimeout(this._typing);
    this._typing = setTimeout(() => {
      this._keepLink();
      this._load();
    }, TYPING_MS);
  }

  // --- Which images are shown -------------------------------------------------------------------------------------

  _fillFilters() {
    const { columns, choice } = this;
    const groups = new Set(columns.splits.flatMap((split) => (split === "train" ? ["labelled", "train"] : [split])));
    this.split.fill([["", "All images"], ...Object.entries(SPLIT_WORDS).filter(([key]) => groups.has(key)).map(([key, { filter }]) => [key, filter])], choice.split);
    this.class.fill([["", "Every class"], ...columns.classes.slice(0, this.classCount).map((name, label) => [String(label), name])], choice.class);
    choice.split = this.split.select.value;
    choice.class = this.class.select.value;
  }

  _filter(name, value) {
    this.choice[name] = value;
    this._keepLink();
    this._show();
  }

  _chooseClass(label) {
    this.class.select.value = label;
    this._filter("class", label);
    this.root.querySelector(".sx-images").scrollIntoView({ block: "start" });
  }

  _show() {
    const { columns, choice, labelled } = this;
    const classes = this.classCount;
    const group = (row) => groupOf(columns, labelled, row);
    const rows = [];
    const counts = columns.classes.slice(0, classes).map(() => ({}));
    columns.ids.forEach((_, row) => {
      const label = columns.label[row];
      if (label >= classes) return;
      const its = group(row);
      counts[label][its] = (counts[label][its] ?? 0) + 1;
      if ((!choice.split || its === choice.split) && (choice.class === "" || label === Number(choice.class))) rows.push(row);
    });
    this.counts.fill(columns.classes.slice(0, classes), counts);
    this.grid.show({ columns, rows, group, counts, oneClass: choice.class !== "" });
    const all = columns.ids.length;
    setText(this.shown, rows.length === all ? `${all.toLocaleString("en")} images` : `${rows.length.toLocaleString("en")} of ${all.toLocaleString("en")} images`);
    const present = new Set(counts.flatMap((count) => Object.keys(count)));
    this.legend.replaceChildren(...Object.entries(SPLIT_WORDS).filter(([key]) => present.has(key)).map(([key, { badge, words }]) => el("span.sx-legend-item", {},
      badge ? el(`span.sx-badge.sx-badge-${key}`, { text: badge, "aria-hidden": "true" }) : el("span.sx-badge.sx-badge-none", { "aria-hidden": "true" }), words)));
  }

  _describeImage(row) {
    const { columns } = this;
    const group = groupOf(columns, this.labelled, row);
    return { id: columns.ids[row], class: columns.classes[columns.label[row]], group: SPLIT_WORDS[group].words, has: columns.has, version: columns.version };
  }

  _openPhoto(row, rows) {
    this.viewer.open(row, rows);
  }

  // --- What is done with a set ------------------------------------------------------------------------------------

  _train() {
    const { ratio, classes, seed, level } = this.choice;
    store.proposeRun({ dataset: this.row?.name ?? this.choice.set, label_ratio: ratio, num_classes: classes, split_seed: seed, class_level: level });
  }

  async _delete() {
    const { row } = this;
    const text = `${row.label}: the photographs are removed from the server's disk. Runs that were trained on them keep their curves and maps, but have no photographs to show. This cannot be undone.`;
    if (!await confirmed({ title: "Delete this dataset?", text, action: "Delete" })) return;
    try {
      await ask("data/delete", { method: "POST", query: { set: row.key } });
      toast("The dataset was deleted.");
      this.choice.set = "";
      await this.list.load();
      this._openFirst();
    } catch (error) {
      complain(error);
    }
  }

  async _copyLink() {
    store.noteView("data");
    this._keepLink();
    try {
      await navigator.clipboard.writeText(location.href);
      toast("The link is copied.");
    } catch {
      toast("This browser does not let the page copy.", { hint: `The link is in the address bar: ${location.href}` });
    }
  }

  // A browser allows a page some hundred changes of its address a minute: an arrow key that is held down must wait.
  _notePhoto(id) {
    this.choice.photo = id;
    this._linking ??= setTimeout(() => this._keepLink(), 400);
  }

  /** The address reopens the view as it is. */
  _keepLink() {
    clearTimeout(this._linking);
    this._linking = null;
    const url = new URL(location.href);
    for (const [name, normal] of Object.entries(LINKED)) {
      if (this.choice[name] === normal) url.searchParams.delete(name);
      else url.searchParams.set(name, this.choice[name]);
    }
    history.replaceState(history.state, "", url);
  }
}

function numberField(label, value, attributes, onchange) {
  const id = `sx-data-${label.split(/\W/, 2).join("-").toLowerCase()}`;
  const input = el("input.sx-input.sx-number", { id, type: "number", value, ...attributes, oninput: () => input.validity.valid && onchange(input.value) });
  const field = el("div.sx-field", {}, el("label.sx-label", { for: id, text: label }), el("span.sx-number-row", {}, input));
  field.input = input;
  return field;
}
