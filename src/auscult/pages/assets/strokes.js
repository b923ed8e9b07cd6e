/**
 * Strokes: how the curves of a chart are told apart.
 */

const WIDTHS = [1, 0.6, 2];
/** Lines of a pixel at most are drawn ten times as fast as wider ones; only what has few points is wide or dashed. */
const MAX_WIDE = 300; // points of a curve
const MAX_WIDE_TOGETHER = 3000; // points of a chart
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [4, 4], [12, 4]];

/**
 * Curves of layers are coloured by depth, those of several runs by run; curves that share a colour are told apart by
 * dashes, or, where dashes would take too long to draw and not be seen, by their width.
 *
 * @param {import("./curves.js").Chart} chart
 * @param {number} index
 * @param {import("./palette.js").Palette} colours
 * @returns {{stroke: string, dash: number[], width: number}}
 */
export function lineStyle(chart, index, colours) {
  if (chart.bands?.length) return { stroke: colours.curves[0], dash: [], width: index ? 0.5 : 1.5 };
  const points = chart.curves.map((curve) => curve.steps.length);
  const plain = points[index] > MAX_WIDE || points.reduce((sum, count) => sum + count, 0) > MAX_WIDE_TOGETHER;
  const style = (/** @type {string} */ stroke, /** @type {number} */ number, /** @type {number[]} */ dash) => ({ stroke, dash: plain ? [] : dash, width: plain ? WIDTHS[number % WIDTHS.length] : 1.5 });
  if (chart.groups?.length) {
    const group = chart.groups[index];
    const number = index - chart.groups.indexOf(group);
    return style(colours.curves[group % colours.curves.length], number, DASHES[number % DASHES.length]);
  }
  const several = colours.curves.length;
  if (!chart.by_depth) return style(colours.curves[index % several], Math.floor(index / several), DASHES[index % DASHES.length]);
  const tones = colours.depths.length;
  const tone = Math.round((index * (tones - 1)) / Math.max(1, chart.curves.length - 1));
  const second = chart.curves.length > tones ? index % 2 : 0;
  return style(colours.depths[tone], second, second ? [5, 2] : []);
}
