/**
 * The open page: draws every chart, and replaces any part of it when there is something new.
 */
import { createTimeline } from "./timeline.js";
import { onPaletteChange, readPalette } from "./palette.js";
import { drawChart } from "./curves.js";
import { createHeatmap } from "./heatmap.js";
import { createSpreads } from "./spreads.js";
import { createLayers } from "./layers.js";
import { createPlayer } from "./player.js";

/**
 * Everything that is drawn, as `Page.data` of Python has it.
 *
 * @typedef {object} Data
 * @property {[number, number]} steps The first and the last.
 * @property {import("./curves.js").Chart[]} charts
 * @property {import("./heatmap.js").Heatmap[]} heatmaps
 * @property {import("./heatmap.js").Rows} rows
 * @property {import("./spreads.js").Spread[]} spreads
 * @property {import("./curves.js").Onset[]} onsets
 * @property {import("./marks.js").Mark[]} marks
 * @property {import("./curves.js").Curve | null} rate
 * @property {import("./player.js").Sound[]} sounds
 */

/**
 * What is new on a page. Charts take the place of those of the same name, and charts that are not named stay as they
 * are; everything else takes the place of what was there.
 *
 * @typedef {{sections?: Record<string, string>, data?: Partial<Data>}} Parts
 */

/**
 * Draws a page whose HTML is there.
 *
 * @param {Data} data
 * @param {import("./closeup.js").Ask} [ask] For the cells of fewer steps of a heat map.
 * @returns {{timeline: import("./timeline.js").Timeline, player: import("./player.js").Player,
 *   update: (parts: Parts) => void}}
 */
export function openPage(data, ask) {
  const now = { ...data };
  const timeline = createTimeline(data.steps[0], data.steps[1]);
  let colours = readPalette();
  /** @type {import("./curves.js").Scene} */
  const scene = { timeline, palette: () => colours, onsets: data.onsets, marks: data.marks, rate: null };
  /** @type {Map<string, import("./curves.js").Drawing>} */
  const drawings = new Map();
  const opener = createRowOpener(scene);
  const heatmap = document.getElementById("heatmap") ? createHeatmap(scene, opener.open, ask) : null;
  const spreads = document.getElementById("spread") ? createSpreads(scene) : null;
  const redraw = () => {
    for (const each of drawings.values()) each.redraw();
    opener.redraw();
    spreads?.redraw();
  };
  const drawAll = () => {
    for (const each of drawings.values()) each.draw();
    spreads?.draw();
  };
  const place = () => placeCharts(now.charts, drawings, scene);
  place();
  heatmap?.set(now.heatmaps, now.rows);
  spreads?.set(now.spreads);
  createLayers();
  const player = createPlayer(now.sounds, timeline);
  addRateChoice(scene, () => now.rate, redraw);
  addZoomReset(timeline);
  addScrollPadding();
  addEvidenceLinks(timeline, heatmap, drawAll);
  onPaletteChange(() => {
    colours = readPalette();
    redraw();
    drawAll();
    heatmap?.draw();
  });
  drawInTurns([...drawings.values(), ...(spreads ? [spreads] : [])]);
  document.documentElement.classList.add("drawn");

  const update = (/** @type {Parts} */ { sections = {}, data: news = {} }) => {
    for (const [name, html] of Object.entries(sections)) if (name !== "player") replaceSection(name, html);
    const charts = new Map(now.charts.map((each) => [each.name, each]));
    for (const each of news.charts ?? []) charts.set(each.name, each);
    Object.assign(now, news, { charts: [...charts.values()] });
    if (news.steps) timeline.extend(news.steps[0], news.steps[1]);
    if (scene.rate) scene.rate = now.rate;
    Object.assign(scene, { onsets: now.onsets, marks: now.marks });
    for (const each of news.charts ?? []) drawings.get(each.name)?.replace(each);
    place();
    if (news.onsets || news.marks || news.rate) redraw();
    if (news.heatmaps || news.rows) heatmap?.set(now.heatmaps, now.rows);
    if (news.spreads) spreads?.set(now.spreads);
    if (sections.layers !== undefined) createLayers();
    if (news.sounds) player.replace(now.sounds);
  };
  return { timeline, player, update };
}

