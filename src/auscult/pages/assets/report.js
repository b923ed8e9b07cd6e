/**
 * The page: reads its data and draws every chart.
 */
import { createTimeline } from "./timeline.js";
import { onPaletteChange, readPalette } from "./palette.js";
import { drawChart } from "./curves.js";
import { createHeatmap } from "./heatmap.js";
import { createLayers } from "./layers.js";
import { createPlayer } from "./player.js";

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const timeline = createTimeline(data.steps[0], data.steps[1]);
  let colours = readPalette();
  const palette = () => colours;
  /** @type {(() => void)[]} */
  const redraws = [];
  for (const chart of data.charts) {
    const parent = document.querySelector(`#chart-${chart.name} .plot`);
    redraws.push(drawChart(parent, chart, timeline, palette, data.onsets));
  }
  const map = data.heatmaps.length ? createHeatmap(data.heatmaps, timeline, palette, createRowOpener(timeline, palette, data.onsets, redraws)) : null;
  if (map) redraws.push(map.draw);
  createLayers();
  createPlayer(data.sound, timeline);
  addZoomReset(timeline);
  addEvidenceLinks(timeline, map);
  onPaletteChange(() => {
    colours = readPalette();
    for (const redraw of redraws) redraw();
  });
  document.documentElement.classList.add("drawn");
}

/** Shows the curve of one row under the heat map; the one shown before is ended. */
function createRowOpener(timeline, palette, onsets, redraws) {
  const panel = document.getElementById("heatmap-row");
  let redraw = () => {};
  let shown = new AbortController();
  redraws.push(() => redraw());
  return (chart) => {
    shown.abort();
    shown = new AbortController();
    redraw = () => {};
    panel.hidden = chart === null;
    panel.replaceChildren();
    if (chart === null) return;
    const title = document.createElement("h3");
    const plot = document.createElement("div");
    title.textContent = chart.title;
    plot.className = "plot";
    panel.append(title, plot);
    redraw = drawChart(plot, chart, timeline, palette, onsets, shown.signal);
  };
}

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

/** A link from a finding scrolls to its evidence, chooses its row and marks its step. */
function addEvidenceLinks(timeline, map) {
  for (const link of document.querySelectorAll("a.evidence")) {
    link.addEventListener("click", () => {
      const { step, metric, row } = link.dataset;
      if (row !== undefined) map?.show(metric, Number(row), Number(step));
      timeline.set("view", { view: timeline.whole });
      timeline.set("mark", { marked: Number(step) });
    });
  }
}

start();
