/**
 * Colours: read from the style sheet, so that light, dark and print are decided in one place.
 */

/** @typedef {[number, number, number]} Colour Red, green, blue, 0 to 255. */

const CURVE_NAMES = ["--curve-1", "--curve-2", "--curve-3", "--curve-4", "--curve-5", "--curve-6"];
const DEPTH_NAMES = Array.from({ length: 12 }, (_, number) => `--depth-${number + 1}`);
const MAP_NAMES = ["--map-low-2", "--map-low-1", "--map-centre", "--map-high-1", "--map-high-2"];

/**
 * @typedef {object} Palette
 * @property {string} ink
 * @property {string} quiet
 * @property {string} grid
 * @property {string} paper
 * @property {string} band
 * @property {string} spread
 * @property {string} rate
 * @property {string} bad
 * @property {string} critical
 * @property {string} warning
 * @property {string[]} curves
 * @property {string[]} depths From the earliest layer to the latest.
 * @property {Colour[]} map From far below the healthy centre to far above it.
 * @property {Colour} nonFinite
 * @property {Colour} zero
 * @property {Colour} hole
 */

/** @returns {Palette} */
export function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const get = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  return {
    ink: get("--ink"),
    quiet: get("--quiet"),
    grid: get("--grid"),
    paper: get("--paper"),
    band: get("--band"),
    spread: get("--spread"),
    rate: get("--rate"),
    bad: get("--bad"),
    critical: get("--critical"),
    warning: get("--warning"),
    curves: CURVE_NAMES.map(get),
    depths: DEPTH_NAMES.map(get),
    map: MAP_NAMES.map((name) => parseHex(get(name))),
    nonFinite: parseHex(get("--map-nonfinite")),
    zero: parseHex(get("--map-zero")),
    hole: parseHex(get("--map-hole")),
  };
}

/**
 * @param {string} text Six hexadecimal digits after a #.
 * @returns {Colour}
 */
function parseHex(text) {
  const part = (/** @type {number} */ at) => Number.parseInt(text.slice(at, at + 2), 16);
  return [part(1), part(3), part(5)];
}

/**
 * @param {Colour[]} stops Evenly spaced colours.
 * @param {number} share 0 to 1; beyond that the ends.
 * @returns {Colour}
 */
export function mix(stops, share) {
  const position = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const left = Math.min(stops.length - 2, Math.floor(position));
  const part = (/** @type {0 | 1 | 2} */ channel) =>
    stops[left][channel] + (stops[left + 1][channel] - stops[left][channel]) * (position - left);
  return [part(0), part(1), part(2)];
}

/** @param {() => void} redraw Called when the colours change: dark, light, print. */
export function onPaletteChange(redraw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  const print = (/** @type {boolean} */ on) => () => {
    document.documentElement.classList.toggle("printing", on);
    redraw();
  };
  addEventListener("beforeprint", print(true));
  addEventListener("afterprint", print(false));
}
