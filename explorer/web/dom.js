// Small helpers for building the page: elements, numbers in words, questions that must be answered.

/** An element: el("button.primary", {onclick, text, title, ...}, ...children). */
export function el(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Replace an element's text only if it changed: a screen reader is not told the same twice, nothing flickers. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function percent(value, digits = 1) {
  return value === null || value === undefined ? "–" : `${value.toFixed(digits)} %`;
}

export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 100000)) return value.toExponential(1);
  return Number(value.toPrecision(digits)).toString();
}

/** Seconds in words: "8 s", "2 min 10 s", "1 h 5 min". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 3600) return `${Math.round(whole / 60)} min`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}

export function bytes(size) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (size >= 1000 && at < units.length - 1) {
    size /= 1000;
    at += 1;
  }
  return `${size >= 100 || at === 0 ? Math.round(size) : size.toFixed(1)} ${units[at]}`;
}

/** A row of choices of which one holds; the arrow keys move between them. */
export function segmented(label, choices, current, onchange) {
  const name = `choice-${Math.random().toString(36).slice(2)}`;
  const group = el("fieldset.sx-segmented", {}, el("legend.sx-label", { text: label }));
  const row = el("div.sx-segments");
  for (const [value, text, title] of choices) {
    const input = el("input", { type: "radio", name, value, onchange: () => onchange(value) });
    input.checked = value === current;
    row.append(el("label", { title }, input, el("span", { text })));
  }
  group.append(row);
  group.select = (value) => {
    for (const input of row.querySelectorAll("input")) input.checked = input.value === value;
  };
  return group;
}

let selectBoxes = 0;

export function selectBox(label, choices, current, onchange) {
  const id = `sx-choice-${(selectBoxes += 1)}`;
  const select = el("select.sx-select", { id, onchange: () => onchange(select.value) });
  const wrapper = el("div.sx-field", {}, el("label.sx-label", { for: id, text: label }), select);
  wrapper.fill = (options, value) => {
    select.replaceChildren(...options.map(([key, text, title]) => el("option", { value: key, text, title })));
    select.value = value;
    if (select.selectedIndex < 0 && select.options.length) select.selectedIndex = 0;
  };
  wrapper.select = select;
  wrapper.fill(choices, current);
  return wrapper;
}

export function checkBox(label, current, onchange, title = null) {
  const input = el("input", { type: "checkbox", onchange: () => onchange(input.checked) });
  input.checked = current;
  const wrapper = el("label.sx-check", { title }, input, el("span", { text: label }));
  wrapper.input = input;
  return wrapper;
}

/** A message in the page, gone after a while unless it is an error. */
export function toast(message, { hint = "", error = false } = {}) {
  let shelf = document.querySelector(".sx-toasts");
  if (!shelf) {
    shelf = el("div.sx-toasts", { role: "status", "aria-live": "polite" });
    document.body.append(shelf);
  }
  const note = el(`div.sx-toast${error ? ".sx-error" : ""}`, {},
    el("div", {}, el("strong", { text: message }), hint ? el("div", { text: hint }) : null),
    el("button.sx-icon", { text: "×", "aria-label": "Close this message", onclick: () => note.remove() }));
  shelf.append(note);
  while (shelf.children.length > 4) shelf.firstChild.remove();
  setTimeout(() => note.remove(), error ? 15000 : 4000);
}

export const complain = (error) => toast(error.message, { hint: error.hint, error: true });

/** Ask before something that cannot be undone; resolves to whether it was confirmed. */
export function confirmed({ title, text, action }) {
  return new Promise((resolve) => {
    const dialog = el("dialog.sx-dialog", { "aria-label": title, onclose: () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    } },
    el("form", { method: "dialog" },
      el("h3", { text: title }),
      el("p", { text }),
      el("div.sx-row.sx-end", {},
        el("button.sx-button", { value: "no", text: "Cancel" }),
        el("button.sx-button.sx-danger", { value: "yes", text: action }))));
    document.body.append(dialog);
    dialog.showModal();
  });
}
