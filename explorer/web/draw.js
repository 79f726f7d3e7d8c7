// Maps made visible in the browser: the same arithmetic as sam_core/overlay.py, pixel for pixel (a test holds that).

/** The four scales on which maps can be shown. `distribution` is what the attention loss compares. */
export const SCALES = {
  distribution: {
    label: "Distribution",
    help: "What the loss compares, each map adding up to 1. One scale for all maps and epochs.",
  },
  frame: { label: "Raw, each its own maximum", help: "Raw values; each map and epoch has its own scale. Shows shape, hides size." },
  epochs: { label: "Raw, one scale over epochs", help: "Raw values; each map is scaled by its largest value of all epochs." },
  maps: { label: "Raw, one scale for all maps", help: "Raw values; all maps and epochs on one scale. Shows which maps are small." },
};

// --- Scales ---------------------------------------------------------------------------------------------------------

const largest = (values) => {
  let best = 0;
  for (const value of values) if (value > best) best = value;
  return best;
};

/** The values of a map at one epoch, on the scale that is shown. */
export function frameOf(map, scale, point) {
  return (scale === "distribution" ? map.distribution : map.raw)[point];
}

/** The two ends of the scale of one map at one epoch, in the units of `frameOf`. */
export function rangeOf(timeline, kinds, kind, scale, point, fullStrength) {
  if (scale === "distribution") return [0, fullStrength];
  if (scale === "frame") return [0, largest(timeline.maps[kind].raw[point])];
  if (scale === "epochs") return [0, largestOfAll(timeline, kind)];
  return [0, Math.max(...kinds.filter((name) => timeline.maps[name]).map((name) => largestOfAll(timeline, name)))];
}

function largestOfAll(timeline, kind) {
  const map = timeline.maps[kind];
  if (map.largestOf !== map.raw.length) {
    map.largest = Math.max(0, ...map.raw.map(largest));
    map.largestOf = map.raw.length;
  }
  return map.largest;
}

/** A minus B of two maps of one grid, and the largest magnitude that its colours stand for. */
export function differenceOf(timeline, first, second, scale, point, fullStrength) {
  const [a, b] = [timeline.maps[first], timeline.maps[second]];
  const values = subtract(frameOf(a, scale, point), frameOf(b, scale, point));
  if (scale === "distribution") return { grid: a.grid, values, end: fullStrength / 2 };
  if (scale === "frame") return { grid: a.grid, values, end: magnitude(values) };
  const key = `${first}/${second}`;
  const kept = (a.differences ??= {});
  if (kept[key]?.of !== a.raw.length) {
    const end = Math.max(0, ...a.raw.map((frame, index) => magnitude(subtract(frame, b.raw[index]))));
    kept[key] = { of: a.raw.length, end };
  }
  return { grid: a.grid, values, end: kept[key].end };
}

const subtract = (a, b) => a.map((value, cell) => value - b[cell]);
const magnitude = (values) => largest(values.map(Math.abs));

/** Whether a map points nowhere: every cell of it is zero. */
export const isEmpty = (frame) => !(largest(frame) > 0);

// --- From a few cells to pixels -------------------------------------------------------------------------------------

const tapsKept = new Map();

