/**
 * Curves over steps, drawn by uPlot: guide bands, stretches of NaN, onsets of findings, a keyboard cursor.
 */
import { addRunningLines, formatNumber, zoomByKey } from "./timeline.js";
import { drawMarks, drawRate } from "./marks.js";
import { inTurns } from "./turns.js";
import { lineStyle } from "./strokes.js";

/**
 * @typedef {{label: string, steps: number[], values: (number | null)[], nonfinite: number[][], nonpositive: number[][]}} Curve
 * @typedef {{low: number, high: number, text: string}} Guide
 * @typedef {{name: string, title: string, unit: string, log: boolean, by_depth: boolean, curves: Curve[], guides: Guide[],
 *   groups?: number[], bands?: [number, number][]}} Chart `groups` tells which run each curve is of; `bands` which two
 *   curves have the space between them filled.
 * @typedef {{step: number, severity: string, text: string}} Onset
 * @typedef {import("./palette.js").Palette} Palette
 */

const HEIGHT = 220;
const CURSORS = uPlot.sync("steps");
const MAX_FOCUSED = 2000; // points of all curves

/**
 * What all charts of a page share.
 *
 * @typedef {object} Scene
 * @property {import("./timeline.js").Timeline} timeline
 * @property {() => import("./palette.js").Palette} palette The colours of the moment.
 * @property {Onset[]} onsets
 * @property {import("./marks.js").Mark[]} marks
 * @property {Curve | null} rate The learning rate, to be drawn behind the curves; null where it is not wanted.
 */

/**
 * @typedef {object} Drawing
 * @property {() => void} redraw Draws the chart anew, at once if it is in sight, otherwise when it comes into sight.
 * @property {() => void} draw Draws it now if it is not drawn as it should be.
 * @property {(chart: Chart) => void} replace Shows other curves in its place.
 * @property {() => void} end Takes it away.
 */

/**
 * Draws a chart into an element when it comes near the part of the page in sight, and keeps it there.
 *
 * @param {HTMLElement} parent
 * @param {Chart} first
 * @param {Scene} scene
 * @returns {Drawing}
 */
export function drawChart(parent, first, scene) {
  const { timeline } = scene;
  const ending = new AbortController();
  const button = addAxisButton(parent, () => chart, (/** @type {boolean} */ on) => {
    log = on;
    redraw();
  });
  let chart = first;
  let log = chart.log;
  /** @type {uPlot | null} */
  let plot = null;
  let [near, stale, moved] = [false, true, false];
  const lines = document.createElement("div");
  lines.className = "lines";
  const place = addRunningLines(timeline, lines, ending.signal);
  const draw = () => {
    if (!stale || !parent.clientWidth) return;
    stale = moved = false;
    plot?.destroy();
    plot = new uPlot(plotOptions(parent, chart, scene, log), joinCurves(chart, log), parent);
    plot.over.append(lines);
    hear();
    place();
  };
  const hear = () => {
    if (!plot) return;
    CURSORS.unsub(plot); // a cursor out of sight costs as much as one in sight
    if (near) CURSORS.sub(plot);
  };
  const redraw = () => {
    stale = true;
    if (near) draw();
  };
  const show = () => {
    if (near && moved) plot?.setScale("x", timeline.view);
    moved &&= !near;
  };
  const move = () => {
    moved = true;
    if (near) inTurns(show);
  };
  const watcher = new IntersectionObserver(
    (entries) => {
      near = entries[entries.length - 1].isIntersecting;
      if (near) draw();
      show();
      hear();
    },
    { rootMargin: "200px" },
  );
  const fit = () => {
    if (plot && parent.clientWidth && parent.clientWidth !== plot.width) plot.setSize({ width: parent.clientWidth, height: HEIGHT });
    place();
  };
  const observer = new ResizeObserver(() => requestAnimationFrame(fit)); // in the next frame, so that it never chases itself
  timeline.on("view", move, ending.signal);
  addKeyboard(parent, () => chart.title, () => plot, timeline, ending.signal);
  button.press(log);
  watcher.observe(parent);
  observer.observe(parent);
  const replace = (/** @type {Chart} */ other) => {
    chart = other;
    log = log && hasPositive(chart);
    button.press(log);
    redraw();
  };
  const end = () => {
    ending.abort();
    watcher.disconnect();
    observer.disconnect();
    plot?.destroy();
    parent.replaceChildren();
  };
  return { redraw, draw, replace, end };
}

