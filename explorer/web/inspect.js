// Through the weights: any photograph, or the open image, under any map and for any class.

import { ask, runPath, store } from "./store.js";
import { checkBox, el, selectBox, setText } from "./dom.js";
import { decodeTimeline } from "./wire.js";
import { Player } from "./player.js";
import { loadPicture } from "./pictures.js";

const MAX_BYTES = 50e6;

export class Inspection {
  constructor(root) {
    this.root = root;
    this.source = null;
    this.about = null;
    const { setup } = store;
    this.chosen = new Set(["cam", "gradcam", "learned"]);
    this.boxes = Object.entries(setup.maps).filter(([, map]) => map.on_demand).map(([kind, map]) => checkBox(
      map.label, this.chosen.has(kind),
      (on) => (on ? this.chosen.add(kind) : this.chosen.delete(kind)), map.description));
    this.class = selectBox("For class", [["", "Predicted class"]], "", () => this._run());
    this.epochs = selectBox("Weights", [["last", "After the last epoch"]], "last", () => this._run());
    this.channels = checkBox("All K maps of the attention head", false, () => {});
    this.file = el("input", {
      type: "file", accept: "image/*", id: "sx-photograph", onchange: () => this._take(this.file.files[0]),
    });
    this.drop = el("label.sx-drop", { for: "sx-photograph" },
      el("strong", { text: "Drop a photograph here, or choose one" }),
      el("span.sx-help", { text: "It is looked at by this run's network on this machine and not kept." }), this.file);
    for (const name of ["dragenter", "dragover"]) this.drop.addEventListener(name, (event) => this._over(event, true));
    this.drop.addEventListener("dragleave", (event) => this._over(event, false));
    this.drop.addEventListener("drop", (event) => {
      this._over(event, false);
      this._take(event.dataTransfer.files[0]);
    });
    this.useOpen = el("button.sx-button", { text: "Use the image above", onclick: () => this._useOpenImage() });
    this.again = el("button.sx-button.sx-primary", { text: "Show these maps", disabled: true, onclick: () => this._run() });
    this.status = el("p.sx-help", { role: "status" });
    this.problem = el("div.sx-notice.sx-error", { hidden: true, role: "alert" });
    this.answer = el("ol.sx-top");
    this.playerRoot = el("div.sx-player");
    this.result = el("div.sx-result", { hidden: true }, this.answer, this.playerRoot);
    this.player = new Player(this.playerRoot, {
      setup, label: "the photograph", names: (kind) => nameOf(kind, setup), onEpoch: () => this._showAnswer(),
    });
    this.root.replaceChildren(
      el("h3", { text: "Your own photograph, and more maps" }),
      el("p.sx-help", { text: "Any photograph, or the image above, through this run's network: any pseudo-attention, for any class." }),
      el("div.sx-inspect-grid", {}, this.drop,
        el("div.sx-inspect-choices", {},
          el("fieldset.sx-checks", {}, el("legend.sx-label", { text: "Maps" }), el("div.sx-wrap", {}, ...this.boxes, this.channels)),
          el("div.sx-row", {}, this.class, this.epochs),
          el("div.sx-row", {}, this.useOpen, this.again))),
      this.status, this.problem, this.result);
    store.on("look", () => this._show());
    store.on("live", () => this._checkRun());
  }

  openRun(run) {
    this.run = run;
    this.timeline = null;
    this.result.hidden = true;
    this.problem.hidden = true;
    this.known = null;
    setText(this.status, "");
    this._checkRun();
  }

  openImage(about) {
    this.about = about;
    this.useOpen.disabled = false;
    if (this.source?.image) this.result.hidden = true;
  }

