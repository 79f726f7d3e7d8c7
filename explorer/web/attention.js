// The Attention view: a gallery, the player, and beside it what the network said and how the maps agree.

import { ask, address, runPath, store } from "./store.js";
import { complain, el, setText, toast } from "./dom.js";
import { decodeTimeline, appendTimeline } from "./wire.js";
import { outlineOf } from "./draw.js";
import { Chart, followTheme } from "./charts.js";
import { Gallery } from "./gallery.js";
import { LookControls } from "./look.js";
import { Player } from "./player.js";
import { Inspection } from "./inspect.js";
import { download, loadPicture } from "./pictures.js";
import { runFacts, runTitle } from "./words.js";

export async function mount(root) {
  await store.start();
  return new AttentionView(root);
}

class AttentionView {
  constructor(root) {
    this.root = root;
    this.timeline = null;
    this._build();
    store.on("image", () => this._openImage());
    store.on("run", () => this._openImage());
    store.on("recorded", () => this._addEpochs());
    store.on("look", () => this._show());
    store.on("live", () => this._describeRun());
    store.on("list", () => this._describeRun());
    document.addEventListener("keydown", (event) => this._key(event));
    this._describeRun();
    this._openImage();
  }

  _build() {
    const setup = store.setup;
    this.runChoice = el("select.sx-select.sx-run-choice", { "aria-label": "Run", onchange: () => store.openRun(this.runChoice.value) });
    this.runFacts = el("p.sx-help");
    this.title = el("h2.sx-image-title");
    this.facts = el("p.sx-facts", { "aria-live": "off" });
    this.problem = el("div.sx-notice", { hidden: true, role: "status" });
    this.nothing = el("div.sx-empty", { hidden: true, role: "status" });
    this.playerRoot = el("div.sx-player");
    this.player = new Player(this.playerRoot, {
      setup, label: "the image", names: (kind) => setup.maps[kind]?.label ?? kind,
      onEpoch: (epoch, isLast) => {
        store.noteEpoch(isLast ? null : epoch);
        this._describeEpoch();
      },
    });
    this.insight = el("div.sx-insight");
    const look = el("div.sx-look");
    this.look = new LookControls(look, store);
    this.charts = setup.image_charts.map((definition) => followTheme(new Chart(definition, {
      onPick: (epoch) => this.player.seekEpoch(epoch),
    })));
    const gallery = el("aside.sx-gallery", { "aria-label": "Images of this run" });
    const inspection = el("section.sx-inspection");
    const save = (text, path, more) => el("button.sx-button", { text, onclick: () => this._save(path, more) });
    this.root.replaceChildren(el("div.sx-attention", {},
      el("div.sx-side", {}, el("div.sx-run-picker", {}, el("span.sx-label", { text: "Run" }), this.runChoice, this.runFacts), gallery),
      el("div.sx-stage", {},
        el("header.sx-stage-head", {}, this.title, this.facts),
        this.nothing, this.problem, this.playerRoot, this.insight, look,
        el("div.sx-charts.sx-two", {}, ...this.charts.map((chart) => chart.root)),
        el("div.sx-row.sx-save", {},
          el("button.sx-button", { text: "Copy link", title: "A link that reopens this run, image, epoch and look", onclick: () => this._copyLink() }),
          save("Save frame (PNG)", "frame.png", true), save("Save all epochs (GIF)", "animation.gif"), save("Save maps (NPZ)", "maps.npz"),
          el("span.sx-help.sx-keys", { text: "Keys: ← → one epoch, space plays, ↑ ↓ another image" })),
        inspection)));
    this.gallery = new Gallery(gallery);
    this.inspection = new Inspection(inspection);
  }

  // --- Which run --------------------------------------------------------------------------------------------------

