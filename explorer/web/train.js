// The Train view's right side: the runs there are, and the open one live.

import { ask, askJson, isLiveState, runPath, store } from "./store.js";
import { bytes, complain, confirmed, el, percent, setText, toast } from "./dom.js";
import { Chart, followTheme } from "./charts.js";
import { Strip } from "./strip.js";
import { STATE_WORDS, progressWords, runChoices, runTitle } from "./words.js";
import { download } from "./pictures.js";

const ROWS_AT_FIRST = 200;

export async function mount(root) {
  await store.start();
  const list = el("section.sx-runs", { "aria-label": "Runs" });
  const panel = el("section.sx-run", { "aria-label": "The open run" });
  root.replaceChildren(el("div.sx-offline", { hidden: true, role: "alert" }), list, panel);
  new RunList(list);
  new RunPanel(panel);
  const offline = root.querySelector(".sx-offline");
  store.on("connection", () => {
    offline.hidden = store.connected;
    setText(offline, "The server does not answer. Runs go on without it; this page keeps trying.");
  });
}

class RunList {
  constructor(root) {
    this.search = el("input.sx-input", { type: "search", placeholder: "Find a run", "aria-label": "Find a run", oninput: () => this.fill() });
    this.file = el("input", { type: "file", accept: ".zip", hidden: true, "aria-label": "A run that was exported as a zip", onchange: () => this.bring() });
    this.count = el("span.sx-help", { role: "status" });
    this.body = el("div.sx-run-rows", { role: "listbox", "aria-label": "Runs" });
    this.rows = new Map();
    root.replaceChildren(
      el("div.sx-row.sx-between.sx-head", {}, el("h3", { text: "Runs" }), this.count,
        el("div.sx-row", {}, this.search, el("button.sx-button", { text: "Import a run…", title: "Open a run that was exported as a zip", onclick: () => this.file.click() }), this.file)),
      this.body);
    store.on("list", () => this.fill());
    store.on("run", () => this.fill());
    this.fill();
  }

  fill() {
    const wanted = this.search.value.trim().toLowerCase();
    const runs = [...store.runs.values()]
      .filter((run) => !wanted || `${run.id} ${runTitle(run)} ${runChoices(run)} ${run.state} ${run.notes}`.toLowerCase().includes(wanted))
      .sort((a, b) => (a.id < b.id ? 1 : -1));
    const shown = runs.slice(0, ROWS_AT_FIRST);
    const rows = shown.map((run) => this.row(run));
    // Only what moved is moved: an untouched row keeps its focus.
    if (rows.length !== this.body.children.length || rows.some((row, at) => row !== this.body.children[at])) this.body.replaceChildren(...rows);
    const total = store.runs.size;
    setText(this.count, !store.listKnown ? "Looking for runs…" : total === 0 ? "None yet: start one on the left."
      : shown.length < runs.length ? `the newest ${shown.length} of ${runs.length}; search to find others` : wanted ? `${runs.length} of ${total}` : `${total}`);
  }

  row(run) {
    let row = this.rows.get(run.id);
    if (!row) {
      row = el("button.sx-run-row", { type: "button", role: "option", onclick: () => store.openRun(run.id) });
      row.dataset.run = run.id;
      row.parts = { name: el("span.sx-run-name"), about: el("span.sx-run-about"), state: el("span.sx-state"), accuracy: el("span.sx-run-accuracy"), bar: el("span.sx-run-bar", {}, el("span")) };
      row.append(row.parts.name, row.parts.accuracy, row.parts.about, row.parts.state, row.parts.bar);
      this.rows.set(run.id, row);
    }
    const { name, about, state, accuracy, bar } = row.parts;
    setText(name, runTitle(run));
    setText(about, runChoices(run));
    setText(state, run.demo ? "demonstration" : STATE_WORDS[run.state] ?? run.state);
    state.dataset.state = run.demo ? "demo" : run.state;
    setText(accuracy, run.accuracy === null ? "" : percent(run.accuracy));
    accuracy.title = "Test accuracy (top-1) of the last evaluated epoch";
    bar.hidden = !isLiveState(run.state);
    bar.firstChild.style.width = `${run.steps ? (100 * run.step) / run.steps : 0}%`;
    row.setAttribute("aria-selected", String(run.id === store.place.run));
    return row;
  }

  async bring() {
    const [file] = this.file.files;
    this.file.value = "";
    if (!file) return;
    toast(`Importing ${file.name} (${bytes(file.size)})…`);
    try {
      const { run } = await askJson("import", { method: "POST", body: file, headers: { "Content-Type": "application/zip" } });
      await store.poll();
      store.openRun(run);
      toast("The run was imported.");
    } catch (error) {
      complain(error);
    }
  }
}