  /** What weights this run has: asked once, and again when it finishes. */
  async _checkRun() {
    const state = store.live?.state ?? store.run?.state;
    if (!this.run || `${this.run}/${state}` === this.known) return;
    this.known = `${this.run}/${state}`;
    try {
      const about = await (await ask(runPath(this.run, "/weights"))).json();
      if (about.run !== this.run) return;
      this.class.fill([["", "Predicted class"], ...about.classes.map((name, label) => [String(label), name])], this.class.select.value);
      const choices = about.finished ? [["last", "After the last epoch"]] : [];
      if (about.kept.length) choices.push(["kept", `Every kept epoch (${about.kept.length})`], ...about.kept.map((epoch) => [String(epoch), `After epoch ${epoch}`]));
      this.epochs.fill(choices, this.epochs.select.value);
      this.available = choices.length > 0;
      this.epochs.hidden = !this.available;
      setText(this.status, this.available ? "" : about.reason);
      this.drop.classList.toggle("sx-disabled", !this.available);
      this.file.disabled = this.useOpen.disabled = !this.available;
      this.again.disabled = !this.available || !this.source;
    } catch (error) {
      setText(this.status, error.message);
    }
  }

  _over(event, on) {
    event.preventDefault();
    this.drop.classList.toggle("sx-over", on);
  }

  _take(file) {
    if (!file || !this.available) return;
    this.file.value = "";
    if (file.size > MAX_BYTES) return this._refuse(`${file.name} has ${Math.round(file.size / 1e6)} MB; the limit is ${MAX_BYTES / 1e6} MB.`);
    this.source = { file, name: file.name };
    this._run();
  }

  _useOpenImage() {
    if (!this.about) return;
    this.source = { image: this.about.id, name: this.about.id };
    this._run();
  }

  async _run() {
    if (!this.source || !this.available) return;
    const maps = [...this.chosen];
    if (!maps.length && !this.channels.input.checked) return this._refuse("Choose at least one map.");
    this.problem.hidden = true;
    const asked = (this.asked = Symbol("the newest question"));
    const slow = maps.some((kind) => store.setup.maps[kind].slow);
    setText(this.status, slow ? `Looking at ${this.source.name}. ScoreCAM and FullGrad need many passes through the network: this can take a minute.` : `Looking at ${this.source.name}…`);
    this.root.setAttribute("aria-busy", "true");
    try {
      const response = await ask(runPath(this.run, "/inspect"), {
        method: "POST", body: this.source.file ?? new Blob([]),
        headers: { "Content-Type": "application/octet-stream" },
        query: {
          image: this.source.image, maps: maps.join(), class: this.class.select.value, epochs: this.epochs.select.value || "last",
          channels: this.channels.input.checked ? 1 : 0,
        },
      });
      const timeline = decodeTimeline(await response.arrayBuffer());
      const picture = await loadPicture(timeline.about.picture);
      if (asked !== this.asked) return;
      this.timeline = timeline;
      this.player.setPhotograph(picture);
      this.player.setTimeline(timeline);
      this.result.hidden = false;
      this.again.disabled = false;
      setText(this.status, "");
      this._show();
      this._showAnswer();
    } catch (error) {
      if (asked === this.asked) this._refuse(`${error.message} ${error.hint ?? ""}`);
    }
    if (asked === this.asked) this.root.removeAttribute("aria-busy");
  }

  _refuse(words) {
    setText(this.status, "");
    setText(this.problem, words);
    this.problem.hidden = false;
  }

  _show() {
    if (!this.timeline) return;
    this.player.show({ kinds: Object.keys(this.timeline.maps), look: { ...store.look, first: "", second: "", box: false, parts: false, outline: false } });
  }

  _showAnswer() {
    const { about } = this.timeline;
    const top = about.top[this.player.point] ?? [];
    this.answer.replaceChildren(...top.map(([name, share]) => el("li", {},
      el("span.sx-top-name", { text: name }),
      el("span.sx-top-bar", {}, el("span", { style: `width:${(100 * share).toFixed(1)}%` })),
      el("span.sx-top-share", { text: `${(100 * share).toFixed(1)} %` }))));
    this.answer.setAttribute("aria-label", `Prediction; maps for ${about.shown_class[this.player.point]}`);
    const shown = el("li.sx-help", { text: `Maps for ${about.shown_class[this.player.point]}` });
    this.answer.append(shown);
  }
}

function nameOf(kind, setup) {
  const channel = /^A(\d+)$/.exec(kind);
  return channel ? `Attention map ${channel[1]}` : setup.maps[kind]?.label ?? kind;
}
