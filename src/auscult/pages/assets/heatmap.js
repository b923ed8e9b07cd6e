/**
 * Depth x steps on a canvas: colours are distances from a row's healthy centre; NaN, zero and "not observed" have
 * patterns of their own, so that no colour stands for them.
 */
import { addRunningLines, formatNumber } from "./timeline.js";
import {
  LINEAR_SCALE, LOG_SCALE, NON_FINITE, NOT_OBSERVED, ZERO, columnAt, decode, drawLegend, drawMap, rowHeight,
} from "./raster.js";

/**
 * @typedef {{metric: string, rows: string[], starts: number[], stops: number[], codes: string,
 *   centres: (number | null)[], scale: "log" | "linear", reach: number}} Heatmap
 */

/**
 * @param {Heatmap[]} maps
 * @param {import("./timeline.js").Timeline} timeline
 * @param {() => import("./palette.js").Palette} palette
 * @param {(chart: import("./curves.js").Chart | null) => void} openRow Shows the curve of a row.
 * @returns {{draw: () => void, show: (metric: string, row: number, step: number) => void}}
 */
export function createHeatmap(maps, timeline, palette, openRow) {
  const plot = document.getElementById("heatmap-plot");
  const parts = buildParts(plot);
  const decoded = maps.map((map) => decode(map.codes));
  const select = document.getElementById("heatmap-metric");
  const state = { index: 0, row: 0, column: 0 };
  const map = () => maps[state.index];
  const place = addRunningLines(timeline, parts.over);
  const draw = () => {
    state.row = Math.min(state.row, map().rows.length - 1);
    state.column = Math.min(state.column, map().starts.length - 1);
    drawMap(map(), decoded[state.index], parts, timeline, palette());
    drawLegend(map(), palette());
    showTable(state.index);
    place();
  };
  const read = () => {
    document.getElementById("heatmap-readout").textContent = describe(map(), decoded[state.index], state.row, state.column);
    placeCell(map(), parts, timeline, state);
  };
  const open = () => {
    openRow(rowChart(map(), decoded[state.index], state.row));
    timeline.set("seek", { marked: map().starts[state.column] });
    timeline.set("mark", {});
  };
  select.addEventListener("change", () => {
    state.index = Number(select.value);
    openRow(null);
    draw();
  });
  addPointer(parts, map, timeline, state, read, open);
  addKeys(parts, map, state, read, open);
  timeline.on("view", draw);
  let width = 0;
  const fit = () => {
    if (plot.clientWidth === width) return;
    width = plot.clientWidth;
    draw();
  };
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(plot);
  const show = (metric, row, step) => {
    state.index = Math.max(0, maps.findIndex((each) => each.metric === metric));
    select.value = String(state.index);
    state.row = row;
    state.column = columnAt(map(), step);
    draw();
    read();
    openRow(rowChart(map(), decoded[state.index], row));
    parts.scroll.scrollTop = (row + 0.5) * rowHeight(map()) - parts.scroll.clientHeight / 2;
  };
  return { draw, show };
}

function buildParts(plot) {
  const make = (tag, name, parent) => {
    const element = document.createElement(tag);
    element.className = name;
    parent.append(element);
    return element;
  };
  const scroll = make("div", "heat-scroll", plot);
  const labels = make("canvas", "heat-labels", scroll);
  const area = make("div", "heat-area", scroll);
  const cells = make("canvas", "heat-cells", area);
  const over = make("div", "heat-over", area);
  const cell = make("div", "heat-cell", over);
  const axis = make("canvas", "heat-axis", plot);
  cell.hidden = true;
  area.tabIndex = 0;
  area.setAttribute("role", "application");
  area.setAttribute("aria-label", "Heat map, depth over steps. Arrow keys move, Enter opens the curve of the row.");
  area.setAttribute("aria-describedby", "heatmap-readout");
  return { scroll, labels, area, cells, over, cell, axis };
}

/** Of the text twins only that of the metric in view is offered. */
function showTable(index) {
  document.querySelectorAll("#heatmap > details").forEach((each, position) => {
    each.hidden = position !== index;
  });
}

