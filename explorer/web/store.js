// What one page knows: the runs there are, the run, image and epoch it looks at, and the link that reopens exactly
// this. One poll a second keeps it up to date; nothing is asked while the page is hidden.

const BASE = new URL("explorer/", document.baseURI);
const LIVE_STATES = ["queued", "starting", "running", "stopping"];
const QUIET_INTERVAL = 2500;
const LONGEST_INTERVAL = 10000;

/** The address of one of the server's plain routes, with its query. */
export function address(path, query = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

export function runPath(id, rest = "") {
  return `runs/${encodeURIComponent(id)}${rest}`;
}

/** An answer that says no: `message` for people, `hint` what to do. */
export class Refused extends Error {
  constructor(message, hint = "", status = 0) {
    super(message);
    this.hint = hint;
    this.status = status;
  }
}

/** Ask a route; what it refuses is thrown with the server's own sentence. */
export async function ask(path, { query, method = "GET", body, headers = {} } = {}) {
  let response;
  try {
    response = await fetch(address(path, query), {
      method, body, headers: method === "GET" ? headers : { "X-Explorer": "1", ...headers },
    });
  } catch {
    throw new Refused("The server does not answer.", "Is it still running? Runs go on without it.");
  }
  if (response.ok) return response;
  let answer = {};
  try {
    answer = await response.json();
  } catch { /* no words came with it */ }
  const words = typeof answer.message === "string" ? answer.message : `The server refused (${response.status}).`;
  throw new Refused(words, answer.hint || "", response.status);
}

export async function askJson(path, options) {
  return (await ask(path, options)).json();
}

class Store extends EventTarget {
  constructor() {
    super();
    this.runs = new Map();
    this.listVersion = 0;
    this.listKnown = false;
    this.connected = true;
    this.setup = null;
    this.live = null;
    const query = new URL(location.href).searchParams;
    this.place = {
      tab: query.get("tab"),
      run: query.get("run"),
      image: query.get("image"),
      epoch: query.has("epoch") ? Number(query.get("epoch")) : null,
    };
    this.look = readLook(query);
    this._timer = null;
    this._interval = 0;
    this._asking = false;
    this._again = false;
    document.addEventListener("visibilitychange", () => document.hidden || this.poll());
    window.addEventListener("pagehide", () => clearTimeout(this._timer));
  }

  /** Colour maps, names of maps, charts: everything that no run changes. */
  async start() {
    this._started ??= askJson("setup").then((setup) => {
      for (const colours of Object.values(setup.colour_maps)) colours.table = Uint8Array.from(colours.table);
      this.setup = setup;
      this.poll();
      return setup;
    });
    return this._started;
  }

  on(name, listener) {
    this.addEventListener(name, listener);
    return () => this.removeEventListener(name, listener);
  }

  tell(name) {
    this.dispatchEvent(new Event(name));
  }

  get run() {
    return this.runs.get(this.place.run) || null;
  }

  /** Look at another run; its first image and last epoch are shown unless said otherwise. */
  openRun(id, { image = null, epoch = null } = {}) {
    if (id === this.place.run && image === null) return;
    const changed = id !== this.place.run;
    this.place = { ...this.place, run: id, image, epoch };
    if (changed) this.live = null;
    this._keepLink();
    if (changed) this.tell("run");
    this.tell("image");
    this.poll();
  }

  openImage(image, epoch = this.place.epoch) {
    this.place = { ...this.place, image, epoch };
    this._keepLink();
    this.tell("image");
  }

  /** The epoch under the slider; null follows the last one. Only the link changes: the player knows already. */
  noteEpoch(epoch) {
    if (epoch === this.place.epoch) return;
    this.place.epoch = epoch;
    this._keepLinkSoon();
  }

  noteView(view) {
    this.place.tab = view;
    this._keepLink();
  }

  /** Go to another view, as a click on its tab does. */
  showView(view) {
    document.querySelector(`button[role="tab"][data-tab-id="${view}"]`)?.click();
    this.noteView(view);
  }

  /** Fill the form of the Train view with some of a run's choices, and go there. The form takes them when it is there. */
  proposeRun(choices) {
    this.proposal = choices;
    this.showView("train");
    window.dispatchEvent(new Event("sam-explorer-proposal"));
  }

  /** What was proposed and not taken yet; null if nothing was. */
  takeProposal() {
    const { proposal = null } = this;
    this.proposal = null;
    return proposal;
  }

  changeLook(changes) {
    Object.assign(this.look, changes);
    this._keepLinkSoon();
    this.tell("look");
  }

  /** The link that reopens this run, image and epoch in this look. */
  link() {
    const url = new URL(location.href);
    for (const name of [...url.searchParams.keys()]) {
      if (name in this.place || name in DEFAULT_LOOK) url.searchParams.delete(name);
    }
    for (const [name, value] of Object.entries(this.place)) {
      if (value !== null && value !== undefined) url.searchParams.set(name, value);
    }
    for (const [name, value] of Object.entries(this.look)) {
      const text = asText(value);
      if (text !== asText(DEFAULT_LOOK[name])) url.searchParams.set(name, text);
    }
    return url.href;
  }

  _keepLink() {
    clearTimeout(this._linkTimer);
    this._linkTimer = null;
    history.replaceState(history.state, "", this.link());
  }

  // A browser allows a page some hundred changes of its address a minute: a moving slider must wait.
  _keepLinkSoon() {
    this._linkTimer ??= setTimeout(() => this._keepLink(), 400);
  }

  // --- Polling ----------------------------------------------------------------------------------------------------

  /** Ask now, and from then on again and again. */
  async poll() {
    clearTimeout(this._timer);
    if (document.hidden) return;
    if (this._asking) {
      this._again = true;
      return;
    }
    this._asking = true;
    try {
      const askIn = await this._pollOnce();
      this._interval = [...this.runs.values()].some((run) => LIVE_STATES.includes(run.state)) ? askIn : QUIET_INTERVAL;
      this._setConnected(true);
    } catch (error) {
      this._setConnected(error.status > 0);
      this._interval = Math.min(LONGEST_INTERVAL, Math.max(1000, this._interval * 1.5));
    }
    this._asking = false;
    const wait = this._again ? 0 : this._interval;
    this._again = false;
    this._timer = setTimeout(() => this.poll(), wait);
  }

  /** Takes the news; milliseconds until the server wants to be asked again about a run that is going on. */
  async _pollOnce() {
    const run = this.place.run;
    const response = await ask("pulse", {
      query: { list: this.listVersion, run, cursor: this.live && this.live.id === run ? this.live.cursor : "" },
    });
    const askIn = Number(response.headers.get("X-Explorer-Ask-In")) || QUIET_INTERVAL;
    if (response.status === 204) return askIn;
    const news = await response.json();
    if (news.list) this._takeList(news.list);
    if (news.run && this.place.run === run) this._takeRun(run, news.run);
    return askIn;
  }

  _takeList(list) {
    if (list.whole) this.runs.clear();
    for (const run of list.runs) this.runs.set(run.id, run);
    for (const id of list.removed) this.runs.delete(id);
    this.listVersion = list.version;
    const first = !this.listKnown;
    this.listKnown = true;
    if (first && !this.place.run) this._openFirst();
    this.tell("list");
  }

  /** Without a link: the run that is going on, else the newest one, else the recorded demonstration. */
  _openFirst() {
    const runs = [...this.runs.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
    const own = runs.filter((run) => !run.demo);
    const chosen = own.find((run) => LIVE_STATES.includes(run.state)) || own[0] || runs[0];
    if (chosen) this.openRun(chosen.id, { image: this.place.image, epoch: this.place.epoch });
  }

  _takeRun(id, news) {
    if (news.gone) {
      this.live = { id, gone: true, cursor: "", steps: [], epochs: [], recorded: [], log: "", status: {} };
      this.tell("live");
      return;
    }
    const known = this.live && this.live.id === id && !this.live.gone && !news.reset ? this.live : null;
    const recordedBefore = known ? known.recorded.length : -1;
    this.live = {
      id,
      cursor: news.cursor,
      steps: known ? known.steps.concat(news.steps) : news.steps,
      epochs: known ? known.epochs.concat(news.epochs) : news.epochs,
      status: news.status,
      state: news.state,
      recorded: known ? known.recorded.concat(news.recorded) : news.recorded,
      log: news.log ?? (known ? known.log : ""),
    };
    this.tell("live");
    if (this.live.recorded.length !== recordedBefore) this.tell("recorded");
  }

  _setConnected(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    this.tell("connection");
  }
}

// --- How maps are shown ---------------------------------------------------------------------------------------------

export const DEFAULT_LOOK = {
  scale: "distribution", colours: "viridis", opacity: 0.65, cells: false, target: "label",
  first: "", second: "", energy: false, box: false, parts: false, outline: false,
};

function asText(value) {
  return typeof value === "boolean" ? (value ? "1" : "0") : String(value);
}

function readLook(query) {
  const look = { ...DEFAULT_LOOK };
  for (const [name, normal] of Object.entries(DEFAULT_LOOK)) {
    if (!query.has(name)) continue;
    const text = query.get(name);
    if (typeof normal === "boolean") look[name] = text === "1";
    else if (typeof normal === "number") look[name] = Math.min(1, Math.max(0, Number(text) || 0));
    else look[name] = text.slice(0, 40);
  }
  return look;
}

export const isLiveState = (state) => LIVE_STATES.includes(state);

// One store for all components of the page, whichever of them is mounted first.
export const store = (window.samExplorer ??= new Store());