/**
 * Draws the charts that have a place on the page and are not drawn yet, and ends those that have lost theirs.
 *
 * @param {import("./curves.js").Chart[]} charts
 * @param {Map<string, import("./curves.js").Drawing>} drawings
 * @param {import("./curves.js").Scene} scene
 */
function placeCharts(charts, drawings, scene) {
  for (const [name, drawing] of drawings) {
    if (document.getElementById(`plot-${name}`)) continue;
    drawing.end();
    drawings.delete(name);
  }
  for (const chart of charts) {
    const parent = document.getElementById(`plot-${chart.name}`);
    if (parent && !drawings.has(chart.name)) drawings.set(chart.name, drawChart(parent, chart, scene));
  }
}

/**
 * Charts out of sight are drawn one by one while nothing else happens, so that the page opens at once.
 *
 * @param {{draw: () => unknown}[]} waiting
 */
function drawInTurns(waiting) {
  const idle = window.requestIdleCallback ?? ((/** @type {() => void} */ call) => setTimeout(call, 50));
  const next = () => {
    waiting.shift()?.draw();
    if (waiting.length) idle(next);
  };
  idle(next);
}

const BREATH = 12; // pixels between what stays on top and what is scrolled to
const FOCUSABLE = "a[href], button, select, input, summary, [tabindex]";

/**
 * New content of a section; what carries `data-keep`, what was opened, scrolled or pointed at, and the focus stay.
 *
 * @param {string} name
 * @param {string} html
 */
function replaceSection(name, html) {
  const section = document.getElementById(name);
  if (!section) return;
  const content = section.querySelector(":scope > .content") ?? section;
  const opened = new Set([...content.querySelectorAll("details[open] > summary")].map((each) => each.textContent));
  const restore = [keepFocus(content), keepScrolled(content)];
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  for (const each of fresh.content.querySelectorAll("[data-keep]")) {
    const kept = document.getElementById(each.id);
    if (kept) each.replaceWith(kept);
  }
  for (const each of fresh.content.querySelectorAll("details > summary")) {
    /** @type {HTMLDetailsElement} */ (each.parentElement).open ||= opened.has(each.textContent);
  }
  const target = location.hash && fresh.content.getElementById(location.hash.slice(1));
  if (target) target.classList.add("pointed"); // a new element is no target to the browser
  content.replaceChildren(fresh.content);
  for (const each of restore) each();
}

/**
 * @param {Element} content
 * @returns {() => void} Gives the focus back to what had it, or to what took its place.
 */
function keepFocus(content) {
  const focused = document.activeElement;
  if (!(focused instanceof HTMLElement) || !content.contains(focused)) return () => {};
  const id = focused.closest("[id]")?.id ?? "";
  const within = () => /** @type {HTMLElement[]} */ ([...(document.getElementById(id)?.querySelectorAll(FOCUSABLE) ?? [])]);
  const place = within().indexOf(focused);
  return () => (focused.isConnected ? focused : within()[place])?.focus({ preventScroll: true });
}

/**
 * @param {Element} content
 * @returns {() => void} Scrolls every table to where it was.
 */
function keepScrolled(content) {
  const boxes = () => [...content.querySelectorAll(".scroll")];
  const places = new Map(boxes().map((each) => [each.getAttribute("aria-label"), [each.scrollLeft, each.scrollTop]]));
  return () => {
    for (const each of boxes()) {
      [each.scrollLeft, each.scrollTop] = places.get(each.getAttribute("aria-label")) ?? [0, 0];
    }
  };
}

/**
 * Shows the curve of one row under the heat map; the one shown before is replaced.
 *
 * @param {import("./curves.js").Scene} scene
 */