function describe(map, codes, row, column) {
  const first = map.starts[column];
  const last = map.stops[column] - 1;
  const steps = last > first ? `steps ${formatNumber(first)} to ${formatNumber(last)}` : `step ${formatNumber(first)}`;
  return `${map.rows[row]}, ${steps}: ${map.metric} ${cellText(map, codes[row * map.starts.length + column], row)}`;
}

function cellText(map, code, row) {
  if (code === NOT_OBSERVED) return "not observed";
  if (code === NON_FINITE) return "NaN or inf";
  if (code === ZERO) return "0";
  const value = cellValue(map, code, row);
  if (map.scale === "linear") return formatNumber(value);
  const factor = 10 ** Math.abs(code / LOG_SCALE);
  const words = factor < 1.005 ? "at its centre" : `${code > 0 ? "×" : "÷"}${formatNumber(Number(factor.toPrecision(3)))} of its centre`;
  return `≈ ${formatNumber(Number(value.toPrecision(3)))}, ${words} ${formatNumber(map.centres[row])}`;
}

function cellValue(map, code, row) {
  return map.scale === "linear" ? code / LINEAR_SCALE : map.centres[row] * 10 ** (code / LOG_SCALE);
}

/** @returns {import("./curves.js").Chart} */
function rowChart(map, codes, row) {
  const columns = map.starts.length;
  const curve = { label: map.rows[row], steps: [], values: [], nonfinite: [], nonpositive: [] };
  for (let column = 0; column < columns; column += 1) {
    const code = codes[row * columns + column];
    const span = [map.starts[column], map.stops[column] - 1];
    if (code === NOT_OBSERVED) continue;
    if (code === NON_FINITE) curve.nonfinite.push(span);
    if (code === ZERO) curve.nonpositive.push(span);
    curve.steps.push(map.starts[column]);
    curve.values.push(code === NON_FINITE ? null : code === ZERO ? 0 : cellValue(map, code, row));
  }
  const centre = map.centres[row];
  const guides = map.scale === "log" && centre !== null ? [{ low: centre, high: centre, text: "centre" }] : [];
  const log = map.scale === "log" && curve.values.some((value) => value > 0);
  return { name: "row", title: `${map.metric} of ${map.rows[row]}`, unit: "", log, by_depth: false, curves: [curve], guides };
}

function placeCell(map, parts, timeline, state) {
  const { view } = timeline;
  const width = parts.over.clientWidth;
  const at = (step) => ((step - 0.5 - view.min) / (view.max - view.min)) * width;
  const left = at(map.starts[state.column]);
  parts.cell.hidden = left < -2 || left > width;
  parts.cell.style.transform = `translate(${left}px, ${state.row * rowHeight(map)}px)`;
  parts.cell.style.width = `${Math.max(3, at(map.stops[state.column]) - left)}px`;
  parts.cell.style.height = `${rowHeight(map)}px`;
}

function addPointer(parts, map, timeline, state, read, open) {
  const locate = (event) => {
    const box = parts.over.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const step = timeline.view.min + share * (timeline.view.max - timeline.view.min) + 0.5;
    state.row = Math.max(0, Math.min(map().rows.length - 1, Math.floor((event.clientY - box.top) / rowHeight(map()))));
    state.column = columnAt(map(), step);
    read();
  };
  parts.over.addEventListener("pointermove", locate);
  parts.over.addEventListener("pointerleave", () => (parts.cell.hidden = document.activeElement !== parts.area));
  parts.over.addEventListener("click", (event) => {
    locate(event);
    open();
  });
  parts.over.addEventListener("dblclick", () => timeline.set("view", { view: timeline.whole }));
}

function addKeys(parts, map, state, read, open) {
  parts.area.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0], Home: [0, -1e9], End: [0, 1e9] };
    if (event.key in moves) {
      const [down, right] = moves[event.key];
      state.row = Math.max(0, Math.min(map().rows.length - 1, state.row + down));
      state.column = Math.max(0, Math.min(map().starts.length - 1, state.column + right));
      const top = state.row * rowHeight(map());
      if (top < parts.scroll.scrollTop) parts.scroll.scrollTop = top;
      const bottom = top + rowHeight(map()) - parts.scroll.clientHeight;
      if (bottom > parts.scroll.scrollTop) parts.scroll.scrollTop = bottom;
      read();
    } else if (event.key === "Enter" || event.key === " ") {
      open();
    } else {
      return;
    }
    event.preventDefault();
  });
}
