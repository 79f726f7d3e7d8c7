// Thumbnails by class. A class is filled when it comes near the window, and shows two lines until it is asked for more:
// 12,000 images cost no more than those that are seen.

import { address } from "./store.js";
import { el, setText } from "./dom.js";
import { SPLIT_WORDS } from "./data-words.js";

const TILE = 92; // as page.css has it, --tile, on a wide page
const GAP = 6;
const LINES_AT_FIRST = 2;
const MORE = 120;
const CLASSES_AT_ONCE = 400;
const NEAR = "700px";
const GROUPS = Object.keys(SPLIT_WORDS);

export class ImageGrid {
  /** `onOpen(row, rows)`: an image was chosen among those shown; `onClass(label)`: a class was. */
  constructor({ onOpen, onClass, query }) {
    this.onOpen = onOpen;
    this.onClass = onClass;
    this.query = query;
    this.rows = [];
    this.sections = new Map();
    this.body = el("div.sx-classes");
    this.more = el("button.sx-button", { text: "Show more classes", hidden: true, onclick: () => {
      this.classesShown += CLASSES_AT_ONCE;
      this._arrange();
    } });
    this.nothing = el("div.sx-empty", { hidden: true, text: "No image is like this." });
    this.root = el("div.sx-image-grid", {}, this.nothing, this.body, this.more);
    this.body.addEventListener("keydown", (event) => this._key(event));
    this.near = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) target.section.fill();
        else target.section.leave();
      }
    }, { rootMargin: NEAR });
    // Hidden, the grid has no width to count its columns by; and a page can be made wider.
    new ResizeObserver(() => {
      if (this.byClass && this.root.clientWidth && this.root.clientWidth !== this.arrangedFor) this._arrange();
    }).observe(this.root);
  }

  /** Show some rows of a dataset. Of the same dataset, what is there already stays. */
  show({ columns, rows, group, counts, oneClass }) {
    if (columns !== this.columns) {
      this.near.disconnect();
      this.sections.clear();
      this.columns = columns;
      this.classesShown = CLASSES_AT_ONCE;
    }
    Object.assign(this, { group, counts, oneClass });
    this.byClass = new Map();
    for (const row of rows) {
      const label = columns.label[row];
      if (!this.byClass.has(label)) this.byClass.set(label, []);
      this.byClass.get(label).push(row);
    }
    this.byClass = new Map([...this.byClass].sort(([a], [b]) => a - b));
    // Labelled ones first: at a glance, these are all that the network is told.
    for (const its of this.byClass.values()) its.sort((a, b) => GROUPS.indexOf(group(a)) - GROUPS.indexOf(group(b)) || a - b);
    this.rows = [...this.byClass.values()].flat();
    this._arrange();
  }

  _arrange() {
    const shown = [...this.byClass].slice(0, this.classesShown);
    this.arrangedFor = this.root.clientWidth;
    const tile = parseFloat(getComputedStyle(this.root).getPropertyValue("--tile")) || TILE;
    const columns = Math.max(2, Math.floor((this.root.clientWidth + GAP) / (tile + GAP)));
    this.body.replaceChildren(...shown.map(([label, rows]) => {
      if (!this.sections.has(label)) this.sections.set(label, new ClassSection(this, label));
      const section = this.sections.get(label);
      section.arrange(rows, this.oneClass ? MORE : LINES_AT_FIRST * columns, columns);
      return section.root;
    }));
    this.nothing.hidden = shown.length > 0;
    this.more.hidden = this.byClass.size <= this.classesShown;
  }

  /** Arrows go from image to image; the tabulator from class to class. */
  _key(event) {
    const tile = event.target.closest(".sx-image");
    if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
    const tiles = [...tile.parentElement.children];
    const line = tiles.filter((other) => other.offsetTop === tiles[0].offsetTop).length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -line, ArrowDown: line, Home: -tiles.length, End: tiles.length }[event.key];
    if (!by) return;
    const at = tiles.indexOf(tile) + by;
    const next = tiles[["Home", "End"].includes(event.key) ? Math.max(0, Math.min(tiles.length - 1, at)) : at];
    if (!next) return; // out of the class the page scrolls as ever
    event.preventDefault();
    next.focus();
  }
}

