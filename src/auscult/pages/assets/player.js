/**
 * The sound: play, stop, speed, volume, and the way from its time to a step and back. Silent until it is asked to play;
 * before that there is no audio context at all.
 */
import { perform } from "./sound.js";
import { formatNumber } from "./timeline.js";

/**
 * @typedef {import("./sound.js").Score & {mapping: string, times: number[], steps: number[],
 *   events: {time: number, text: string}[]}} Sound `times` are moments at which `steps` begin.
 */

const AHEAD = 3; // seconds that are scheduled before they are due; in the background a page is woken once a second
const WAKE = 400; // ms between two looks at what comes next
const LEAD = 0.05; // seconds from the order to play to the first sound
const CALM = 250; // ms between two places of the playhead where motion is not wanted
const REMEMBERED = 3; // seconds for which an event stays in words
const RECENT = 3; // seconds of what has been that are heard before a run is followed
const SCALE = [275.67, 523.25, 993.1]; // Hz of a tenth of the reference, the reference, ten times the reference

/**
 * @typedef {object} Player
 * @property {(sounds: Sound[]) => void} replace Takes other scores; one that is being heard is heard to its end.
 * @property {(wanted: boolean) => void} follow Whether at the end of a score the next one is waited for, and heard from the
 *   step that was reached.
 */

/**
 * @param {Sound[]} first
 * @param {import("./timeline.js").Timeline} timeline
 * @returns {Player}
 */
export function createPlayer(first, timeline) {
  if (!first.length || !document.getElementById("player")) return { replace() {}, follow() {} };
  let sounds = first;
  let following = false;
  let waiting = false; // for the score that goes on where this one ends
  const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (document.getElementById(id));
  const [play, position, mode, heard, speed, volume] = ["play", "position", "mode", "heard", "speed", "volume"].map(input);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (calm) heard.value = "alerts";
  const deck = createDeck(() => volume.valueAsNumber / 100);
  let sound = sounds[Number(mode.value)];
  let moment = 0; // where it stands, or stood when it was last looked at

  const show = () => showMoment(sound, moment, timeline);
  const renew = () => {
    const next = sounds[Number(mode.value)];
    if (next === sound) return;
    const step = convert(sound.times, sound.steps, moment);
    moment = moment > 0 && sound.steps.length && next.steps.length ? convert(next.steps, next.times, step) : 0;
    sound = next;
  };
  const begin = () => {
    waiting = false;
    const voices = (/** @type {import("./sound.js").Voice} */ voice) => heard.value === "all" || voice.part === "alerts";
    deck.start(sound, { from: moment, speed: Number(speed.value), heard: voices });
    play.textContent = "Pause";
    follow();
  };
  const pause = () => {
    moment = deck.moment() ?? moment;
    waiting = false;
    deck.stop();
    play.textContent = "Play";
    show();
  };
  const stop = () => {
    pause();
    moment = 0;
    show();
    timeline.set("playhead", { playhead: null });
  };
  const seek = (/** @type {number} */ to) => {
    const playing = deck.moment() !== null || waiting;
    moment = Math.min(Math.max(0, to), sound.duration);
    if (playing) begin();
    else show();
  };
  const follow = () => {
    const now = deck.moment();
    if (now === null) return;
    moment = Math.min(now, sound.duration);
    if (now >= sound.duration) {
      if (!following) return stop();
      deck.stop();
      waiting = true;
      return goOn();
    }
    show();
    if (calm) setTimeout(follow, CALM);
    else requestAnimationFrame(follow);
  };
  const goOn = () => {
    renew();
    if (moment < sound.duration) begin();
    else show();
  };
  play.addEventListener("click", () => {
    if (deck.moment() !== null || waiting) return pause();
    renew();
    if (following && moment === 0) moment = Math.max(0, sound.duration - RECENT);
    begin();
  });
  input("stop").addEventListener("click", stop);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && (deck.moment() !== null || waiting)) stop();
  });
  position.addEventListener("input", () => seek((position.valueAsNumber / 1000) * sound.duration));
  volume.addEventListener("input", deck.adjust);
  for (const each of [speed, heard]) each.addEventListener("change", () => seek(deck.moment() ?? moment));
  mode.addEventListener("change", () => {
    moment = deck.moment() ?? moment;
    renew();
    document.querySelectorAll(".words").forEach((each) => {
      if (each instanceof HTMLElement) each.hidden = each.dataset.sound !== mode.value;
    });
    seek(moment);
  });
  input("scale").addEventListener("click", () => {
    pause();
    deck.start(scaleOf(sound), { from: 0, speed: 1, heard: () => true });
    input("now").textContent = "A tenth of usual, as usual, ten times as much";
    play.textContent = "Play";
    setTimeout(() => deck.playing(sound) || deck.stop(), 1000 * (scaleOf(sound).duration + LEAD));
  });
  timeline.on("seek", () => {
    if (sound.steps.length && timeline.marked !== null) seek(convert(sound.steps, sound.times, timeline.marked));
  });
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button.moment") : null;
    if (button instanceof HTMLElement) seek(Number(button.dataset.time));
  });
  return {
    replace(others) {
      sounds = others;
      if (waiting) goOn();
      else if (deck.moment() === null) renew();
    },
    follow(wanted) {
      following = wanted;
      if (waiting && !wanted) stop();
    },
  };
}