function createRowOpener(scene) {
  const panel = /** @type {HTMLElement} */ (document.getElementById("heatmap-row"));
  const title = document.createElement("h3");
  const plot = document.createElement("div");
  plot.className = "plot";
  /** @type {import("./curves.js").Drawing | null} */
  let drawing = null;
  const open = (/** @type {import("./curves.js").Chart | null} */ chart) => {
    panel.hidden = chart === null;
    if (chart === null) return;
    title.textContent = chart.title;
    panel.append(title, plot);
    if (drawing) drawing.replace(chart);
    else drawing = drawChart(plot, chart, scene);
    drawing.draw();
  };
  return { open, redraw: () => drawing?.redraw() };
}

/**
 * A box that puts the learning rate behind every chart.
 *
 * @param {import("./curves.js").Scene} scene
 * @param {() => import("./curves.js").Curve | null} rate
 * @param {() => void} redraw
 */
function addRateChoice(scene, rate, redraw) {
  const box = /** @type {HTMLInputElement | null} */ (document.getElementById("rate"));
  const choose = () => {
    scene.rate = box?.checked ? rate() : null;
    redraw();
  };
  box?.addEventListener("change", choose);
  if (box?.checked) choose(); // a browser may have kept the choice
}

/**
 * @param {import("./timeline.js").Timeline} timeline
 */
function addZoomReset(timeline) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "zoom-reset";
  button.textContent = "Show all steps";
  button.hidden = true;
  button.addEventListener("click", () => timeline.set("view", { view: timeline.whole }));
  timeline.on("view", () => (button.hidden = timeline.view === timeline.whole));
  document.body.append(button);
}

/** What is scrolled to must not come to lie under what stays on top: the player, and the status of a live page. */
function addScrollPadding() {
  const bars = ["live-status", "player"].flatMap((id) => document.getElementById(id) ?? []);
  const { style } = document.documentElement;
  const fit = () => {
    const [status, all] = [bars.filter((each) => each.id !== "player"), bars].map((some) => some.reduce((sum, each) => sum + each.offsetHeight, 0));
    style.setProperty("--status", `${status}px`);
    style.scrollPaddingTop = `${all + BREATH}px`;
  };
  const observer = new ResizeObserver(fit);
  for (const each of bars) observer.observe(each);
}

/**
 * A link from a finding scrolls to its evidence, chooses its row and marks its step.
 *
 * @param {import("./timeline.js").Timeline} timeline
 * @param {{show: (metric: string, row: number, step: number) => Promise<void>} | null} heatmap
 * @param {() => void} drawAll
 */
function addEvidenceLinks(timeline, heatmap, drawAll) {
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a.evidence") : null;
    if (!(link instanceof HTMLAnchorElement)) return;
    const { step, metric, row } = link.dataset;
    document.querySelector("tr.pointed")?.classList.remove("pointed");
    drawAll(); // so that nothing above the evidence grows once it is in sight
    const shown = row === undefined ? undefined : heatmap?.show(metric ?? "", Number(row), Number(step));
    timeline.set("view", { view: timeline.whole });
    timeline.set("mark", { marked: Number(step) });
    requestAnimationFrame(async () => {
      await shown;
      const place = document.getElementById(link.hash.slice(1));
      if (place) land(place, row === undefined ? null : place.querySelector(".heat-cell")); // whatever else scrolls
    });
  });
}

/**
 * Scrolls to the top of a figure, or where not all of it above the cell fits on the screen, to the cell.
 *
 * @param {Element} figure
 * @param {Element | null} cell
 */
function land(figure, cell) {
  const room = innerHeight - (parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) || 0);
  const deep = cell !== null && cell.getBoundingClientRect().bottom - figure.getBoundingClientRect().top > room;
  if (deep) cell.scrollIntoView({ block: "center" });
  else figure.scrollIntoView();
}