/** Bicubic interpolation (a = -0.5) from `cells` to `pixels` as Pillow has it: 4 taps per pixel, renormalised at edges. */
function cubicTaps(cells, pixels) {
  const key = `${cells}/${pixels}`;
  if (tapsKept.has(key)) return tapsKept.get(key);
  const scale = cells / pixels;
  const support = 2 * Math.max(scale, 1);
  const stretch = Math.max(scale, 1);
  const taps = [];
  for (let pixel = 0; pixel < pixels; pixel++) {
    const centre = (pixel + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(cells, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let cell = first; cell < last; cell++) weights.push(cubic((cell - centre + 0.5) / stretch));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    taps.push({ first, weights: weights.map((weight) => weight / sum) });
  }
  tapsKept.set(key, taps);
  if (tapsKept.size > 64) tapsKept.delete(tapsKept.keys().next().value);
  return taps;
}

function cubic(x) {
  const a = -0.5;
  const distance = Math.abs(x);
  if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return (((distance - 5) * distance + 8) * distance - 4) * a;
  return 0;
}

/** Strengths (H*W) enlarged to width x height, cut to 0..1, into `out`. */
function enlarge(strengths, [rows, columns], width, height, smooth, out) {
  if (!smooth) {
    for (let y = 0; y < height; y++) {
      const row = Math.min(rows - 1, Math.floor(((y + 0.5) * rows) / height)) * columns;
      for (let x = 0; x < width; x++) {
        out[y * width + x] = strengths[row + Math.min(columns - 1, Math.floor(((x + 0.5) * columns) / width))];
      }
    }
    return out;
  }
  const across = cubicTaps(columns, width);
  const down = cubicTaps(rows, height);
  const wide = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let x = 0; x < width; x++) {
      const { first, weights } = across[x];
      let sum = 0;
      for (let tap = 0; tap < weights.length; tap++) sum += weights[tap] * strengths[row * columns + first + tap];
      wide[row * width + x] = sum;
    }
  }
  // The rows that a row of pixels is mixed from are the same for all of its pixels: added up row by row.
  for (let y = 0; y < height; y++) {
    const { first, weights } = down[y];
    const line = out.subarray(y * width, (y + 1) * width);
    line.fill(0);
    weights.forEach((weight, tap) => {
      const source = wide.subarray((first + tap) * width, (first + tap + 1) * width);
      for (let x = 0; x < width; x++) line[x] += weight * source[x];
    });
    for (let x = 0; x < width; x++) line[x] = line[x] < 0 ? 0 : line[x] > 1 ? 1 : line[x];
  }
  return out;
}

/** How visible a strength's colour is: nothing at 0, nearly all from 0.6 on. One entry for each of 1,024 strengths. */
const PRESENCE = Float32Array.from({ length: 1025 }, (_, at) => {
  const position = Math.min(1, at / 1024 / 0.7);
  return position * position * (3 - 2 * position);
});

// --- A map over its photograph --------------------------------------------------------------------------------------