/**
 * Plays one score at a time.
 *
 * @param {() => number} volume 0 to 1.
 */
function createDeck(volume) {
  /** @type {AudioContext | null} */
  let context = null;
  /** @type {GainNode | null} */
  let master = null;
  /** @type {import("./sound.js").Performance | null} */
  let performance = null;
  /** @type {object | null} */
  let score = null;
  let timer = 0;
  const adjust = () => {
    if (context && master) master.gain.setTargetAtTime(volume(), context.currentTime, 0.01);
  };
  const stop = () => {
    clearInterval(timer);
    performance?.stop();
    performance = score = null;
  };
  return {
    adjust,
    stop,
    playing: (/** @type {object} */ other) => score === other,
    /**
     * @param {import("./sound.js").Score} next
     * @param {{from: number, speed: number, heard: (voice: import("./sound.js").Voice) => boolean}} options
     */
    start(next, options) {
      stop();
      const clock = (context ??= new AudioContext());
      const destination = (master ??= new GainNode(clock, { gain: volume() }));
      destination.connect(clock.destination);
      clock.resume();
      const playing = (performance = perform(next, clock, { ...options, destination, at: clock.currentTime + LEAD }));
      score = next;
      const refill = () => playing.extend(playing.momentAt(clock.currentTime + AHEAD));
      refill();
      timer = setInterval(refill, WAKE);
    },
    /** The moment that is heard now; null while nothing is played. */
    moment: () => (context && performance ? performance.momentAt(context.currentTime - delayOf(context)) : null),
  };
}

/**
 * Seconds from the clock of a context to the ear.
 *
 * @param {AudioContext} context
 */
function delayOf(context) {
  return context.baseLatency + (context.outputLatency || 0);
}

/**
 * Three tones: what a pitch is measured by.
 *
 * @param {Sound} sound
 * @returns {import("./sound.js").Score}
 */
function scaleOf(sound) {
  const part = /** @type {const} */ ("context");
  const partials = /** @type {[number, number][]} */ ([[1, 1]]);
  const tones = { times: [0, 0.5, 1], frequencies: SCALE, amplitudes: [0.25, 0.25, 0.25], durations: [0.45, 0.45, 0.45] };
  return { duration: 1.5, channels: 1, gain: sound.gain, voices: [{ name: "scale", part, partials, pan: 0, ramp: 0.01, ...tones }] };
}

/**
 * @param {Sound} sound
 * @param {number} moment
 * @param {import("./timeline.js").Timeline} timeline
 */
function showMoment(sound, moment, timeline) {
  let text = `${moment.toFixed(1)} s`;
  if (sound.steps.length) {
    const step = convert(sound.times, sound.steps, moment);
    timeline.set("playhead", { playhead: step });
    text += `, step ${formatNumber(Math.floor(step))}`;
  }
  const position = /** @type {HTMLInputElement} */ (document.getElementById("position"));
  position.valueAsNumber = (1000 * moment) / sound.duration;
  position.setAttribute("aria-valuetext", text);
  const event = sound.events.findLast((each) => each.time <= moment && moment - each.time < REMEMBERED);
  const now = document.getElementById("now");
  if (now) now.textContent = event ? `${text}: ${event.text}` : text;
}

/**
 * Piecewise linear map between two increasing lists; beyond their ends it stays at the end.
 *
 * @param {number[]} from
 * @param {number[]} to
 * @param {number} value
 * @returns {number}
 */
export function convert(from, to, value) {
  const right = from.findIndex((each) => each > value);
  if (right === 0) return to[0];
  if (right < 0) return to[to.length - 1];
  const share = (value - from[right - 1]) / (from[right] - from[right - 1]);
  return to[right - 1] + share * (to[right] - to[right - 1]);
}
