/**
 * Spreads: how the elements of one tensor were distributed over time, as bands around their mean.
 */
import { unpackFloats } from "./packed.js";
import { drawChart } from "./curves.js";

/**
 * @typedef {{kind: string, title: string, rows: string[], starts: number[], mean: string, std: string}} Spread
 * @typedef {import("./curves.js").Chart} Chart
 */

const NOTHING_SEEN = -1;
const LINES = [
  ["mean + 2 std", 2],
  ["mean + 1 std", 1],
  ["mean", 0],
  ["mean − 1 std", -1],
  ["mean − 2 std", -2],
];

/** @param {import("./curves.js").Scene} scene */
export function createSpreads(scene) {
  const kind = /** @type {HTMLSelectElement} */ (document.getElementById("spread-kind"));
  const path = /** @type {HTMLSelectElement} */ (document.getElementById("spread-path"));
  const parent = /** @type {HTMLElement} */ (document.getElementById("spread-plot"));
  /** @type {Spread[]} */
  let several = [];
  /** @type {import("./curves.js").Drawing | null} */
  let drawing = null;
  /** @type {Map<string, Promise<Float32Array>>} */
  const unpacked = new Map();
  const read = (/** @type {string} */ text) => {
    const unpacking = unpacked.get(text) ?? unpackFloats(text);
    unpacked.set(text, unpacking);
    return unpacking;
  };
  const draw = async () => {
    const spread = several.find((each) => each.kind === kind.value);
    if (!spread) return;
    const [mean, std] = await Promise.all([read(spread.mean), read(spread.std)]);
    if (spread !== several.find((each) => each.kind === kind.value)) return;
    const chart = spreadChart(spread, spread.rows.indexOf(path.value), mean, std);
    if (drawing) drawing.replace(chart);
    else drawing = drawChart(parent, chart, scene);
  };
  const offerPaths = () => {
    const spread = several.find((each) => each.kind === kind.value);
    refill(path, (spread?.rows ?? []).map((each) => [each, each]));
  };
  kind.addEventListener("change", () => {
    offerPaths();
    draw();
  });
  path.addEventListener("change", draw);
  const set = (/** @type {Spread[]} */ other) => {
    several = other;
    unpacked.clear();
    refill(kind, several.map((each) => [each.title, each.kind]));
    offerPaths();
    draw();
  };
  return { set, redraw: () => drawing?.redraw(), draw: () => drawing?.draw() };
}

/**
 * Other options, of which the one chosen before stays chosen if it is there.
 *
 * @param {HTMLSelectElement} select
 * @param {string[][]} options Text and value of each.
 */
function refill(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([text, value]) => new Option(text, value)));
  if (options.some(([, value]) => value === before)) select.value = before;
}

/**
 * @param {Spread} spread
 * @param {number} row
 * @param {Float32Array} mean
 * @param {Float32Array} std
 * @returns {Chart}
 */
function spreadChart(spread, row, mean, std) {
  const columns = spread.starts.length;
  /** @type {import("./curves.js").Curve[]} */
  const curves = LINES.map(([label]) => ({ label: String(label), steps: [], values: [], nonfinite: [], nonpositive: [] }));
  spread.starts.forEach((step, column) => {
    const at = row * columns + column;
    if (std[at] === NOTHING_SEEN) return;
    const finite = Number.isFinite(mean[at]) && Number.isFinite(std[at]);
    curves.forEach((curve, number) => {
      curve.steps.push(step);
      curve.values.push(finite ? Number((mean[at] + Number(LINES[number][1]) * std[at]).toPrecision(4)) : null);
      if (!finite) curve.nonfinite.push([step, step]);
    });
  });
  const title = `${spread.title} of ${spread.rows[row]}`;
  return { name: "spread", title, unit: "", log: false, by_depth: false, curves, guides: [], bands: [[0, 1], [1, 3], [3, 4]] };
}
