/**
 * What a live page says of itself: what the run is doing, how far it is, and whether the server is there.
 */
import { formatNumber } from "./timeline.js";

/**
 * @typedef {object} Status
 * @property {(on: boolean) => void} connected
 * @property {(state: {word: string, reason: string, step: number}) => void} condition
 * @property {(step: number) => void} reached
 */

/** @returns {Status} */
export function createStatus() {
  const bar = document.createElement("p");
  bar.id = bar.className = "live-status";
  bar.setAttribute("role", "status");
  const back = document.createElement("a");
  back.href = "../../";
  back.textContent = "All runs";
  const word = document.createElement("span");
  const reason = document.createElement("span");
  reason.className = "quiet";
  const step = document.createElement("span");
  step.id = "live-step";
  step.setAttribute("aria-live", "off"); // several times a second
  const connection = document.createElement("span");
  connection.className = "connection";
  bar.append(back, word, step, reason, connection);
  document.querySelector("header.top")?.before(bar);
  const reached = (/** @type {number} */ last) => {
    step.textContent = last < 0 ? "no step yet" : `step ${formatNumber(last)}`;
    step.dataset.step = String(last);
  };
  return {
    reached,
    connected(on) {
      const text = on ? "" : "The server does not answer; trying again …";
      if (connection.textContent !== text) connection.textContent = text;
    },
    condition(state) {
      word.className = `word ${state.word}`;
      word.textContent = state.word;
      reason.textContent = state.word === "training" ? "" : state.reason;
      document.documentElement.dataset.condition = state.word;
      reached(state.step);
    },
  };
}
