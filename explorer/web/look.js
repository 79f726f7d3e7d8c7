// How maps are shown: one row of controls for every player of the page.

import { checkBox, el, segmented, selectBox, setText } from "./dom.js";
import { SCALES } from "./draw.js";

export class LookControls {
  constructor(root, store) {
    this.store = store;
    const { look, setup } = { look: store.look, setup: store.setup };
    const change = (name) => (value) => store.changeLook({ [name]: value });
    const sequential = Object.entries(setup.colour_maps).filter(([, about]) => !about.diverging);
    if (!(look.colours in setup.colour_maps) || setup.colour_maps[look.colours].diverging) look.colours = "viridis";
    if (!(look.scale in SCALES)) look.scale = "distribution";

    this.scale = selectBox("Values", Object.entries(SCALES).map(([key, { label, help }]) => [key, label, help]), look.scale, change("scale"));
    this.colours = selectBox("Colours", sequential.map(([key, about]) => [key, about.label]), look.colours, change("colours"));
    this.opacity = el("input", {
      type: "range", min: "0", max: "1", step: "0.05", value: String(look.opacity),
      oninput: () => store.changeLook({ opacity: Number(this.opacity.value) }),
    });
    this.cells = segmented("Drawn as", [["smooth", "Smooth", "Interpolated between the cells"], ["cells", "Cells", "The map's own grid"]],
      look.cells ? "cells" : "smooth", (value) => store.changeLook({ cells: value === "cells" }));
    this.target = segmented("Maps of", [["label", "True class"], ["predicted", "Predicted class"]], look.target, change("target"));
    this.first = selectBox("Difference", [], look.first, (value) => this._changeDifference("first", value));
    this.second = selectBox("minus", [], look.second, (value) => this._changeDifference("second", value));
    this.truth = {
      box: checkBox("Box", look.box, change("box")),
      parts: checkBox("Parts", look.parts, change("parts")),
      outline: checkBox("Outline", look.outline, change("outline")),
    };
    this.energy = checkBox("Feature energy", look.energy, change("energy"), "The plain mean of the features, a control: bright features alone point at the object");
    this.scaleHelp = el("p.sx-help");
    root.replaceChildren(
      el("div.sx-controls", {},
        this.scale, this.colours,
        el("label.sx-field", {}, el("span.sx-label", { text: "Strength" }), this.opacity),
        this.cells, this.target,
        el("div.sx-pair", {}, this.first, this.second),
        el("fieldset.sx-checks", {}, el("legend.sx-label", { text: "Also show" }),
          el("div.sx-row", {}, this.energy, ...Object.values(this.truth)))),
      this.scaleHelp);
    store.on("look", () => {
      this.second.hidden = !this.store.look.first;
      this._explain();
    });
    this._explain();
  }

  /** Offer what this run and this image have. */
  fit({ kinds, box, parts, mask }) {
    const choices = [["", "off"], ...kinds.map((kind) => [kind, this.store.setup.maps[kind]?.label ?? kind])];
    this.first.fill(choices, this.store.look.first);
    const against = kinds.includes("learned") ? "learned" : "energy";
    this.second.fill(choices.slice(1), this.store.look.second || against);
    this.second.hidden = !this.store.look.first;
    for (const [name, there] of Object.entries({ box, parts, outline: mask })) {
      this.truth[name].hidden = !there;
    }
  }

  // "off" switches the difference off; a first map alone is shown against the last one offered.
  _changeDifference(name, value) {
    if (name === "first") this.store.changeLook({ first: value, second: value ? this.second.select.value : "" });
    else this.store.changeLook({ second: this.first.select.value ? value : "" });
  }

  _explain() {
    const { look } = this.store;
    const drawn = look.cells ? "Drawn in the map's own cells." : "Smoothed between the map's cells.";
    setText(this.scaleHelp, `${SCALES[look.scale].help} ${drawn}`);
  }
}
