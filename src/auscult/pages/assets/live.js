/**
 * The page of one run, kept as the run is: new points as they are saved, the page's other parts when they are made anew,
 * and on zooming the detail of the steps in view.
 */
import { openPage } from "./page.js";
import { listen } from "./events.js";
import { createStatus } from "./status.js";
import { createCurveStore } from "./livecurves.js";

/**
 * @typedef {import("./page.js").Data} Data
 * @typedef {{title: string, mark: string, sections: Record<string, string>, data: Data}} Fresh A page, as the server makes it.
 * @typedef {{first: number, last: number, charts: import("./livecurves.js").Points[]}} Added
 */

const SETTLED_MS = 200;
const AGAIN_MS = 2000;

function start() {
  const status = createStatus();
  const embedded = document.getElementById("data");
  if (embedded) follow(JSON.parse(embedded.textContent), status);
  else wait(status);
}

/**
 * A run that cannot be read: its page is loaded again when it can be.
 *
 * @param {import("./status.js").Status} status
 */
function wait(status) {
  listen("events", "", status, { anew: () => location.reload(), condition: status.condition });
}

/**
 * @param {Data} data
 * @param {import("./status.js").Status} status
 */
function follow(data, status) {
  const page = openPage(data, fetchCells);
  const store = createCurveStore(data.charts);
  /** @type {Map<string, string>} */
  const placed = new Map();
  let steps = data.steps;
  /** @type {Promise<void>} */
  let turn = Promise.resolve(); // one page after the other
  const show = (/** @type {string[]} */ names) => page.update({ data: { charts: store.charts(names), steps } });

  const stream = listen("events", document.body.dataset.mark ?? "", status, {
    condition(state) {
      status.condition(state);
      page.player.follow(state.word === "training");
    },
    points: (/** @type {Added} */ added) => {
      steps = [Math.min(steps[0], added.first), Math.max(steps[1], added.last)];
      show(store.append(added.charts));
      status.reached(added.last);
    },
    page: () => load(false),
    anew: () => load(true),
  });

  /** Everything again; what has not changed stays as it is. */
  function load(/** @type {boolean} */ anew) {
    turn = turn.then(async () => {
      const fresh = await fetchPage();
      if (fresh) place(fresh, anew);
      else setTimeout(() => load(anew), AGAIN_MS);
    });
  }

  function place(/** @type {Fresh} */ fresh, /** @type {boolean} */ anew) {
    const changed = (/** @type {[string, string]} */ [name, html]) => name !== "player" && placed.get(name) !== html; // who plays keeps the controls
    const sections = Object.fromEntries(Object.entries(fresh.sections).filter(changed));
    for (const [name, html] of Object.entries(sections)) placed.set(name, html);
    const [first, last] = fresh.data.steps;
    store.replace(fresh.data.charts, anew ? Infinity : last);
    steps = anew ? fresh.data.steps : [Math.min(steps[0], first), Math.max(steps[1], last)];
    page.update({ sections, data: { ...fresh.data, charts: store.charts(), steps } });
    document.title = fresh.title;
    if (anew || store.incomplete) stream.restart(fresh.mark); // the points after it are sent again
  }

  zoomIn(page.timeline, store, show);
}

/** The page as it was last made; null while the server is away or the run cannot be read. */
async function fetchPage() {
  try {
    const answer = await fetch("page");
    return answer.ok ? /** @type {Fresh} */ (await answer.json()) : null;
  } catch {
    return null;
  }
}

/** @type {import("./closeup.js").Ask} */
async function fetchCells(metric, first, last, signal) {
  const answer = await fetch(`cells?metric=${encodeURIComponent(metric)}&first=${first}&last=${last}`, { signal });
  return answer.ok ? (await answer.json()).map : null;
}

/**
 * When the view has come to rest on some of the steps, these are asked for in detail.
 *
 * @param {import("./timeline.js").Timeline} timeline
 * @param {import("./livecurves.js").CurveStore} store
 * @param {(names: string[]) => void} show
 */
function zoomIn(timeline, store, show) {
  let asked = new AbortController();
  /** @type {number | undefined} */
  let timer;
  timeline.on("view", () => {
    clearTimeout(timer);
    asked.abort();
    if (timeline.view === timeline.whole) {
      if (store.detailed) show(store.forget());
      return;
    }
    asked = new AbortController();
    const { signal } = asked;
    timer = setTimeout(async () => {
      const first = Math.max(0, Math.floor(timeline.view.min));
      const last = Math.max(first, Math.ceil(timeline.view.max));
      try {
        const answer = await fetch(`points?first=${first}&last=${last}`, { signal });
        if (answer.ok) show(store.detail(await answer.json()));
      } catch {
        // another view has been chosen, or the server is away: what is drawn stays
      }
    }, SETTLED_MS);
  });
}

start();
