/**
 * Depth x steps on a canvas: colours are distances from a healthy centre; NaN, zero and "not observed" have patterns of
 * their own, so that no colour stands for them.
 */
import { addRunningLines, formatNumber, zoomByKey } from "./timeline.js";
import { createCloseup } from "./closeup.js";
import { inTurns } from "./turns.js";
import { unpackCodes } from "./packed.js";
import { LINEAR_SCALE, LOG_SCALE, NON_FINITE, NOT_OBSERVED, ZERO, columnAt, drawLegend, drawMap, rowHeight } from "./raster.js";

/**
 * @typedef {{metric: string, rows: string[], starts: number[], stops: number[], codes: string, others: string | null,
 *   centres: (number | null)[], healthy: number | null, scale: "log" | "linear", reach: number, pair?: string[]}} Heatmap
 *   `pair` names two runs where the values are those of the second divided by those of the first.
 * @typedef {import("./raster.js").Sheet} Sheet
 * @typedef {import("./timeline.js").Timeline} Timeline
 * @typedef {ReturnType<typeof buildParts>} Parts
 * @typedef {{row: number, column: number, open: boolean}} State The cell in question, and whether its row is open.
 * @typedef {Record<string, Record<string, import("./curves.js").Curve>>} Rows Curves in full, by metric and path.
 */

const MAX_REACH = 4;

/**
 * @param {import("./curves.js").Scene} scene
 * @param {(chart: import("./curves.js").Chart | null) => void} openRow Shows the curve of a row.
 * @param {import("./closeup.js").Ask} [ask] For the cells of fewer steps, where there is somebody to ask.
 */
export function createHeatmap(scene, openRow, ask) {
  const { timeline } = scene;
  const plot = /** @type {HTMLElement} */ (document.getElementById("heatmap-plot"));
  const readout = /** @type {HTMLElement} */ (document.getElementById("heatmap-readout"));
  const parts = buildParts(plot);
  const select = /** @type {HTMLSelectElement} */ (document.getElementById("heatmap-metric"));
  const centre = /** @type {HTMLSelectElement} */ (document.getElementById("heatmap-centre"));
  const state = { row: 0, column: 0, open: false };
  /** @type {Heatmap[]} */
  let maps = [];
  /** @type {Rows} */
  let rows = {};
  /** @type {Map<Heatmap, Promise<[Int16Array, Int16Array]>>} */
  const unpacked = new Map();
  /** @type {Sheet | null} */
  let sheet = null;
  const place = addRunningLines(timeline, parts.over);
  const draw = () => {
    if (!sheet || !plot.clientWidth) return;
    state.row = Math.min(state.row, sheet.map.rows.length - 1);
    state.column = Math.min(state.column, sheet.map.starts.length - 1);
    drawMap(sheet, parts, timeline.view, scene.palette());
    drawLegend(sheet, scene.palette());
    place();
  };
  const read = () => {
    if (!sheet) return;
    readout.textContent = describe(sheet, state.row, state.column);
    placeCell(sheet.map, parts, timeline, state);
  };
  const open = () => {
    if (!sheet) return;
    state.open = true;
    openRow(rowChart(sheet, state.row, rows[sheet.map.metric]?.[sheet.map.rows[state.row]]));
  };
  const choose = () => {
    if (!sheet) return;
    open();
    timeline.set("seek", { marked: sheet.map.starts[state.column] });
    timeline.set("mark", {});
  };
  const whole = () => maps[Number(select.value)];
  const closeup = ask && createCloseup(timeline, ask, whole, () => load());
  const chosen = () => (closeup ? closeup.of(whole()) : whole());
  const unpackOnce = (/** @type {Heatmap} */ map) => {
    const unpacking = unpacked.get(map) ?? unpackBoth(map);
    unpacked.set(map, unpacking);
    return unpacking;
  };
  /** Unpacks the map chosen, if it still is when that is done. */
  const load = async () => {
    const [map, usual] = [chosen(), whole()];
    if (!map) return;
    const [[codes, others], [usualCodes]] = await Promise.all([unpackOnce(map), unpackOnce(usual)]);
    if (map !== chosen() || usual !== whole()) return;
    offerCentres(centre, map);
    if (sheet && sheet.map !== map) state.column = columnAt(map, sheet.map.starts[state.column]);
    sheet = compare(map, codes, others, centre.value, usualCodes, usual.starts.length);
    showTable(Number(select.value));
    draw();
    if (!parts.cell.hidden) placeCell(map, parts, timeline, state);
    if (state.open) open();
  };
  const set = async (/** @type {Heatmap[]} */ several, /** @type {Rows} */ named) => {
    const metric = maps[Number(select.value)]?.metric;
    [maps, rows] = [several, named];
    unpacked.clear();
    select.replaceChildren(...maps.map((map, index) => new Option(map.metric, String(index))));
    select.value = String(Math.max(0, maps.findIndex((map) => map.metric === metric)));
    await load();
    closeup?.again();
  };
  select.addEventListener("change", () => {
    state.open = false;
    openRow(null);
    load();
    closeup?.again();
  });
  centre.addEventListener("change", load);
  addPointer(parts, () => sheet, timeline, state, read, choose);
  addKeys(parts, () => sheet, timeline, state, read, choose);
  let near = true;
  let moved = false;
  const catchUp = () => {
    if (near && moved) draw();
    moved &&= !near;
  };
  timeline.on("view", () => {
    moved = true;
    if (near) inTurns(catchUp);
  });
  new IntersectionObserver((entries) => {
    near = entries[entries.length - 1].isIntersecting;
    catchUp();
  }).observe(plot);
  let width = 0;
  const fit = () => {
    if (plot.clientWidth === width) return;
    width = plot.clientWidth;
    draw();
  };
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(plot);
  /** Chooses a metric and a row, marks a step in it, and opens its curve. */
  const show = async (/** @type {string} */ metric, /** @type {number} */ row, /** @type {number} */ step) => {
    select.value = String(Math.max(0, maps.findIndex((each) => each.metric === metric)));
    await load();
    if (!sheet) return;
    state.row = row;
    state.column = columnAt(sheet.map, step);
    draw();
    read();
    open();
    parts.scroll.scrollTop = (row + 0.5) * rowHeight(sheet.map) - parts.scroll.clientHeight / 2;
  };
  return { draw, show, set };
}

