/**
 * Marks: what every chart points out besides its curves: resumes, changes of cadence, epochs, evaluations, the learning
 * rate.
 */

/**
 * @typedef {{kind: "segment" | "cadence" | "epoch" | "evaluation", step: number, text: string}} Mark
 * @typedef {import("./palette.js").Palette} Palette
 */

const GAP = 46;
/** Pixels between two texts. */

/**
 * Draws the marks into a plot: resumes as solid lines, cadences as dotted ones, epochs as ticks, evaluations as dots.
 *
 * @param {any} plot
 * @param {Mark[]} marks
 * @param {Palette} colours
 */
export function drawMarks(plot, marks, colours) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = ctx.fillStyle = colours.quiet;
  ctx.lineWidth = ratio;
  ctx.font = `${10 * ratio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "top";
  let written = -Infinity;
  for (const mark of marks) {
    const x = Math.round(plot.valToPos(mark.step - 0.5, "x", true)) + 0.5;
    if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) continue;
    if (mark.kind === "evaluation") {
      ctx.beginPath();
      ctx.arc(plot.valToPos(mark.step, "x", true), bbox.top + 3 * ratio, 1.5 * ratio, 0, 2 * Math.PI);
      ctx.fill();
      continue;
    }
    const whole = mark.kind === "segment" || mark.kind === "cadence";
    ctx.setLineDash(mark.kind === "cadence" ? [2 * ratio, 3 * ratio] : []);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + (whole ? bbox.height : 7 * ratio));
    ctx.stroke();
    const { width } = ctx.measureText(mark.text);
    if (x - written < GAP * ratio || x + 3 * ratio + width > bbox.left + bbox.width) continue;
    ctx.fillText(mark.text, x + 3 * ratio, bbox.top + (whole ? 20 : 8) * ratio); // below the dots of evaluations
    written = x + width;
  }
  ctx.restore();
}

/**
 * Draws the learning rate as an area behind the curves, its largest value at nine tenths of the height.
 *
 * @param {any} plot
 * @param {import("./curves.js").Curve} rate
 * @param {Palette} colours
 */
export function drawRate(plot, rate, colours) {
  const { ctx, bbox } = plot;
  const top = rate.values.reduce((/** @type {number} */ most, value) => Math.max(most, value ?? 0), 0);
  if (!(top > 0)) return;
  const foot = bbox.top + bbox.height;
  const height = (/** @type {number | null} */ value) => foot - (0.9 * bbox.height * Math.max(0, value ?? 0)) / top;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = colours.rate;
  ctx.beginPath();
  ctx.moveTo(plot.valToPos(rate.steps[0], "x", true), foot);
  rate.steps.forEach((step, index) => ctx.lineTo(plot.valToPos(step, "x", true), height(rate.values[index])));
  ctx.lineTo(plot.valToPos(rate.steps[rate.steps.length - 1], "x", true), foot);
  ctx.fill();
  ctx.restore();
}