class ClassSection {
  constructor(grid, label) {
    this.grid = grid;
    this.label = label;
    this.tiles = new Map();
    this.extra = 0;
    this.isFilled = false;
    this.name = el("button.sx-class-name", { type: "button", title: "Show this class alone", text: grid.columns.classes[label], onclick: () => grid.onClass(label) });
    this.facts = el("span.sx-help");
    this.list = el("div.sx-image-tiles");
    this.more = el("button.sx-button.sx-more", { hidden: true, onclick: () => {
      this.extra += MORE;
      this._place();
    } });
    this.root = el("section.sx-class", { "aria-label": grid.columns.classes[label] }, el("h4.sx-class-head", {}, this.name, this.facts), this.list, this.more);
    this.root.section = this;
    grid.near.observe(this.root);
  }

  arrange(rows, atFirst, columns) {
    Object.assign(this, { rows, atFirst });
    const { counts, columns: all } = this.grid;
    const its = counts[this.label];
    const train = (its.labelled ?? 0) + (its.train ?? 0);
    const words = [`${its.labelled ?? 0} labelled of ${train} training`];
    for (const split of all.splits.filter((name) => name !== "train")) words.push(`${its[split] ?? 0} ${SPLIT_WORDS[split].short}`);
    setText(this.facts, words.join(" · "));
    const lines = Math.ceil(Math.min(rows.length, atFirst + this.extra) / columns);
    if (this.isFilled) this._place();
    else this.list.style.minHeight = `${lines * (TILE + GAP)}px`;
  }

  /** The class comes near: make its tiles, or ask again for the pictures that were given up. */
  fill() {
    for (const tile of this.tiles.values()) tile.picture.src ||= tile.source;
    if (this.isFilled) return;
    this.isFilled = true;
    this.list.style.minHeight = "";
    this._place();
  }

  /** The class was scrolled past: pictures that have not come yet give way to those that are in sight. */
  leave() {
    for (const { picture } of this.tiles.values()) if (!picture.complete) picture.removeAttribute("src");
  }

  _place() {
    const shown = this.rows.slice(0, this.atFirst + this.extra);
    this.list.replaceChildren(...shown.map((row, at) => this._tile(row, at)));
    const left = this.rows.length - shown.length;
    this.more.hidden = left <= 0;
    setText(this.more, `Show ${Math.min(left, MORE)} more`);
  }

  _tile(row, at) {
    const { grid } = this;
    if (!this.tiles.has(row)) this.tiles.set(row, makeTile(grid, row));
    const tile = this.tiles.get(row);
    const group = grid.group(row);
    const { badge, words } = SPLIT_WORDS[group];
    tile.tabIndex = at === 0 ? 0 : -1;
    if (tile.dataset.group !== group) {
      tile.dataset.group = group;
      const about = `${grid.columns.ids[row]}, ${words}`;
      tile.setAttribute("aria-label", about);
      tile.title = about;
      tile.mark.className = `sx-badge sx-badge-${group}`;
      setText(tile.mark, badge);
      tile.mark.hidden = !badge;
    }
    return tile;
  }
}

function makeTile(grid, row) {
  const picture = thumbnailOf(grid.query().set, grid.columns, row);
  const tile = el("button.sx-image", { type: "button", onclick: () => grid.onOpen(row, grid.rows) }, picture);
  Object.assign(tile, { picture, source: picture.src });
  tile.dataset.row = row;
  tile.mark = el("span.sx-badge", { "aria-hidden": "true" });
  tile.append(tile.mark);
  return tile;
}

/** The small picture of one image; where there is none, its frame says so. */
export function thumbnailOf(set, columns, row) {
  const picture = el("img", {
    src: address("data/thumb", { set, image: columns.ids[row], v: columns.version }).href, alt: "", loading: "lazy", decoding: "async",
    width: TILE, height: TILE, onerror: () => picture.parentElement?.classList.add("sx-gone"),
  });
  return picture;
}
