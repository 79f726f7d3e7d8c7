// What is wrong with a dataset: what listing its files has found at once, and what looking at every image finds.

import { ask, askJson } from "./store.js";
import { complain, el, setText } from "./dom.js";
import { thumbnailOf } from "./data-grid.js";

const ASK_AGAIN_MS = 600;
const SHOWN_AT_FIRST = 20;

export class ProblemList {
  constructor({ onOpen, query }) {
    this.onOpen = onOpen;
    this.query = query;
    this.count = el("span.sx-help", { role: "status" });
    this.button = el("button.sx-button", { text: "Check every image", title: "Reads every file: finds what is unreadable, cut off, twice there, or in both training and test", onclick: () => this._start() });
    this.progress = el("progress.sx-progress", { max: 1, hidden: true, "aria-label": "Progress of the check" });
    this.status = el("p.sx-help", { role: "status" });
    this.body = el("div.sx-problem-groups", { tabindex: "0", role: "group", "aria-label": "Problems found" });
    this.root = el("section.sx-problems", { "aria-label": "Problems" },
      el("div.sx-row.sx-between", {}, el("h3", { text: "Problems" }), this.count, this.button), this.progress, this.status, this.body);
  }

  /** Another dataset, or another split of it. */
  show(columns) {
    this.columns = columns;
    this.check = { state: "none" };
    this._draw();
    this._ask(columns);
  }

  async _start() {
    this.button.disabled = true;
    try {
      this._take(await askJson("data/check", { method: "POST", query: this.query() }), this.columns);
    } catch (error) {
      this.button.disabled = false;
      complain(error);
    }
  }

  async _ask(columns) {
    clearTimeout(this._again);
    if (columns !== this.columns || !this.root.isConnected) return;
    if (document.hidden || !this.root.offsetParent) { // nobody is looking; ask when somebody is
      this._again = setTimeout(() => this._ask(columns), 2 * ASK_AGAIN_MS);
      return;
    }
    try {
      this._take(await (await ask("data/check", { query: this.query() })).json(), columns);
    } catch { /* the view says what is wrong with the dataset */ }
  }

  _take(check, columns) {
    if (columns !== this.columns) return;
    this.check = check;
    this._draw();
    if (check.state === "running") this._again = setTimeout(() => this._ask(columns), ASK_AGAIN_MS);
  }

  _draw() {
    const { check, columns } = this;
    const running = check.state === "running";
    this.button.disabled = running;
    setText(this.button, running ? "Checking…" : check.state === "done" ? "Checked" : "Check every image");
    this.button.disabled = running || check.state === "done";
    this.progress.hidden = !running;
    if (check.total) this.progress.value = check.done / check.total;
    else this.progress.removeAttribute("value");
    const problems = [...columns.problems, ...(check.problems ?? [])];
    setText(this.count, problems.length ? String(problems.length) : "");
    setText(this.status, statusWords(check, columns, problems));
    this.status.classList.toggle("sx-false", check.state === "failed");
    const kinds = new Map();
    for (const problem of problems) kinds.set(problem.kind, [...(kinds.get(problem.kind) ?? []), problem]);
    const drawn = JSON.stringify(problems);
    if (drawn === this.drawn && this.drawnFor === columns) return;
    Object.assign(this, { drawn, drawnFor: columns });
    this.body.hidden = !problems.length;
    this.body.replaceChildren(...[...kinds].map(([kind, found]) => this._kind(kind, found, kinds.size <= 3)));
  }

  _kind(kind, found, open) {
    const list = el("ul.sx-problem-list", {}, ...found.slice(0, SHOWN_AT_FIRST).map((problem) => this._item(problem)));
    const more = found.length > SHOWN_AT_FIRST ? el("button.sx-button.sx-more", { text: `Show all ${found.length}`, onclick: () => {
      list.replaceChildren(...found.map((problem) => this._item(problem)));
      more.remove();
    } }) : null;
    return el("details.sx-problem-kind", { open }, el("summary", { text: `${kind[0].toUpperCase()}${kind.slice(1)} (${found.length})` }), list, more);
  }

  _item({ path, detail, row }) {
    const words = el("span.sx-problem-words", {}, el("strong", { text: path }), el("span.sx-help", { text: detail }));
    if (row === null || row === undefined) return el("li.sx-problem", {}, words);
    const picture = el("span.sx-problem-picture", {}, thumbnailOf(this.query().set, this.columns, row));
    return el("li.sx-problem", {}, el("button.sx-problem-open", { type: "button", onclick: () => this.onOpen(row) }, picture, words));
  }
}

function statusWords(check, columns, problems) {
  const images = columns.ids.length.toLocaleString("en");
  if (check.state === "running") return check.total ? `Looked at ${check.done.toLocaleString("en")} of ${check.total.toLocaleString("en")} images` : "Beginning to look at every image…";
  if (check.state === "failed") return `The check did not come to its end: ${check.message}`;
  if (check.state === "done") return problems.length ? `All ${images} images were looked at.` : `All ${images} images were looked at: nothing is wrong.`;
  return columns.problems.length ? "Found while the files were listed; no image was opened yet." : "Listing the files found nothing wrong; no image was opened yet.";
}