class RunPanel {
  constructor(root) {
    this.root = root;
    const action = (text, act, more = "") => el(`button.sx-button${more}`, { text, onclick: () => this.act(act) });
    this.buttons = {
      stop: action("Stop", "stop", ".sx-primary"),
      resume: action("Resume", "resume", ".sx-primary"),
      look: el("button.sx-button", { text: "Look at its attention", onclick: () => store.showView("attention") }),
      export: el("button.sx-button", { text: "Export (zip)", onclick: () => this.export() }),
      prune: el("button.sx-button", { text: "Free space…", onclick: () => this.prune() }),
      delete: el("button.sx-button.sx-danger", { text: "Delete…", onclick: () => this.delete() }),
    };
    this.kept = Promise.resolve();
    this.unkept = 0;
    this.title = el("input.sx-run-title", { "aria-label": "Name of this run", maxlength: "120", placeholder: "Name this run", onchange: () => this.keepNotes() });
    this.notes = el("textarea.sx-notes", { "aria-label": "Notes on this run", placeholder: "Notes", rows: 1, maxlength: "20000", onchange: () => this.keepNotes() });
    this.about = el("p.sx-help");
    this.state = el("span.sx-state");
    this.progressText = el("span.sx-progress-text", { role: "status" });
    this.progress = el("progress.sx-progress", { max: 1, value: 0, "aria-label": "Progress of the run" });
    this.problem = el("div.sx-notice", { hidden: true, role: "alert" });
    this.stripRoot = el("div.sx-strip");
    this.strip = new Strip(this.stripRoot);
    this.charts = store.setup.run_charts.map((definition) => followTheme(new Chart(definition, { onPick: (x) => this.lookAt(x) })));
    this.log = el("pre.sx-log", { tabindex: "0", "aria-label": "The run's log" });
    this.logBox = el("section.sx-log-box", {}, el("strong", { text: "Log" }), this.log);
    this.size = el("span.sx-help");
    this.content = el("div", {},
      el("div.sx-row.sx-between.sx-run-head", {}, this.title, el("div.sx-row", {}, this.buttons.stop, this.buttons.resume, this.buttons.look)),
      this.about,
      el("div.sx-row.sx-progress-row", {}, this.state, this.progress, this.progressText),
      this.problem, this.stripRoot,
      el("div.sx-charts.sx-two", {}, ...this.charts.map((chart) => chart.root), this.logBox),
      this.notes,
      el("div.sx-row.sx-between", {}, this.size, el("div.sx-row", {}, this.buttons.export, this.buttons.prune, this.buttons.delete)));
    this.empty = el("div.sx-empty", {}, el("h3", { text: "No run is open" }), el("p", { text: "Start one on the left: the default takes about two minutes and needs nothing else." }));
    root.replaceChildren(this.empty, this.content);
    store.on("run", () => this.open());
    store.on("list", () => this.describe());
    store.on("live", () => this.update());
    this.open();
    this.update();
  }

  open() {
    this.sizeOf = null;
    this.describe();
    this.strip.open(store.place.run);
    for (const chart of this.charts) {
      chart.shown = null;
      chart.fill(() => ({ x: [], y: [] }));
    }
    setText(this.log, "");
  }

  describe() {
    const { run } = store;
    this.content.hidden = !run;
    this.empty.hidden = Boolean(run);
    if (!run) return;
    this.title.placeholder = runTitle(run);
    for (const [field, text] of [[this.title, run.name], [this.notes, run.notes]]) {
      // What somebody writes, or has just written, is newer than what the list says of it.
      if (document.activeElement !== field && !(this.unkept && run.id === this.described)) field.value = text;
      field.readOnly = run.demo;
    }
    this.described = run.id;
    setText(this.about, `${runChoices(run)} · ${run.id}`);
    setText(this.state, run.demo ? "demonstration" : STATE_WORDS[run.state] ?? run.state);
    this.state.dataset.state = run.demo ? "demo" : run.state;
    const live = isLiveState(run.state);
    this.progress.hidden = !live && run.state === "finished";
    const known = run.steps > 0;
    if (live && !known) this.progress.removeAttribute("value");
    else this.progress.value = known ? run.step / run.steps : 0;
    setText(this.progressText, run.demo ? "Recorded beforehand; it comes with the program." : progressWords(run));
    this.buttons.stop.hidden = !live;
    this.buttons.stop.disabled = run.state === "stopping";
    setText(this.buttons.stop, run.state === "stopping" ? "Stopping…" : run.state === "queued" ? "Take out of the queue" : "Stop");
    this.buttons.resume.hidden = !["stopped", "failed", "interrupted"].includes(run.state) || run.demo;
    this.buttons.prune.hidden = run.state !== "finished" || run.demo;
    this.buttons.delete.hidden = live || run.demo;
    this.buttons.export.disabled = live;
    this.buttons.export.title = live ? "Wait for the run to end, or stop it" : "The whole run with its pictures, as one file";
    this._sayProblem(run);
    this._measureSize(run);
  }