/** @param {Heatmap} map */
async function unpackBoth(map) {
  const codes = await unpackCodes(map.codes);
  return /** @type {[Int16Array, Int16Array]} */ ([codes, map.others === null ? codes : await unpackCodes(map.others)]);
}

/**
 * What a row can be compared with: itself, all rows, or the literature.
 *
 * @param {HTMLSelectElement} select
 * @param {Heatmap} map
 */
function offerCentres(select, map) {
  const before = select.dataset.metric === map.metric ? select.value : "";
  const healthy = map.healthy === null ? [] : [new Option(`healthy: ${formatNumber(map.healthy)}`, "healthy")];
  const own = map.pair ? "equal" : "the row’s own median";
  select.replaceChildren(...healthy, new Option(own, "own"), ...(map.pair ? [] : [new Option("the median of all rows", "all")]));
  if (before) select.value = before;
  select.dataset.metric = map.metric;
  select.disabled = map.scale === "linear" || Boolean(map.pair);
}

/**
 * @param {Heatmap} map
 * @param {Int16Array} codes
 * @param {Int16Array} others
 * @param {string} against What each row is compared with.
 * @param {Int16Array} usual Of all steps, which decide where the colours end.
 * @param {number} columns Of these.
 * @returns {Sheet}
 */
function compare(map, codes, others, against, usual, columns) {
  const known = map.centres.filter((each) => each !== null).sort((left, right) => left - right);
  const one = against === "healthy" ? map.healthy : against === "all" ? known[Math.floor(known.length / 2)] : null;
  const centres = map.centres.map((each) => one ?? each);
  const shifts = Int32Array.from(map.centres, (each) => (one && each ? Math.round(LOG_SCALE * Math.log10(each / one)) : 0));
  return { map, codes, others, shifts, centres, reach: one ? reachOf(usual, shifts, columns) : map.reach };
}

/**
 * Decades that hold 99.5 % of some of the cells, between 1 and 4.
 *
 * @param {Int16Array} codes
 * @param {Int32Array} shifts
 * @param {number} columns
 */
function reachOf(codes, shifts, columns) {
  /** @type {number[]} */
  const far = [];
  const every = Math.max(1, Math.floor(codes.length / 20000));
  for (let at = 0; at < codes.length; at += every) {
    if (codes[at] > ZERO) far.push(Math.abs(codes[at] + shifts[Math.floor(at / columns)]));
  }
  far.sort((left, right) => left - right);
  return Math.max(1, Math.min(MAX_REACH, Math.ceil((far[Math.floor(0.995 * (far.length - 1))] ?? 0) / LOG_SCALE)));
}

/**
 * @param {HTMLElement} plot
 */
