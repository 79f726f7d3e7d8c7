// The timeline message (explorer/attention/timelines.py): a header in JSON, then arrays of 16-bit floats.

// Every 16-bit float's value, made once: looking one up is faster than computing it.
let table = null;

function halfTable() {
  if (table) return table;
  table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) table[bits] = fraction ? NaN : sign * Infinity;
    else if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else table[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return table;
}

/** A message as {about, maps}: maps[kind] is null or {grid: [H, W], raw, distribution}, one Float32Array per epoch. */
export function decodeTimeline(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const words = new Uint16Array(buffer, 4 + length);
  const values = halfTable();
  const maps = {};
  for (const [kind, place] of Object.entries(about.arrays)) {
    if (!place) {
      maps[kind] = null;
      continue;
    }
    const cells = place.grid[0] * place.grid[1];
    const read = (start) => about.epochs.map((_, index) => {
      const frame = new Float32Array(cells);
      for (let cell = 0; cell < cells; cell++) frame[cell] = values[words[start + index * cells + cell]];
      return frame;
    });
    maps[kind] = { grid: place.grid, raw: read(place.raw), distribution: read(place.distribution) };
  }
  delete about.arrays;
  return { about, maps };
}

/** Add the epochs of a later message to an earlier one of the same image. */
export function appendTimeline(known, news) {
  const about = { ...known.about, ...news.about };
  for (const name of ["epochs", "predicted", "confidence"]) about[name] = known.about[name].concat(news.about[name]);
  about.measures = appendMeasures(known.about.measures, news.about.measures);
  const maps = {};
  for (const kind of Object.keys(known.maps)) {
    const [before, after] = [known.maps[kind], news.maps[kind]];
    maps[kind] = before && after && {
      grid: before.grid, raw: before.raw.concat(after.raw), distribution: before.distribution.concat(after.distribution),
    };
  }
  return { about, maps };
}

function appendMeasures(before, after) {
  if (Array.isArray(before) && Array.isArray(after)) return before.concat(after);
  if (!before || !after || typeof before !== "object" || typeof after !== "object") return after ?? before;
  const result = { ...before };
  for (const [name, value] of Object.entries(after)) result[name] = appendMeasures(before[name], value);
  return result;
}
