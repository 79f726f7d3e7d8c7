// Own photographs: a zip that is sent to the server, or a folder that lies there already.

import { Refused, address, askJson } from "./store.js";
import { bytes, el, setText } from "./dom.js";
import { sentences } from "./data-words.js";

export class AddBox {
  /** `onAdded(key)` is told what has become of them. */
  constructor(root, { onAdded }) {
    this.onAdded = onAdded;
    this.file = el("input", { type: "file", accept: ".zip,application/zip", id: "sx-own-zip", onchange: () => this._take(this.file.files[0]) });
    this.drop = el("label.sx-drop", { for: "sx-own-zip" },
      el("strong", { text: "Drop a zip here, or choose one" }),
      el("span.sx-help", { text: "One folder of photographs for each class, two classes at the least." }), this.file);
    for (const name of ["dragenter", "dragover"]) this.drop.addEventListener(name, (event) => this._over(event, true));
    this.drop.addEventListener("dragleave", (event) => this._over(event, false));
    this.drop.addEventListener("drop", (event) => {
      this._over(event, false);
      this._take(event.dataTransfer.files[0]);
    });
    this.path = el("input.sx-input", { type: "text", "aria-label": "Path of a folder or zip on the server", placeholder: "or a folder's path", spellcheck: "false", autocomplete: "off" });
    this.progress = el("progress.sx-progress", { max: 1, hidden: true, "aria-label": "Upload" });
    this.status = el("p.sx-help", { role: "status" });
    this.problem = el("div.sx-notice.sx-error", { hidden: true, role: "alert" });
    this.cancel = el("button.sx-button", { type: "button", text: "Cancel", hidden: true, onclick: () => this.request?.abort() });
    root.replaceChildren(
      el("h3", { text: "Your own photographs" }), this.drop, this.progress, el("div.sx-row.sx-between", {}, this.status, this.cancel), this.problem,
      el("form.sx-row.sx-path", { onsubmit: (event) => {
        event.preventDefault();
        this._find();
      } }, this.path, el("button.sx-button", { type: "submit", text: "Open" })));
  }

  _over(event, on) {
    event.preventDefault();
    this.drop.classList.toggle("sx-over", on);
  }

  async _take(file) {
    if (!file || this.request) return;
    this.file.value = "";
    this.problem.hidden = true;
    if (!/\.zip$/i.test(file.name)) return this._refuse(new Refused(`${file.name} is no zip.`, "Pack the folder that holds one folder for each class, and choose that zip."));
    this.drop.classList.add("sx-disabled");
    this.file.disabled = true;
    try {
      const { key, label } = await this._send(file);
      setText(this.status, `${label} was added.`);
      this.onAdded(key);
    } catch (error) {
      this._refuse(error);
    }
    this.request = null;
    this.progress.hidden = this.cancel.hidden = true;
    this.file.disabled = false;
    this.drop.classList.remove("sx-disabled");
  }

  /** Upload, with its progress: only this old kind of request tells it. */
  _send(file) {
    return new Promise((resolve, reject) => {
      const request = (this.request = new XMLHttpRequest());
      request.open("POST", address("data/add", { name: file.name }));
      request.setRequestHeader("X-Explorer", "1");
      request.setRequestHeader("Content-Type", "application/zip");
      request.responseType = "json";
      this.progress.hidden = this.cancel.hidden = false;
      this.progress.value = 0;
      request.upload.onprogress = ({ loaded, total }) => {
        this.progress.value = loaded / total;
        setText(this.status, `Sending ${file.name}: ${bytes(loaded)} of ${bytes(total)}`);
      };
      request.upload.onload = () => {
        this.progress.removeAttribute("value");
        this.cancel.hidden = true;
        setText(this.status, "Unpacking, and looking at what is in it…");
      };
      request.onload = () => {
        const answer = request.response ?? {};
        if (request.status === 200) resolve(answer);
        else reject(new Refused(answer.message ?? `The server refused (${request.status}).`, answer.hint ?? "", request.status));
      };
      request.onerror = () => reject(new Refused("The server does not answer.", "Is it still running?"));
      request.onabort = () => reject(new Refused("The upload was cancelled.", "Nothing of it is kept."));
      request.send(file);
    });
  }

  async _find() {
    const path = this.path.value.trim();
    if (!path) return;
    this.problem.hidden = true;
    try {
      const { key } = await askJson("data/find", { method: "POST", query: { path } });
      this.path.value = "";
      setText(this.status, "");
      this.onAdded(key);
    } catch (error) {
      this._refuse(error);
    }
  }

  _refuse(error) {
    setText(this.status, "");
    setText(this.problem, sentences(error));
    this.problem.hidden = false;
  }
}