  _sayProblem(run) {
    const words = [];
    if (run.error) words.push(run.error.message, run.error.hint);
    else if (run.state === "interrupted") words.push("The run's process is gone: it was killed, or the computer went off. What was recorded is kept; Resume goes on from the last finished epoch.");
    this.problem.hidden = !words.length;
    this.problem.classList.toggle("sx-error", run.state === "failed");
    setText(this.problem, words.filter(Boolean).join(" "));
  }

  async _measureSize(run) {
    if (this.sizeOf === `${run.id}/${run.state}`) return;
    this.sizeOf = `${run.id}/${run.state}`;
    try {
      const about = await askJson(runPath(run.id, "/size"));
      if (store.place.run === run.id) setText(this.size, `${bytes(about.bytes)} on disk`);
    } catch { setText(this.size, ""); }
  }

  update() {
    const { live } = store;
    if (!live || live.id !== store.place.run) return;
    if (live.gone) {
      this.content.hidden = true;
      this.empty.hidden = false;
      setText(this.empty.querySelector("h3"), "This run is gone");
      setText(this.empty.querySelector("p"), "Its folder was deleted. Choose another run, or start a new one.");
      return;
    }
    setText(this.empty.querySelector("h3"), "No run is open");
    const { steps, epochs, status } = live;
    const perEpoch = status.steps && status.epochs ? status.steps / status.epochs : null;
    // Steps are drawn at their place within their epoch, so that all charts have one axis.
    const place = (point) => (perEpoch ? point.step / perEpoch : point.step);
    const points = (value, source) => source === "steps"
      ? { x: steps.map(place), y: steps.map((point) => point[value] ?? null) }
      : { x: epochs.map((point) => point.epoch), y: epochs.map((point) => point[value] ?? null) };
    for (const chart of this.charts) {
      // The status changes twice a second; a chart is drawn again only for points that are new.
      const count = chart.definition.curves[0].source === "steps" ? steps.length : epochs.length;
      const shown = `${live.id}/${count}/${perEpoch}`;
      if (chart.shown === shown) continue;
      chart.shown = shown;
      chart.fill(points);
    }
    const atEnd = this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - 8;
    setText(this.log, live.log);
    if (atEnd) this.log.scrollTop = this.log.scrollHeight;
    this.strip.update();
  }

  /** A click on a curve opens the attention at that epoch. */
  lookAt(x) {
    const recorded = store.live?.recorded ?? [];
    if (!recorded.length) return;
    const epoch = recorded.reduce((best, value) => (Math.abs(value - x) < Math.abs(best - x) ? value : best));
    store.openImage(store.place.image, epoch);
    store.showView("attention");
  }

  // --- Changing the run -------------------------------------------------------------------------------------------

  async act(what) {
    const { run } = store;
    if (what === "stop") {
      this.buttons.stop.disabled = true;
      setText(this.buttons.stop, "Stopping…");
    }
    try {
      await ask(runPath(run.id, `/${what}`), { method: "POST" });
    } catch (error) {
      complain(error);
    }
    store.poll();
  }

  // One after the other: what was written first must not arrive last.
  keepNotes() {
    const { run } = store;
    if (!run || run.demo) return;
    const written = JSON.stringify({ name: this.title.value, notes: this.notes.value });
    this.unkept += 1;
    this.kept = this.kept.then(async () => {
      try {
        await ask(runPath(run.id, "/notes"), { method: "POST", body: written, headers: { "Content-Type": "application/json" } });
      } catch (error) {
        complain(error);
      }
      await store.poll();
      this.unkept -= 1;
    });
  }

  async export() {
    toast("Packing the run with its pictures…");
    try {
      await download(runPath(store.run.id, "/archive.zip"));
    } catch (error) {
      complain(error);
    }
  }

  async prune() {
    const { run } = store;
    const text = "Removes what only resuming and earlier epochs' weights need. Curves, recorded maps and the trained network stay.";
    if (!await confirmed({ title: "Free space", text, action: "Free space" })) return;
    try {
      const answer = await askJson(runPath(run.id, "/prune"), { method: "POST" });
      toast(`${bytes(answer.freed)} freed.`);
      this.sizeOf = null;
      this.describe();
    } catch (error) {
      complain(error);
    }
  }

  async delete() {
    const { run } = store;
    const text = `${runTitle(run)}: its curves, recorded maps and weights are removed from the disk. This cannot be undone.`;
    if (!await confirmed({ title: "Delete this run?", text, action: "Delete" })) return;
    try {
      await ask(runPath(run.id, "/delete"), { method: "POST" });
      const next = [...store.runs.values()].filter((other) => other.id !== run.id).sort((a, b) => (a.id < b.id ? 1 : -1))[0];
      await store.poll();
      if (next) store.openRun(next.id);
      toast("The run was deleted.");
    } catch (error) {
      complain(error);
    }
  }
}