  _describeRun() {
    const runs = [...store.runs.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
    const options = runs.map((run) => `${run.id}\n${runTitle(run)}`).join("\n");
    if (options !== this.optionsShown) {
      this.optionsShown = options;
      this.runChoice.replaceChildren(...runs.map((run) => el("option", { value: run.id, text: runTitle(run) })));
    }
    this.runChoice.value = store.place.run ?? "";
    const { run } = store;
    if (!run) {
      setText(this.runFacts, "");
      if (store.listKnown && store.place.run) this._clear("This run is not here", "It may have been deleted. Choose another on the left.");
      return;
    }
    setText(this.runFacts, runFacts(run));
  }

  /** Words above the player: what keeps it from showing everything. Null when nothing does. */
  _say(words) {
    setText(this.problem, words ?? "");
    this.problem.hidden = !words;
  }

  // --- Which image ------------------------------------------------------------------------------------------------

  async _openImage() {
    const { run, image, epoch } = store.place;
    if (run !== this.inspectionRun) {
      this.inspectionRun = run;
      this.inspection.openRun(run);
    }
    this._describeRun();
    if (!run) return this._clear("No run is open", "Start one in the Train view; its attention shows here while it learns.");
    if (!image) return this._clear("No image yet", "The run's images show on the left as soon as it has listed them.");
    if (this.timeline && this.timeline.about.run === run && this.timeline.about.id === image) {
      if (epoch !== null) this.player.seekEpoch(epoch);
      return;
    }
    const wanted = `${run}/${image}`;
    if (this.wanted === wanted) return; // it is on its way
    this.wanted = wanted;
    this.player.pause();
    try {
      const response = await ask(runPath(run, "/timeline"), { query: { image } });
      const timeline = decodeTimeline(await response.arrayBuffer());
      if (this.wanted !== wanted) return;
      this.timeline = timeline;
      this._say(null);
      this.root.classList.remove("sx-nothing");
      this.nothing.hidden = true;
      this.player.setTimeline(timeline, epoch);
      this._show();
      this._loadPictures(run, timeline.about);
      this._fillCharts();
      this.inspection.openImage(timeline.about);
      this.wanted = null;
      this._catchUp();
    } catch (error) {
      if (this.wanted !== wanted) return;
      this.wanted = null;
      this._clear(error.message, error.hint);
    }
  }

  /** Nothing can be shown: say why, and what to do, in place of an empty player. */
  _clear(words, hint = "") {
    this.nothing.replaceChildren(el("h3", { text: words }), el("p", { text: hint }));
    this.nothing.hidden = false;
    this.root.classList.add("sx-nothing");
    this.timeline = null;
    this.player.setTimeline(null);
    this.player.setPhotograph(null);
    setText(this.title, "");
    setText(this.facts, "");
    this.insight.replaceChildren();
    this._say(null);
    this._show();
  }

  async _loadPictures(run, about) {
    const isOpen = () => this.timeline?.about.run === run && this.timeline.about.id === about.id;
    this.player.setOutline(null);
    try {
      const picture = await loadPicture(address(runPath(run, `/view/${about.row}`)));
      if (!isOpen()) return;
      this.player.setPhotograph(picture);
    } catch {
      if (!isOpen()) return;
      this.player.setPhotograph(null);
      ask(runPath(run, `/view/${about.row}`)).catch((error) => this._say(`${error.message} ${error.hint}`));
    }
    if (!about.mask) return;
    try {
      const outline = outlineOf(await loadPicture(address(runPath(run, `/mask/${about.row}`))));
      if (isOpen()) this.player.setOutline(outline);
    } catch { /* the outline is an extra */ }
  }

  /** New epochs of a run that is going on join by themselves. */
  _addEpochs() {
    const { timeline } = this;
    if (!timeline || timeline.about.run !== store.place.run) return this._openImage();
    if ((store.live?.recorded ?? []).length < timeline.about.epochs.length) { // the run was started over
      this.timeline = null;
      return this._openImage();
    }
    return this._catchUp();
  }

  // Another epoch may come while one is fetched, and may be the last to come.
  async _catchUp() {
    if (this.isCatchingUp) return;
    this.isCatchingUp = true;
    while (this._isBehind() && await this._fetchNewEpochs());
    this.isCatchingUp = false;
  }

  _isBehind() {
    const about = this.timeline?.about;
    return about && store.live?.id === about.run && store.live.recorded.length > about.epochs.length;
  }

  /** Whether there may be more of them. */
  async _fetchNewEpochs() {
    const { timeline } = this;
    try {
      const response = await ask(runPath(timeline.about.run, "/timeline"), {
        query: { image: timeline.about.id, after: timeline.about.epochs.at(-1) ?? -1 },
      });
      const news = decodeTimeline(await response.arrayBuffer());
      if (this.timeline !== timeline) return true;
      if (!news.about.epochs.length) return false;
      const follow = this.player.isAtEnd;
      this.timeline = appendTimeline(timeline, news);
      this.player.setTimeline(this.timeline, follow ? null : this.player.epoch);
      this._show();
      this._fillCharts();
      return true;
    } catch {
      return false; // the next epoch tries again
    }
  }

  // --- What is shown ----------------------------------------------------------------------------------------------

  get kinds() {
    const { target, energy } = store.look;
    const suffix = target === "predicted" ? "_predicted" : "";
    const about = this.timeline?.about;
    const kinds = [`cam${suffix}`, `gradcam${suffix}`, "learned"];
    if (about?.pseudo && !["cam", "gradcam"].includes(about.pseudo) && about.pseudo in this.timeline.maps) kinds.push(about.pseudo);
    if (energy) kinds.push("energy");
    return kinds;
  }

  _show() {
    const about = this.timeline?.about;
    if (this.timeline) {
      const there = Object.keys(this.timeline.maps).filter((kind) => this.timeline.maps[kind]);
      this.look.fit({ kinds: there, box: about.box, parts: about.parts.length, mask: about.mask });
    }
    this.player.show({ kinds: this.kinds, look: store.look });
    this._describeEpoch();
    this._explain();
  }

  _describeEpoch() {
    const about = this.timeline?.about;
    for (const chart of this.charts) chart.mark(this.player.epoch);
    if (!about) return;
    const classes = this.gallery.columns?.classes ?? [];
    setText(this.title, about.id);
    const label = classes[about.label] ?? `class ${about.label}`;
    const at = this.player.point;
    const split = about.labelled ? "labelled training image" : `${about.split} image`;
    this.facts.replaceChildren(el("span", { text: `${split} · true class ` }), el("strong", { text: label }));
    if (!about.epochs.length) return;
    const predicted = classes[about.predicted[at]] ?? `class ${about.predicted[at]}`;
    const right = about.predicted[at] === about.label;
    this.facts.append(
      el("span", { text: " · predicted " }), el(`strong.${right ? "sx-right" : "sx-false"}`, { text: predicted }),
      el("span", { text: ` ${right ? "(right)" : "(wrong)"}, confidence ${Math.round(100 * about.confidence[at])} %` }));
  }

  /** Plain sentences about what could puzzle: two equal maps, a uniform target. */
  _explain() {
    const about = this.timeline?.about;
    const sentences = [];
    if (about?.pooling === "gap") {
      const cells = this.timeline.maps.gradcam?.grid.reduce((a, b) => a * b, 1) ?? 49;
      sentences.push(
        `CAM and Grad-CAM coincide here: under global average pooling Grad-CAM is CAM divided by the ${cells} cells of the map, ` +
        "the same picture at another scale. Choose the values “Raw, one scale for all maps” to see the difference in size.");
    }
    if (about && this.timeline.maps.learned === null) {
      sentences.push(`Method ${about.method} trains no attention head, so there is no learned attention to compare.`);
    }
    this.insight.replaceChildren(...sentences.map((text) => el("p", { text })));
  }

  _fillCharts() {
    const about = this.timeline?.about;
    for (const chart of this.charts) {
      chart.fill((value) => ({ x: about.epochs, y: lookUp(about.measures, value, about.epochs.length) }));
      chart.mark(this.player.epoch);
    }
  }

  // --- Keys, link, saving -----------------------------------------------------------------------------------------

  _key(event) {
    if (!this.root.offsetParent || event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    if (target.closest("input:not(.sx-slider), select, textarea, [contenteditable], dialog")) return;
    const inSlider = target.classList.contains("sx-slider");
    const inControl = target.closest("button, a, summary, .js-plotly-plot");
    if (event.key === "ArrowLeft" && !inSlider) this.player.step(-1);
    else if (event.key === "ArrowRight" && !inSlider) this.player.step(1);
    else if (event.key === " " && !inControl) this.player.toggle();
    else if (event.key === "Home" && !inSlider) this.player.seek(0);
    else if (event.key === "End" && !inSlider) this.player.seek(Infinity);
    else if ((event.key === "ArrowUp" || event.key === "ArrowDown") && !inSlider) {
      const image = this.gallery.neighbour(event.key === "ArrowUp" ? -1 : 1);
      if (!image) return;
      store.openImage(image);
    } else return;
    event.preventDefault();
  }

  async _copyLink() {
    store._keepLink();
    try {
      await navigator.clipboard.writeText(store.link());
      toast("The link is copied.");
    } catch {
      toast("This browser does not let the page copy.", { hint: `The link is in the address bar: ${store.link()}` });
    }
  }

  async _save(path, oneFrame = false) {
    const about = this.timeline?.about;
    if (!about) return;
    const { look } = store;
    const query = {
      image: about.id, epoch: oneFrame ? this.player.epoch : null, maps: this.kinds.join(), scale: look.scale,
      opacity: look.opacity, colours: look.colours, cells: look.cells ? 1 : 0, predicted: look.target === "predicted" ? 1 : 0,
      first: look.first, second: look.second,
    };
    try {
      await download(runPath(about.run, `/${path}`), query);
    } catch (error) {
      complain(error);
    }
  }
}

/** One list of a nested record by its dotted name; a figure that no epoch changes is repeated. */
function lookUp(measures, name, count) {
  let value = measures;
  for (const part of name.split(".")) value = value?.[part];
  if (Array.isArray(value)) return value;
  return new Array(count).fill(value ?? null);
}
