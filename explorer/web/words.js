// A run in words: its title, its choices, its state.

import { duration, percent } from "./dom.js";
import { isLiveState } from "./store.js";

export const STATE_WORDS = {
  queued: "waiting", starting: "starting", running: "running", stopping: "stopping", stopped: "stopped",
  interrupted: "interrupted", finished: "finished", failed: "failed",
};

export function runTitle(run) {
  return run.name || shortTitle(run);
}

function shortTitle(run) {
  const { method, dataset, label_ratio: ratio } = run.choices;
  const made = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)/.exec(run.id);
  const when = made ? `${Number(made[3])}.${Number(made[2])}. ${made[4]}:${made[5]}` : run.id;
  return `${method ?? "run"} on ${dataset ?? "?"}, ${ratio ?? "?"} %, ${when}`;
}

export function runChoices(run) {
  const { method, pseudo, pooling, dataset, label_ratio: ratio, num_classes: classes, backbone, seed } = run.choices;
  const words = [method, pseudo && `on ${pseudo}`, pooling && `${pooling} pooling`, dataset, ratio && `${ratio} % labels`];
  if (classes) words.push(`${classes} classes`);
  words.push(backbone, seed !== null && `seed ${seed}`);
  return words.filter(Boolean).join(" · ");
}

export function runFacts(run) {
  const words = [run.choices.method, run.choices.dataset, `${run.choices.label_ratio} % labels`];
  if (run.accuracy !== null) words.push(`test ${percent(run.accuracy)}`);
  words.push(STATE_WORDS[run.state] ?? run.state, progressWords(run));
  return words.filter(Boolean).join(" · ");
}

export function progressWords(run) {
  if (run.state === "finished") return `${run.epoch} epochs`;
  if (!isLiveState(run.state)) return `after epoch ${run.epoch ?? 0} of ${run.epochs ?? "?"}`;
  if (run.state === "queued") return "until the device is free";
  if (run.state === "starting") return "loading the network and the images";
  const left = run.eta_s ? `, ${duration(run.eta_s)} left` : "";
  return `epoch ${run.epoch} of ${run.epochs}${left}`;
}
