// The list of datasets: those that can be opened, those that cannot, and those that are not here.

import { askJson } from "./store.js";
import { complain, el, setText, toast } from "./dom.js";

const ASK_AGAIN_MS = 700;

export class SetList {
  constructor(root, { onOpen, onChange }) {
    this.onOpen = onOpen;
    this.onChange = onChange;
    this.rows = [];
    this.open = "";
    this.count = el("span.sx-help", { role: "status" });
    this.body = el("div.sx-set-rows", { role: "listbox", "aria-label": "Datasets" });
    this.others = el("div.sx-set-others");
    root.replaceChildren(el("div.sx-row.sx-between.sx-head", {}, el("h3", { text: "Datasets" }), this.count), this.body, this.others);
    // Folders may have come while another view was open; while this one is, nothing is asked again and again.
    new IntersectionObserver(([entry]) => {
      if (entry.isIntersecting && this.left) this.load();
      this.left = !entry.isIntersecting;
    }).observe(root);
  }

  async load() {
    clearTimeout(this._again);
    try {
      const answer = await askJson("data/sets");
      this.rows = answer.sets;
      this._fill(answer);
      if (answer.reading && this.body.isConnected) this._again = setTimeout(() => this.load(), ASK_AGAIN_MS);
      this.onChange();
    } catch (error) {
      complain(error);
    }
  }

  /** Which one is open. */
  mark(key) {
    this.open = key;
    for (const item of this.body.children) item.setAttribute("aria-selected", String([item.dataset.key, item.dataset.name].includes(key)));
  }

  _fill({ sets, absent, reading, roots }) {
    // A folder without an image was never meant as a dataset: it is said, but out of the way.
    const unmeant = sets.filter((row) => row.state === "refused" && row.holds_images === false);
    const listed = sets.filter((row) => !unmeant.includes(row));
    setText(this.count, reading ? "reading…" : String(listed.filter((row) => row.state !== "refused").length));
    const focused = document.activeElement?.dataset?.key;
    this.body.replaceChildren(...listed.map((row) => this._row(row)));
    if (focused) [...this.body.children].find((item) => item.dataset.key === focused)?.focus();
    this.mark(this.open);
    const opened = new Set([...this.others.querySelectorAll("details[open]")].map((part) => part.dataset.part));
    const details = (part, title, ...items) => el("details", { "data-part": part, open: opened.has(part) }, el("summary", { text: title }), ...items);
    this.others.replaceChildren(
      ...(absent.length ? [details("absent", `${absent.length} known set${absent.length > 1 ? "s" : ""} not here`, ...absent.map(absentItem))] : []),
      ...(unmeant.length ? [details("unmeant", `${unmeant.length} folder${unmeant.length > 1 ? "s" : ""} without photographs`, ...unmeant.map((row) => el("p.sx-help", { text: row.place })))] : []),
      el("p.sx-help.sx-roots", { text: `Looked for below ${roots.join(" and ")}` }));
  }

  _row(row) {
    const item = el("button.sx-set-row", { type: "button", role: "option", title: row.place || row.description, onclick: () => this.onOpen(row) },
      el("span.sx-set-name", { text: row.label }), el("span.sx-set-about", { text: aboutSet(row) }),
      row.state === "refused" ? el("span.sx-set-error", { text: row.message }) : el("span.sx-set-layout", { text: row.layout ?? row.description }));
    item.dataset.key = row.key;
    item.dataset.name = row.name;
    return item;
  }
}

function aboutSet(row) {
  if (row.state === "refused") return "cannot be opened";
  if (row.state === "closed") return "unpacked when opened";
  if (row.state === "unread") return "being read…";
  const images = Object.values(row.images).reduce((sum, count) => sum + count, 0);
  return `${row.classes} classes, ${images.toLocaleString("en")} images`;
}

function absentItem({ label, description, command }) {
  const copy = el("button.sx-button", { type: "button", text: "Copy", "aria-label": `Copy the command that fetches ${label}`, onclick: async () => {
    try {
      await navigator.clipboard.writeText(command);
      toast("The command is copied.", { hint: "Run it in a terminal, in the program's folder." });
    } catch {
      toast("This browser does not let the page copy.", { hint: command });
    }
  } });
  return el("div.sx-absent", {}, el("strong", { text: label }), el("span.sx-help", { text: `${description}.` }), el("code.sx-command", { text: command, tabindex: "0" }), copy);
}