function buildParts(plot) {
  const place = (/** @type {HTMLElement} */ element, /** @type {string} */ name, /** @type {HTMLElement} */ parent) => {
    element.className = name;
    parent.append(element);
  };
  const [scroll, area, over, cell, drag] = Array.from({ length: 5 }, () => document.createElement("div"));
  const [labels, cells, axis] = Array.from({ length: 3 }, () => document.createElement("canvas"));
  place(scroll, "heat-scroll", plot);
  place(labels, "heat-labels", scroll);
  place(area, "heat-area", scroll);
  place(cells, "heat-cells", area);
  place(over, "heat-over", area);
  place(cell, "heat-cell", over);
  place(drag, "heat-drag", over);
  place(axis, "heat-axis", plot);
  cell.hidden = drag.hidden = true;
  area.tabIndex = 0;
  area.setAttribute("role", "application");
  area.setAttribute("aria-label", "Heat map, depth over steps. Arrow keys move, Enter opens the curve of the row, plus and minus zoom, Escape shows all steps.");
  area.setAttribute("aria-describedby", "heatmap-readout");
  return { scroll, labels, area, cells, over, cell, drag, axis };
}

/**
 * Of the text twins only that of the metric in view is offered.
 *
 * @param {number} index
 */
function showTable(index) {
  document.querySelectorAll("#heatmap-tables > details").forEach((each, position) => {
    /** @type {HTMLElement} */ (each).hidden = position !== index;
  });
}

/**
 * @param {Sheet} sheet
 * @param {number} row
 * @param {number} column
 */
function describe(sheet, row, column) {
  const { map } = sheet;
  const first = map.starts[column];
  const last = map.stops[column] - 1;
  const steps = last > first ? `steps ${formatNumber(first)} to ${formatNumber(last)}` : `step ${formatNumber(first)}`;
  return `${map.rows[row]}, ${steps}: ${map.metric} ${cellText(sheet, row, row * map.starts.length + column)}`;
}

/**
 * @param {Sheet} sheet
 * @param {number} row
 * @param {number} at
 */
function cellText(sheet, row, at) {
  const { map, codes, others } = sheet;
  const code = codes[at];
  if (code === NOT_OBSERVED) return "not observed";
  if (code === NON_FINITE) return "NaN or inf";
  if (code === ZERO) return "0";
  const [low, high] = [code, others[at]].sort((left, right) => left - right).map((each) => cellValue(map, each, row));
  const rounded = (/** @type {number} */ value) => formatNumber(Number(value.toPrecision(3)));
  const values = low === high ? rounded(low) : `${rounded(low)} to ${rounded(high)}`;
  if (map.scale === "linear") return values;
  const distance = code + sheet.shifts[row];
  const factor = 10 ** Math.abs(distance / LOG_SCALE);
  const times = `${distance > 0 ? "×" : "÷"}${rounded(factor)}`;
  if (map.pair) return factor < 1.005 ? "equal" : `of ${map.pair[1]} is ${times} that of ${map.pair[0]}`;
  const words = factor < 1.005 ? "at its centre" : `${times} of its centre`;
  return `≈ ${values}, ${words} ${formatNumber(sheet.centres[row])}`;
}

/**
 * @param {Heatmap} map
 * @param {number} code
 * @param {number} row
 */
function cellValue(map, code, row) {
  return map.scale === "linear" ? code / LINEAR_SCALE : (map.centres[row] ?? NaN) * 10 ** (code / LOG_SCALE);
}

/**
 * @param {Sheet} sheet
 * @param {number} row
 * @param {import("./curves.js").Curve | undefined} exact
 * @returns {import("./curves.js").Chart}
 */
function rowChart(sheet, row, exact) {
  const { map } = sheet;
  const centre = sheet.centres[row];
  const text = map.pair ? "equal" : "centre";
  const guides = map.scale === "log" && centre !== null ? [{ low: centre, high: centre, text }] : [];
  const binned = map.others !== null;
  const curves = exact ? [exact] : binned ? [cellCurve(sheet, row, Math.max, "highest"), cellCurve(sheet, row, Math.min, "lowest")] : [cellCurve(sheet, row, Math.max, map.rows[row])];
  const log = map.scale === "log" && curves.some((curve) => curve.values.some((value) => value !== null && value > 0));
  const bands = /** @type {[number, number][]} */ (binned && !exact ? [[0, 1]] : []);
  return { name: "row", title: `${map.metric} of ${map.rows[row]}`, unit: "", log, by_depth: false, curves, guides, bands };
}

/**
 * One end of the cells of a row.
 *
 * @param {Sheet} sheet
 * @param {number} row
 * @param {(...ends: number[]) => number} end
 * @param {string} label
 */
function cellCurve({ map, codes, others }, row, end, label) {
  const columns = map.starts.length;
  /** @type {import("./curves.js").Curve} */
  const curve = { label, steps: [], values: [], nonfinite: [], nonpositive: [] };
  for (let column = 0; column < columns; column += 1) {
    const at = row * columns + column;
    const span = [map.starts[column], map.stops[column] - 1];
    if (codes[at] === NOT_OBSERVED) continue;
    if (codes[at] === NON_FINITE) curve.nonfinite.push(span);
    if (codes[at] === ZERO) curve.nonpositive.push(span);
    curve.steps.push(map.starts[column]);
    const value = codes[at] === ZERO ? 0 : cellValue(map, end(codes[at], others[at]), row);
    curve.values.push(codes[at] === NON_FINITE ? null : value);
  }
  return curve;
}

