/**
 * The sound: play, stop, speed, and the way from its time to a step and back.
 */
import { formatNumber } from "./timeline.js";

/** @typedef {{times: number[], steps: number[], duration: number, events: {time: number, text: string}[]}} Sound */

/**
 * @param {Sound | null} sound
 * @param {import("./timeline.js").Timeline} timeline
 */
export function createPlayer(sound, timeline) {
  const audio = /** @type {HTMLAudioElement | null} */ (document.getElementById("audio"));
  if (!audio) return;
  const find = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
  const play = find("play");
  const speed = /** @type {HTMLSelectElement} */ (find("speed"));
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  audio.preservesPitch = true; // pitch is data
  const follow = () => {
    showMoment(audio, sound, timeline);
    if (!audio.paused && !calm) requestAnimationFrame(follow);
  };
  play.addEventListener("click", () => (audio.paused ? audio.play() : audio.pause()));
  find("stop").addEventListener("click", () => {
    audio.pause();
    audio.currentTime = 0;
    timeline.set("playhead", { playhead: null });
  });
  speed.addEventListener("change", () => (audio.playbackRate = Number(speed.value)));
  for (const name of ["play", "pause", "ended"]) {
    audio.addEventListener(name, () => (play.textContent = audio.paused ? "Play" : "Pause"));
  }
  audio.addEventListener("play", follow);
  audio.addEventListener("seeked", follow);
  if (calm) audio.addEventListener("timeupdate", follow);
  timeline.on("seek", () => {
    if (sound?.steps.length && timeline.marked !== null) audio.currentTime = convert(sound.steps, sound.times, timeline.marked);
  });
  /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("button.moment")).forEach((each) =>
    each.addEventListener("click", () => (audio.currentTime = Number(each.dataset.time))),
  );
}

/**
 * @param {HTMLAudioElement} audio
 * @param {Sound | null} sound
 * @param {import("./timeline.js").Timeline} timeline
 */
function showMoment(audio, sound, timeline) {
  const time = audio.currentTime;
  let text = `${time.toFixed(1)} s`;
  if (sound?.steps.length) {
    const step = convert(sound.times, sound.steps, time);
    timeline.set("playhead", { playhead: step });
    text += `, step ${formatNumber(Math.floor(step))}`;
  }
  const event = sound?.events.findLast((each) => each.time <= time && time - each.time < 3);
  /** @type {HTMLElement} */ (document.getElementById("now")).textContent = event ? `${text}: ${event.text}` : text;
}

/**
 * Piecewise linear map between two increasing lists; beyond their ends it stays at the end.
 *
 * @param {number[]} from
 * @param {number[]} to
 * @param {number} value
 */
export function convert(from, to, value) {
  const right = from.findIndex((each) => each > value);
  if (right === 0) return to[0];
  if (right < 0) return to[to.length - 1];
  const share = (value - from[right - 1]) / (from[right] - from[right - 1]);
  return to[right - 1] + share * (to[right] - to[right - 1]);
}
