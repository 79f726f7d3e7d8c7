// Curves with more points than a chart has pixels: drawn from those points that show.

/** More points of a curve than this are never drawn. */
const MOST_POINTS = 1200;
/** The share of them that lies in the part of the axis that is looked at closely. */
const SHARE_IN_RANGE = 0.8;

/**
 * The columns {x, y} of one chart, rising in x, with as many points as can be told apart: of every short stretch the
 * lowest and the highest of each curve, so that what is drawn looks the same, and always the first and the last point.
 * All curves keep the same places. `range`: the two ends of what is seen of the x axis; null is all of it.
 */
export function thinned(columns, range = null) {
  const [{ x }] = columns;
  if (x.length <= MOST_POINTS) return columns;
  const stretches = Math.floor(MOST_POINTS / (2 * columns.length));
  const kept = new Set([0, x.length - 1]);
  for (const [from, to, count] of parts(x, range, stretches)) {
    for (let at = 0; at < count; at++) {
      keepExtremes(columns, from + Math.floor(((to - from) * at) / count), from + Math.floor(((to - from) * (at + 1)) / count), kept);
    }
  }
  const places = [...kept].sort((a, b) => a - b);
  return columns.map((column) => ({ x: places.map((at) => column.x[at]), y: places.map((at) => column.y[at]) }));
}

/** Which places are seen, and which lie before and after them, each with the number of stretches it is cut into. */
function parts(x, range, stretches) {
  if (!range) return [[0, x.length, stretches]];
  const [low, high] = [Math.min(...range), Math.max(...range)];
  // One place more on either side: a line leads out of what is seen.
  const from = Math.max(0, placeOf(x, low) - 1);
  const to = Math.min(x.length, placeOf(x, high) + 2);
  const seen = to - from <= MOST_POINTS * SHARE_IN_RANGE ? to - from : Math.floor(stretches * SHARE_IN_RANGE);
  const outside = Math.floor((stretches * (1 - SHARE_IN_RANGE)) / 2);
  return [[0, from, Math.min(from, outside)], [from, to, seen], [to, x.length, Math.min(x.length - to, outside)]];
}

/** The first place whose x is not below a value. */
function placeOf(x, value) {
  let [low, high] = [0, x.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function keepExtremes(columns, from, to, kept) {
  for (const { y } of columns) {
    let [lowest, highest] = [-1, -1];
    for (let at = from; at < to; at++) {
      if (y[at] === null || y[at] === undefined) continue;
      if (lowest < 0 || y[at] < y[lowest]) lowest = at;
      if (highest < 0 || y[at] > y[highest]) highest = at;
    }
    if (lowest >= 0) kept.add(lowest).add(highest);
  }
}