/**
 * @param {Heatmap} map
 * @param {Parts} parts
 * @param {Timeline} timeline
 * @param {State} state
 */
function placeCell(map, parts, timeline, state) {
  const { view } = timeline;
  const width = parts.over.clientWidth;
  const at = (/** @type {number} */ step) => ((step - 0.5 - view.min) / (view.max - view.min)) * width;
  const left = at(map.starts[state.column]);
  parts.cell.hidden = left < -2 || left > width;
  parts.cell.style.transform = `translate(${left}px, ${state.row * rowHeight(map)}px)`;
  parts.cell.style.width = `${Math.max(3, at(map.stops[state.column]) - left)}px`;
  parts.cell.style.height = `${rowHeight(map)}px`;
}

/**
 * Hovering reads a cell, a click opens its row, dragging shows fewer steps.
 *
 * @param {Parts} parts
 * @param {() => Sheet | null} getSheet
 * @param {Timeline} timeline
 * @param {State} state
 * @param {() => void} read
 * @param {() => void} choose
 */
function addPointer(parts, getSheet, timeline, state, read, choose) {
  let begun = NaN;
  const stepAt = (/** @type {{clientX: number}} */ event) => {
    const box = parts.over.getBoundingClientRect();
    const share = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    return timeline.view.min + share * (timeline.view.max - timeline.view.min);
  };
  const locate = (/** @type {MouseEvent} */ event) => {
    const sheet = getSheet();
    if (!sheet) return;
    const { map } = sheet;
    const box = parts.over.getBoundingClientRect();
    state.row = Math.max(0, Math.min(map.rows.length - 1, Math.floor((event.clientY - box.top) / rowHeight(map))));
    state.column = columnAt(map, stepAt(event) + 0.5);
    read();
  };
  const drag = (/** @type {MouseEvent} */ event) => {
    const box = parts.over.getBoundingClientRect();
    const [left, right] = [begun, event.clientX].sort((one, other) => one - other);
    parts.drag.hidden = right - left < 4;
    parts.drag.style.transform = `translateX(${left - box.left}px)`;
    parts.drag.style.width = `${right - left}px`;
  };
  parts.over.addEventListener("pointerdown", (event) => (begun = event.button === 0 && event.pointerType === "mouse" ? event.clientX : NaN));
  parts.over.addEventListener("pointermove", (event) => {
    if (!getSheet()) return;
    locate(event);
    if (event.buttons === 1 && !Number.isNaN(begun)) drag(event);
  });
  parts.over.addEventListener("pointerleave", () => {
    parts.cell.hidden = document.activeElement !== parts.area;
    parts.drag.hidden = true;
  });
  parts.over.addEventListener("click", (event) => {
    if (!getSheet()) return;
    locate(event);
    const dragged = !parts.drag.hidden;
    parts.drag.hidden = true;
    if (!dragged) choose();
    else {
      const from = { clientX: begun };
      const [min, max] = [stepAt(from), stepAt(event)].sort((one, other) => one - other);
      if (max - min >= 1) timeline.set("view", { view: { min, max } });
    }
  });
  parts.over.addEventListener("dblclick", () => timeline.set("view", { view: timeline.whole }));
}

/**
 * @param {Parts} parts
 * @param {() => Sheet | null} getSheet
 * @param {Timeline} timeline
 * @param {State} state
 * @param {() => void} read
 * @param {() => void} choose
 */
function addKeys(parts, getSheet, timeline, state, read, choose) {
  parts.area.addEventListener("keydown", (event) => {
    /** @type {Record<string, [number, number]>} */
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0], Home: [0, -1e9], End: [0, 1e9] };
    const sheet = getSheet();
    if (!sheet) return;
    if (event.key in moves) {
      const [down, right] = moves[event.key];
      state.row = Math.max(0, Math.min(sheet.map.rows.length - 1, state.row + down));
      state.column = Math.max(0, Math.min(sheet.map.starts.length - 1, state.column + right));
      const top = state.row * rowHeight(sheet.map);
      if (top < parts.scroll.scrollTop) parts.scroll.scrollTop = top;
      const bottom = top + rowHeight(sheet.map) - parts.scroll.clientHeight;
      if (bottom > parts.scroll.scrollTop) parts.scroll.scrollTop = bottom;
      read();
    } else if (event.key === "Enter" || event.key === " ") {
      choose();
    } else if (event.key === "Escape") {
      timeline.set("view", { view: timeline.whole });
    } else if (!zoomByKey(timeline, event.key, sheet.map.starts[state.column])) {
      return;
    }
    event.preventDefault();
  });
}