/** Whether a chart can be drawn anew whenever the pointer comes near another curve. */
const isLight = (/** @type {Chart} */ chart) => chart.curves.reduce((sum, curve) => sum + curve.steps.length, 0) <= MAX_FOCUSED;

const hasPositive = (/** @type {Chart} */ chart) => chart.curves.some((curve) => curve.values.some((value) => value !== null && value > 0));

/**
 * @param {Chart} chart
 * @param {boolean} log
 */
function joinCurves(chart, log) {
  const tables = chart.curves.map((curve) => [
    curve.steps,
    log ? curve.values.map((value) => (value !== null && value > 0 ? value : null)) : curve.values,
  ]);
  return uPlot.join(/** @type {uPlot.AlignedData[]} */ (tables));
}

/**
 * uPlot's options: axes, series, what is drawn behind and before the curves.
 *
 * @param {HTMLElement} parent
 * @param {Chart} chart
 * @param {Scene} scene
 * @param {boolean} log
 * @returns {uPlot.Options}
 */
function plotOptions(parent, chart, scene, log) {
  const { timeline } = scene;
  const colours = scene.palette();
  const axis = { stroke: colours.quiet, grid: { stroke: colours.grid, width: 1 }, ticks: { stroke: colours.grid, width: 1 } };
  const format = (/** @type {uPlot} */ _, /** @type {(number | null)[]} */ values) => values.map((value) => (value === null ? "" : formatNumber(value)));
  return {
    width: Math.max(200, parent.clientWidth),
    height: HEIGHT,
    scales: {
      x: { time: false, auto: false, min: timeline.view.min, max: timeline.view.max },
      y: log ? { distr: 3, range: (_, low, high) => logRange(low, high, chart.guides) } : { range: linearRange },
    },
    axes: [
      { ...axis, values: format, size: 32, incrs: [1, 2, 5].flatMap((n) => [...Array(10).keys()].map((e) => n * 10 ** e)).sort((a, b) => a - b) },
      { ...axis, ...(log && { grid: { ...axis.grid, filter: powers }, ticks: { ...axis.ticks, filter: powers } }), values: log ? logLabels : format, size: 68 },
    ],
    series: [
      { label: "step", value: (_, step) => formatNumber(step) },
      ...chart.curves.map((curve, index) => ({
        label: curve.label,
        ...lineStyle(chart, index, colours),
        points: { show: curve.values.length < 3, size: 6 },
        value: (/** @type {uPlot} */ plot, /** @type {number} */ value, /** @type {number} */ series, /** @type {number | null} */ at) =>
          readValue(curve, plot, value, series, at, log),
      })),
    ],
    bands: (chart.bands ?? []).map(([high, low]) => ({ series: [high + 1, low + 1], fill: colours.spread })),
    cursor: {
      sync: { key: CURSORS.key },
      drag: { x: true, y: false, setScale: false },
      focus: { prox: isLight(chart) ? 24 : -1 },
      bind: { dblclick: () => null }, // uPlot's own would draw every chart anew in one go
    },
    legend: { markers: { width: 2 } },
    hooks: {
      drawClear: [
        (plot) => scene.rate && chart.name !== "lr" && drawRate(plot, scene.rate, colours),
        (plot) => drawBands(plot, chart.guides, colours),
      ],
      draw: [
        (plot) => drawMarks(plot, scene.marks, colours),
        (plot) => drawGuideLines(plot, chart.guides, colours),
        (plot) => drawStretches(plot, chart, colours, log),
        (plot) => drawOnsets(plot, scene.onsets, colours),
      ],
      setSelect: [(plot) => zoom(plot, timeline)],
      ready: [(plot) => addMouse(plot, timeline)],
    },
  };
}

/**
 * What is compared with a line must have the line in view.
 *
 * @param {number} low
 * @param {number} high
 * @param {Guide[]} guides
 * @returns {uPlot.Range.MinMax}
 */
function logRange(low, high, guides) {
  if (!(low > 0) || !(high > 0)) return uPlot.rangeLog(0.1, 1, 10, true);
  const bounds = guides.flatMap((guide) => [guide.low, guide.high]).filter((value) => value > 0);
  return uPlot.rangeLog(Math.min(low, ...bounds), Math.max(high, ...bounds), 10, true);
}