/** The photograph as pixels of one size; its muted version is made once for each opacity. */
export class Photograph {
  constructor(image, longSide) {
    const scale = longSide / Math.max(image.width, image.height);
    this.width = Math.max(1, Math.round(image.width * scale));
    this.height = Math.max(1, Math.round(image.height * scale));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.width, this.height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, this.width, this.height);
    this.pixels = context.getImageData(0, 0, this.width, this.height).data;
    this._strengths = new Float32Array(this.width * this.height);
    this._muted = { opacity: null, pixels: null };
    this.isBlank = false;
  }

  /** A grey field, for a photograph that cannot be shown. */
  static blank(longSide) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [longSide, longSide];
    const context = canvas.getContext("2d");
    context.fillStyle = "#c9ccd1";
    context.fillRect(0, 0, longSide, longSide);
    return Object.assign(new Photograph(canvas, longSide), { isBlank: true });
  }

  muted(opacity) {
    if (this._muted.opacity === opacity) return this._muted.pixels;
    const amount = Math.min(1, 1.7 * opacity);
    const dark = 1 - 0.25 * amount;
    const muted = new Float32Array(this.width * this.height * 3);
    for (let from = 0, to = 0; from < this.pixels.length; from += 4, to += 3) {
      const [red, green, blue] = [this.pixels[from], this.pixels[from + 1], this.pixels[from + 2]];
      const grey = 0.299 * red + 0.587 * green + 0.114 * blue;
      muted[to] = ((1 - amount) * red + amount * grey) * dark;
      muted[to + 1] = ((1 - amount) * green + amount * grey) * dark;
      muted[to + 2] = ((1 - amount) * blue + amount * grey) * dark;
    }
    this._muted = { opacity, pixels: muted };
    return muted;
  }

  /** The photograph alone, or drained of colour where a map is missing. */
  drawPlain(canvas, { grey = false } = {}) {
    const image = this._imageFor(canvas);
    image.data.set(this.pixels);
    if (grey) {
      for (let at = 0; at < image.data.length; at += 4) {
        const value = 0.299 * image.data[at] + 0.587 * image.data[at + 1] + 0.114 * image.data[at + 2];
        image.data[at] = image.data[at + 1] = image.data[at + 2] = value;
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  /**
   * A map over the photograph.
   * `values` (H*W) on `grid`; `range` the two values that are strengths 0 and 1; `table` 256 colours (RGB).
   */
  drawMap(canvas, { values, grid, range, table, diverging = false, opacity, smooth }) {
    const strengths = scaled(values, range, diverging);
    const enlarged = enlarge(strengths, grid, this.width, this.height, smooth, this._strengths);
    const muted = this.muted(opacity);
    const image = this._imageFor(canvas);
    const pixels = image.data;
    for (let at = 0, to = 0, from = 0; at < enlarged.length; at++, to += 4, from += 3) {
      const strength = enlarged[at];
      const visible = diverging ? Math.abs(strength - 0.5) * 2 : strength;
      const alpha = opacity * PRESENCE[(visible * 1024 + 0.5) | 0];
      const rest = 1 - alpha;
      const colour = ((strength * 255 + 0.5) | 0) * 3;
      pixels[to] = rest * muted[from] + alpha * table[colour];
      pixels[to + 1] = rest * muted[from + 1] + alpha * table[colour + 1];
      pixels[to + 2] = rest * muted[from + 2] + alpha * table[colour + 2];
      pixels[to + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  _imageFor(canvas) {
    if (canvas.width !== this.width || canvas.height !== this.height) {
      [canvas.width, canvas.height] = [this.width, this.height];
    }
    // One buffer per canvas: a new one for every frame would keep the garbage collector busy while the slider moves.
    if (canvas.imageData?.width !== this.width || canvas.imageData?.height !== this.height) {
      canvas.imageData = canvas.getContext("2d").createImageData(this.width, this.height);
    }
    return canvas.imageData;
  }
}

function scaled(values, [low, high], diverging) {
  if (!(high > low)) return new Float32Array(values.length).fill(diverging ? 0.5 : 0);
  return Float32Array.from(values, (value) => {
    const strength = (value - low) / (high - low);
    return strength > 0 ? Math.min(1, strength) : 0; // what is not a number is 0
  });
}

/** Paint a colour map as a horizontal bar. */
export function drawColourBar(canvas, table) {
  [canvas.width, canvas.height] = [256, 1];
  const context = canvas.getContext("2d");
  const image = context.createImageData(256, 1);
  for (let at = 0; at < 256; at++) {
    image.data.set([table[at * 3], table[at * 3 + 1], table[at * 3 + 2], 255], at * 4);
  }
  context.putImageData(image, 0, 0);
}

/** What is known of the object, drawn over a panel: box, parts (with their names if `named`), outline of the mask. */
export function drawTruth(canvas, photograph, { box, parts, outline, named }) {
  const scale = Math.max(1, Math.min(2, window.devicePixelRatio || 1));
  [canvas.width, canvas.height] = [photograph.width * scale, photograph.height * scale];
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const [width, height] = [photograph.width, photograph.height];
  if (outline) context.drawImage(outline, 0, 0, width, height);
  if (box) {
    const [left, top, wide, high] = box;
    for (const [colour, line] of [["rgba(0,0,0,.65)", 4], ["#ffffff", 1.8]]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.strokeRect(left * width, top * height, wide * width, high * height);
    }
  }
  for (const [name, x, y] of parts || []) {
    context.beginPath();
    context.arc(x * width, y * height, 4, 0, 2 * Math.PI);
    context.fillStyle = "#ffffff";
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = "rgba(0,0,0,.8)";
    context.stroke();
    if (!named) continue;
    context.font = "600 13px system-ui, sans-serif";
    const toLeft = x > 0.7;
    context.textAlign = toLeft ? "right" : "left";
    context.lineWidth = 3;
    context.strokeText(name, x * width + (toLeft ? -7 : 7), y * height + 4);
    context.fillText(name, x * width + (toLeft ? -7 : 7), y * height + 4);
  }
}

/** The outline of a mask (an image, white on the object) as a canvas: a white line with a dark rim. */
export function outlineOf(mask) {
  const canvas = document.createElement("canvas");
  const [width, height] = [mask.width, mask.height];
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(mask, 0, 0);
  const source = context.getImageData(0, 0, width, height).data;
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && source[(y * width + x) * 4] > 127;
  const line = context.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = inside(x, y);
      const edge = here && !(inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1));
      const rim = !here && (inside(x - 1, y) || inside(x + 1, y) || inside(x, y - 1) || inside(x, y + 1));
      if (edge) line.data.set([255, 255, 255, 255], (y * width + x) * 4);
      else if (rim) line.data.set([0, 0, 0, 190], (y * width + x) * 4);
    }
  }
  context.putImageData(line, 0, 0);
  return canvas;
}
