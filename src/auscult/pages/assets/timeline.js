/**
 * What all charts share: the steps in view, the playhead and the marked step. Knows nothing of drawing.
 */

/**
 * @typedef {{min: number, max: number}} View
 * @typedef {"view" | "playhead" | "mark" | "seek"} Topic
 * @typedef {object} Timeline
 * @property {View} view Steps in view.
 * @property {View} whole All steps.
 * @property {number | null} playhead Step being heard.
 * @property {number | null} marked Step that a reader marked.
 * @property {(topic: Topic, listener: () => void, signal?: AbortSignal) => void} on Until the signal is aborted.
 * @property {(topic: Topic, change: object) => void} set
 * @property {(first: number, last: number) => void} extend Other steps are all steps; whoever saw all of them still does.
 */

/**
 * @param {number} first
 * @param {number} last
 * @returns {Timeline}
 */
export function createTimeline(first, last) {
  const whole = wholeView(first, last);
  /** @type {Map<Topic, (() => void)[]>} */
  const listeners = new Map();
  /** @type {Timeline} */
  const timeline = {
    view: whole,
    whole,
    playhead: null,
    marked: null,
    on(topic, listener, signal) {
      listeners.set(topic, [...(listeners.get(topic) ?? []), listener]);
      signal?.addEventListener("abort", () => {
        listeners.set(topic, (listeners.get(topic) ?? []).filter((each) => each !== listener));
      });
    },
    set(topic, change) {
      Object.assign(timeline, change);
      for (const listener of listeners.get(topic) ?? []) listener();
    },
    extend(begin, end) {
      const followed = timeline.view === timeline.whole;
      timeline.whole = wholeView(begin, end);
      if (followed) timeline.set("view", { view: timeline.whole });
    },
  };
  return timeline;
}

/**
 * @param {number} first
 * @param {number} last
 * @returns {View}
 */
function wholeView(first, last) {
  const room = Math.max(0.5, (last - first) * 0.005);
  return { min: first - room, max: last + room };
}

const ZOOMS = new Map([["+", 0.5], ["=", 0.5], ["-", 2], ["_", 2]]);

/**
 * Shows fewer steps around one of them, or more of them, but never more than all.
 *
 * @param {Timeline} timeline
 * @param {string} key What was pressed.
 * @param {number} step
 * @returns {boolean} Whether the key is one of those that zoom.
 */
export function zoomByKey(timeline, key, step) {
  const factor = ZOOMS.get(key);
  if (factor === undefined) return false;
  const { view, whole } = timeline;
  const min = Math.max(whole.min, step - (step - view.min) * factor);
  const max = Math.min(whole.max, step + (view.max - step) * factor);
  const all = min === whole.min && max === whole.max;
  if (max - min >= 1) timeline.set("view", { view: all ? whole : { min, max } });
  return true;
}

/**
 * Places two vertical lines, playhead and mark, over a plot and keeps them there.
 *
 * @param {Timeline} timeline
 * @param {HTMLElement} parent The element that covers exactly the plotted area.
 * @param {AbortSignal} [signal] Ends it.
 * @returns {() => void} To be called when the plot was drawn anew.
 */
export function addRunningLines(timeline, parent, signal) {
  const lines = { playhead: document.createElement("div"), marked: document.createElement("div") };
  for (const [name, line] of Object.entries(lines)) {
    line.className = `running ${name}`;
    parent.append(line);
  }
  const place = () => {
    for (const name of /** @type {const} */ (["playhead", "marked"])) {
      const line = lines[name];
      const step = timeline[name];
      const share = ((step ?? NaN) - timeline.view.min) / (timeline.view.max - timeline.view.min);
      line.hidden = !(share >= 0 && share <= 1);
      if (!line.hidden) line.style.transform = `translateX(${100 * share}%)`;
    }
  };
  for (const topic of /** @type {const} */ (["view", "playhead", "mark"])) timeline.on(topic, place, signal);
  return place;
}

/**
 * @param {number | null | undefined} value
 * @returns {string} In four significant digits.
 */
export function formatNumber(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return value.toLocaleString("en");
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(4)));
  return value.toExponential(2).replace(/\.?0*e\+?/, "e");
}