/**
 * @param {uPlot} _
 * @param {number | null} low
 * @param {number | null} high
 * @returns {uPlot.Range.MinMax}
 */
function linearRange(_, low, high) {
  if (low === null || high === null) return [0, 1];
  if (low === high) return low === 0 ? [0, 1] : [low - Math.abs(low) * 0.1, high + Math.abs(high) * 0.1];
  const room = (high - low) * 0.06;
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

/**
 * Powers of ten get a label, the ticks between them none, unless there is hardly a power in view.
 *
 * @param {uPlot} plot
 * @param {(number | null)[]} values
 */
function logLabels(plot, values) {
  const whole = powers(plot, values).filter((value) => value !== null);
  const every = Math.max(1, Math.ceil(whole.length / 8));
  const labelled = new Set(whole.filter((_, number) => number % every === 0));
  return values.map((value) => {
    if (value === null) return "";
    if (whole.length < 2) return /^[125]e/.test(value.toExponential(0)) ? formatNumber(value) : "";
    return labelled.has(value) ? formatNumber(value) : "";
  });
}

/** Of the ticks of a logarithmic axis the powers of ten; a grid of all of them would outshine the curves. */
const powers = (/** @type {uPlot} */ _, /** @type {(number | null)[]} */ values) => values.map((value) => (value !== null && isPower(value) ? value : null));
const isPower = (/** @type {number} */ value) => Number.isInteger(exponent(value));
const exponent = (/** @type {number} */ value) => Math.round(Math.log10(value) * 1e6) / 1e6;

/**
 * The legend's text: the value under the cursor, or why there is none.
 *
 * @param {Curve} curve
 * @param {uPlot} plot
 * @param {number | null | undefined} value
 * @param {number} series
 * @param {number | null | undefined} at
 * @param {boolean} log
 */
function readValue(curve, plot, value, series, at, log) {
  if (at === null || at === undefined) return "–";
  const step = plot.data[0][at];
  const inside = (/** @type {number[][]} */ pairs) => pairs.some(([first, last]) => step >= first && step <= last);
  if (value === null || value === undefined) {
    if (inside(curve.nonfinite)) return "NaN or inf";
    if (log && inside(curve.nonpositive)) return "≤ 0";
    return nearest(plot.data[series], at);
  }
  return formatNumber(value);
}

/**
 * The last value drawn before a step at which only other curves have a point.
 *
 * @param {ArrayLike<number | null | undefined>} values
 * @param {number} at
 */
function nearest(values, at) {
  for (let index = at; index >= 0; index -= 1) {
    if (values[index] === null) return "–";
    if (values[index] !== undefined) return formatNumber(values[index]);
  }
  return "–";
}

/**
 * Bands lie behind the curves, lines before them: a line that a curve hides is of no use.
 *
 * @param {uPlot} plot
 * @param {Guide[]} guides
 * @param {Palette} colours
 */
function drawBands(plot, guides, colours) {
  const { ctx, bbox } = plot;
  ctx.save();
  clip(ctx, bbox);
  for (const { low, high, text } of guides.filter((guide) => guide.high > guide.low)) {
    const bottom = plot.valToPos(low, "y", true);
    const top = plot.valToPos(high, "y", true);
    ctx.fillStyle = colours.band;
    ctx.fillRect(bbox.left, top, bbox.width, bottom - top);
    writeAbove(plot, text, bottom, colours);
  }
  ctx.restore();
}

/**
 * @param {uPlot} plot
 * @param {Guide[]} guides
 * @param {Palette} colours
 */
function drawGuideLines(plot, guides, colours) {
  const { ctx, bbox } = plot;
  ctx.save();
  clip(ctx, bbox);
  for (const { low, text } of guides.filter((guide) => guide.high === guide.low)) {
    const y = plot.valToPos(low, "y", true);
    ctx.strokeStyle = colours.ink;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    writeAbove(plot, text, y, colours);
  }
  ctx.restore();
}

/**
 * A text at the right end of a height, above it, or below where there is no room; on paper, so that no curve hides it.
 *
 * @param {uPlot} plot
 * @param {string} text
 * @param {number} y
 * @param {Palette} colours
 */
function writeAbove(plot, text, y, colours) {
  const { ctx, bbox } = plot;
  const size = 10 * devicePixelRatio;
  ctx.font = `${size}px system-ui, sans-serif`;
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  const right = bbox.left + bbox.width - size / 2;
  const middle = y - size < bbox.top ? y + size : y - size;
  const width = ctx.measureText(text).width;
  ctx.save();
  ctx.globalAlpha = 0.85;
  ctx.fillStyle = colours.paper;
  ctx.fillRect(right - width - 3, middle - 0.65 * size, width + 6, 1.3 * size);
  ctx.restore();
  ctx.fillStyle = colours.ink;
  ctx.fillText(text, right, middle);
}

/**
 * NaN and infinities as hatched bands over the full height; what a log axis cannot show as a rail at its foot.
 *
 * @param {uPlot} plot
 * @param {Chart} chart
 * @param {Palette} colours
 * @param {boolean} log
 */
function drawStretches(plot, chart, colours, log) {
  const { ctx, bbox } = plot;
  ctx.save();
  clip(ctx, bbox);
  let labelled = -Infinity;
  for (const [first, last] of unite(chart.curves.flatMap((curve) => curve.nonfinite))) {
    const left = plot.valToPos(first - 0.5, "x", true);
    const width = Math.max(3 * devicePixelRatio, plot.valToPos(last + 0.5, "x", true) - left);
    hatch(ctx, left, bbox.top, width, bbox.height, colours.bad);
    if (left > labelled) labelled = label(ctx, "NaN/inf", left, bbox, colours);
  }
  if (log) {
    chart.curves.forEach((curve, index) => {
      ctx.fillStyle = lineStyle(chart, index, colours).stroke;
      for (const [first, last] of curve.nonpositive) {
        const left = plot.valToPos(first - 0.5, "x", true);
        const width = Math.max(2 * devicePixelRatio, plot.valToPos(last + 0.5, "x", true) - left);
        ctx.fillRect(left, bbox.top + bbox.height - (index + 1) * 4 * devicePixelRatio, width, 3 * devicePixelRatio);
      }
    });
  }
  ctx.restore();
}

/**
 * @param {CanvasRenderingContext2D} ctx
 * @param {number} left
 * @param {number} top
 * @param {number} width
 * @param {number} height
 * @param {string} colour
 */
function hatch(ctx, left, top, width, height, colour) {
  const gap = 7 * devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  ctx.globalAlpha = 0.16;
  ctx.fillStyle = colour;
  ctx.fillRect(left, top, width, height);
  ctx.globalAlpha = 0.75;
  ctx.strokeStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  for (let x = left - height; x < left + width; x += gap) {
    ctx.moveTo(x, top + height);
    ctx.lineTo(x + height, top);
  }
  ctx.stroke();
  ctx.restore();
}

/**
 * @param {CanvasRenderingContext2D} ctx
 * @param {string} text
 * @param {number} left
 * @param {uPlot.BBox} bbox
 * @param {Palette} colours
 * @returns {number} Where the label ends, in canvas pixels.
 */
function label(ctx, text, left, bbox, colours) {
  ctx.font = `600 ${11 * devicePixelRatio}px system-ui, sans-serif`;
  const width = ctx.measureText(text).width + 8 * devicePixelRatio;
  const at = Math.max(bbox.left, Math.min(left, bbox.left + bbox.width - width));
  ctx.fillStyle = colours.paper;
  ctx.fillRect(at, bbox.top, width, 16 * devicePixelRatio);
  ctx.fillStyle = colours.bad;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  ctx.fillText(text, at + 4 * devicePixelRatio, bbox.top + 8 * devicePixelRatio);
  return at + width;
}

/**
 * @param {uPlot} plot
 * @param {Onset[]} onsets
 * @param {Palette} colours
 */
function drawOnsets(plot, onsets, colours) {
  const { ctx, bbox } = plot;
  ctx.save();
  clip(ctx, bbox);
  ctx.font = `600 ${10 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  let labelled = -Infinity;
  for (const onset of [...onsets].sort((left, right) => left.step - right.step)) {
    const x = plot.valToPos(onset.step, "x", true);
    const colour = onset.severity === "critical" ? colours.critical : colours.warning;
    ctx.fillStyle = colour;
    ctx.beginPath();
    ctx.moveTo(x - 5 * devicePixelRatio, bbox.top + bbox.height);
    ctx.lineTo(x + 5 * devicePixelRatio, bbox.top + bbox.height);
    ctx.lineTo(x, bbox.top + bbox.height - 8 * devicePixelRatio);
    ctx.fill();
    if (x - labelled > 34 * devicePixelRatio) {
      ctx.fillText(onset.text, Math.max(x, bbox.left + 15 * devicePixelRatio), bbox.top + bbox.height - 11 * devicePixelRatio);
      labelled = x;
    }
  }
  ctx.restore();
}

/**
 * @param {CanvasRenderingContext2D} ctx
 * @param {uPlot.BBox} bbox
 */
function clip(ctx, bbox) {
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
}

/**
 * Overlapping stretches as one, so that two curves that fail together are hatched once.
 *
 * @param {number[][]} pairs
 */
function unite(pairs) {
  const sorted = [...pairs].sort((a, b) => a[0] - b[0]);
  /** @type {number[][]} */
  const united = [];
  for (const [first, last] of sorted) {
    const before = united.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else united.push([first, last]);
  }
  return united;
}

/**
 * @param {uPlot} plot
 * @param {import("./timeline.js").Timeline} timeline
 */
function zoom(plot, timeline) {
  const { left, width } = plot.select;
  if (width < 4) return;
  const view = { min: plot.posToVal(left, "x"), max: plot.posToVal(left + width, "x") };
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  if (plot.cursor.event && view.max - view.min >= 1) timeline.set("view", { view }); // the other charts select alike
}

/**
 * A click marks a step and moves the sound there, a double click shows all steps again.
 *
 * @param {uPlot} plot
 * @param {import("./timeline.js").Timeline} timeline
 */
function addMouse(plot, timeline) {
  let pressed = 0;
  plot.over.addEventListener("mousedown", (event) => (pressed = event.clientX));
  plot.over.addEventListener("click", (event) => {
    if (Math.abs(event.clientX - pressed) > 3) return;
    const left = event.clientX - plot.over.getBoundingClientRect().left;
    timeline.set("seek", { marked: Math.round(plot.posToVal(left, "x")) });
    timeline.set("mark", {});
  });
  plot.over.addEventListener("dblclick", () => timeline.set("view", { view: timeline.whole }));
}

/**
 * @param {HTMLElement} parent
 * @param {() => string} title
 * @param {() => uPlot | null} getPlot
 * @param {import("./timeline.js").Timeline} timeline
 * @param {AbortSignal} signal
 */
function addKeyboard(parent, title, getPlot, timeline, signal) {
  parent.tabIndex = 0;
  parent.setAttribute("role", "group");
  parent.setAttribute("aria-label", `${title()}. Arrow keys move the cursor, Enter marks the step, plus and minus zoom, Escape shows all steps.`);
  const press = (/** @type {KeyboardEvent} */ event) => {
    const plot = getPlot();
    if (!plot || event.target !== parent) return;
    const steps = plot.data[0];
    /** @type {Record<string, number>} */
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity };
    const at = plot.cursor.idx ?? 0;
    if (event.key === "Enter") {
      timeline.set("seek", { marked: steps[at] });
      timeline.set("mark", {});
    } else if (event.key === "Escape") {
      timeline.set("view", { view: timeline.whole });
    } else if (event.key in moves) {
      const next = Math.min(steps.length - 1, Math.max(0, at + moves[event.key]));
      plot.setCursor({ left: plot.valToPos(steps[next], "x"), top: 10 });
    } else if (!zoomByKey(timeline, event.key, steps[at])) {
      return;
    }
    event.preventDefault();
  };
  parent.addEventListener("keydown", press, { signal });
}

/**
 * @param {HTMLElement} parent
 * @param {() => Chart} chart
 * @param {(on: boolean) => void} change
 */
function addAxisButton(parent, chart, change) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "axis";
  button.textContent = "log";
  button.title = "Logarithmic axis";
  const press = (/** @type {boolean} */ on) => {
    button.setAttribute("aria-pressed", String(on));
    button.setAttribute("aria-label", `log axis: ${chart().title}`);
  };
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    if (on && !hasPositive(chart())) return;
    press(on);
    change(on);
  });
  parent.append(button);
  return { press };
}
