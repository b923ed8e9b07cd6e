/**
 * The renderer: a score on the clock of an audio context, by native nodes, level for level what `auscult.sound.synth`
 * makes of it. Serves an AudioContext and an OfflineAudioContext alike; knows nothing of the page.
 *
 * A moment is a second of the score, a time one of the context's clock. Speed stretches time only: pitch is data.
 */

/**
 * @typedef {"layers" | "context" | "alerts"} Part
 *
 * @typedef {object} Voice
 * @property {string} name
 * @property {Part} part
 * @property {[number, number][]} partials Frequency / pitch and amplitude / the voice's amplitude of each.
 * @property {number} pan -1 (left) to 1 (right).
 * @property {number} ramp Seconds in which the voice, or each tone of it, begins and ends.
 * @property {number[]} times Moments, increasing.
 * @property {number[]} frequencies Hz.
 * @property {number[]} amplitudes 0 to 1.
 * @property {number[] | null} durations Of a voice of separate tones; null for a gliding one.
 *
 * @typedef {object} Score
 * @property {number} duration
 * @property {number} channels 1 or 2.
 * @property {number} gain By what the sum of the voices is multiplied.
 * @property {Voice[]} voices
 *
 * @typedef {object} Performance A score being heard.
 * @property {(moment: number) => void} extend Schedules everything up to a moment; what is scheduled stays so.
 * @property {(time: number) => number} momentAt Which moment is due at a time.
 * @property {() => void} stop Fades to silence within 10 ms, for good.
 *
 * @typedef {object} Line A voice being heard.
 * @property {(moment: number) => void} extend
 * @property {(time: number) => void} stop
 *
 * @typedef {object} Stage What all lines of a performance share.
 * @property {BaseAudioContext} context
 * @property {AudioNode} output
 * @property {number} channels
 * @property {number} from The moment it begins at.
 * @property {number} speed Seconds of the score per second.
 * @property {boolean} growing Whether voices still grow while they are heard.
 * @property {(moment: number) => number} timeOf
 */

const FADE = 0.01; // seconds in which a performance ends, or begins anywhere but at the beginning
const LATE = 0.03; // seconds in which a growing voice reaches a point that came late
const UNTOUCHED = 0.9; // up to here the guard at the end changes nothing; a score stays below -1 dB by its gain
const CEILING = 0.98; // beyond it nothing ever gets

/**
 * Sets a score up to be played. Nothing is heard before `extend`; far enough ahead of the clock, it is called once, or
 * again and again, so that a long score begins at once.
 *
 * @param {Score} score
 * @param {BaseAudioContext} context
 * @param {object} [options]
 * @param {AudioNode} [options.destination]
 * @param {number} [options.from] Moment to begin at.
 * @param {number} [options.at] Time at which it begins.
 * @param {number} [options.speed] Seconds of the score per second.
 * @param {(voice: Voice) => boolean} [options.heard] Which voices are.
 * @param {boolean} [options.growing] Whether points may still be added to the voices: the score of a run that goes on.
 * @returns {Performance}
 */
export function perform(score, context, options = {}) {
  const { destination = context.destination, from = 0, at = context.currentTime, speed = 1 } = options;
  const { heard = () => true, growing = false } = options;
  const guard = new WaveShaperNode(context, { curve: guardCurve() });
  const output = new GainNode(context, { gain: score.gain });
  output.connect(guard).connect(destination);
  if (from > 0) {
    output.gain.setValueAtTime(0, at);
    output.gain.linearRampToValueAtTime(score.gain, at + FADE);
  }
  const timeOf = (/** @type {number} */ moment) => at + (moment - from) / speed;
  const stage = { context, output, channels: score.channels, from, speed, growing, timeOf };
  const lines = score.voices.filter(heard).map((voice) => (voice.durations === null ? createGlide(voice, stage) : createTones(voice, stage)));
  return {
    extend: (moment) => lines.forEach((line) => line.extend(moment)),
    momentAt: (time) => from + Math.max(0, time - at) * speed,
    stop() {
      const now = context.currentTime;
      output.gain.cancelScheduledValues(now);
      output.gain.setTargetAtTime(0, now, FADE / 5);
      for (const line of lines) line.stop(now + FADE);
      setTimeout(() => guard.disconnect(), 4000 * FADE);
    },
  };
}

/**
 * A gliding voice: one oscillator, of which log frequency and amplitude run linearly from point to point.
 *
 * @param {Voice} voice
 * @param {Stage} stage
 * @returns {Line}
 */
function createGlide(voice, stage) {
  const { context, from, speed, growing, timeOf } = stage;
  const level = new GainNode(context, { gain: 0 });
  const place = createPlace(voice, stage);
  level.connect(place);
  const line = growing ? voice : withEdges(voice, voice.ramp * speed);
  const { times, frequencies, amplitudes } = line;
  const foot = voice.partials.map(([ratio]) => ratio).reduce(commonMeasure);
  // An oscillator adds up the frequencies at samples; half a sample early, their sum is the integral's.
  const early = 0.5 / context.sampleRate;
  /** @type {OscillatorNode | null} */
  let oscillator = null;
  let next = 0; // the point to be scheduled next
  /** @param {number} moment */
  const begin = (moment) => {
    const time = Math.ceil(timeOf(moment) * context.sampleRate - 1e-6) / context.sampleRate; // of the first sample
    const [frequency, amplitude] = pointAt(line, moment);
    const cycles = foot * (cyclesAt(line, moment) + frequency * (time - timeOf(moment)));
    // Chromium takes the first frequencies of a block from before the sound begins, so they have to be right there too.
    const made = new OscillatorNode(context, { frequency: foot * frequency, periodicWave: createWave(context, voice.partials, foot, cycles) });
    made.frequency.setValueAtTime(foot * frequency, Math.max(0, timeOf(moment) - early));
    level.gain.setValueAtTime(amplitude, timeOf(moment));
    made.connect(level);
    made.onended = () => place.disconnect();
    made.start(Math.max(0, time - 0.5 * early));
    next = firstAfter(times, moment);
    return made;
  };
  /** When the next point is reached: a growing voice holds its last point until there is another, be it late. */
  const due = (/** @type {OscillatorNode} */ { frequency }) => {
    const now = context.currentTime;
    if (!growing || timeOf(times[next - 1]) >= now) return timeOf(times[next]);
    frequency.setValueAtTime(foot * frequencies[next - 1], now);
    level.gain.setValueAtTime(amplitudes[next - 1], now);
    return Math.max(timeOf(times[next]), now + LATE);
  };
  return {
    extend(moment) {
      if (oscillator === null) {
        const over = !growing && (times.length < 2 || times[times.length - 1] <= from);
        if (over || times.length === 0 || times[0] >= moment) return;
        oscillator = begin(Math.max(times[0], from));
      }
      while (next < times.length && times[next - 1] < moment) {
        const time = due(oscillator);
        oscillator.frequency.exponentialRampToValueAtTime(foot * frequencies[next], time - early);
        level.gain.linearRampToValueAtTime(amplitudes[next], time);
        next += 1;
        if (!growing && next === times.length) oscillator.stop(time);
      }
    },
    stop: (time) => oscillator?.stop(time),
  };
}

/**
 * A voice of separate tones, each made sample by sample when it comes due.
 *
 * @param {Voice} voice
 * @param {Stage} stage
 * @returns {Line}
 */
function createTones(voice, stage) {
  const { context, from, speed, timeOf } = stage;
  const place = createPlace(voice, stage);
  const durations = voice.durations ?? [];
  let next = firstAfter(voice.times, from - 1e-6);
  return {
    extend(moment) {
      for (; next < voice.times.length && voice.times[next] < moment; next += 1) {
        const samples = toneSamples(voice, next, durations[next] / speed, context.sampleRate);
        if (voice.amplitudes[next] === 0 || samples.length === 0) continue;
        const buffer = new AudioBuffer({ length: samples.length, sampleRate: context.sampleRate });
        buffer.copyToChannel(samples, 0);
        const source = new AudioBufferSourceNode(context, { buffer });
        source.connect(place);
        source.start(Math.round(timeOf(voice.times[next]) * context.sampleRate) / context.sampleRate);
      }
    },
    stop() {},
  };
}

/**
 * The end of a voice: by equal power between left and right, or on the one channel that there is.
 *
 * @param {Voice} voice
 * @param {Stage} stage
 * @returns {AudioNode}
 */
function createPlace(voice, { context, output, channels }) {
  const place = channels === 2 ? new StereoPannerNode(context, { pan: voice.pan }) : new GainNode(context);
  place.connect(output);
  return place;
}

/** @typedef {{times: number[], frequencies: number[], amplitudes: number[]}} Points */

/**
 * The points of a gliding voice, with those added by which it begins and ends linearly within a ramp.
 *
 * @param {Points} points
 * @param {number} ramp
 * @returns {Points}
 */
function withEdges(points, ramp) {
  const [first, end] = [points.times[0], points.times[points.times.length - 1]];
  const added = [0.25, 0.5, 0.75, 1].flatMap((part) => [first + part * ramp, end - part * ramp]);
  const times = [...new Set([...points.times, ...added.filter((time) => time > first && time < end)])].sort((a, b) => a - b);
  const edge = (/** @type {number} */ time) => (ramp > 0 ? Math.min(1, (time - first) / ramp, (end - time) / ramp) : 1);
  const found = times.map((time) => pointAt(points, time));
  return {
    times,
    frequencies: found.map(([frequency]) => frequency),
    amplitudes: found.map(([, amplitude], index) => amplitude * edge(times[index])),
  };
}

/**
 * Frequency and amplitude of a gliding voice at a moment not before its first.
 *
 * @param {Points} points
 * @param {number} moment
 * @returns {[number, number]}
 */
function pointAt({ times, frequencies, amplitudes }, moment) {
  const after = Math.min(firstAfter(times, moment), times.length - 1);
  const before = Math.max(0, after - 1);
  const share = after > before ? Math.min(1, (moment - times[before]) / (times[after] - times[before])) : 0;
  return [
    frequencies[before] * (frequencies[after] / frequencies[before]) ** share,
    amplitudes[before] + share * (amplitudes[after] - amplitudes[before]),
  ];
}

/**
 * Cycles of the pitch from the first time of a gliding voice to a moment: the integral of its frequency.
 *
 * @param {Points} points
 * @param {number} moment
 */
function cyclesAt(points, moment) {
  const { times, frequencies } = points;
  let [cycles, time, frequency] = [0, times[0], frequencies[0]];
  const advance = (/** @type {number} */ until, /** @type {number} */ reached) => {
    const growth = Math.log(reached / frequency);
    cycles += Math.abs(growth) < 1e-9 ? frequency * (until - time) : ((reached - frequency) / growth) * (until - time);
    [time, frequency] = [until, reached];
  };
  for (let index = 1; index < times.length && times[index] <= moment; index += 1) advance(times[index], frequencies[index]);
  advance(moment, pointAt(points, moment)[0]);
  return cycles;
}

/**
 * How many of increasing numbers are not above a value.
 *
 * @param {number[]} numbers
 * @param {number} value
 */
function firstAfter(numbers, value) {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Partials as one periodic wave.
 *
 * @param {BaseAudioContext} context
 * @param {[number, number][]} partials
 * @param {number} foot Frequency of the wave relative to the pitch.
 * @param {number} cycles How far the wave has got when it begins.
 */
function createWave(context, partials, foot, cycles) {
  const harmonics = partials.map(([ratio]) => Math.round(ratio / foot));
  const real = new Float32Array(1 + Math.max(...harmonics));
  const imag = new Float32Array(real.length);
  partials.forEach(([, amplitude], index) => {
    const angle = 2 * Math.PI * ((harmonics[index] * cycles) % 1);
    real[harmonics[index]] = amplitude * Math.sin(angle);
    imag[harmonics[index]] = amplitude * Math.cos(angle);
  });
  return new PeriodicWave(context, { real, imag, disableNormalization: true });
}

/**
 * @param {number} one
 * @param {number} other
 * @returns {number} The largest number of which both are multiples.
 */
function commonMeasure(one, other) {
  return other < 1e-6 ? one : commonMeasure(other, one % other);
}

/**
 * The samples of a tone: it begins at phase 0, and rises and falls by a raised cosine.
 *
 * @param {Voice} voice
 * @param {number} index
 * @param {number} seconds
 * @param {number} rate Samples per second.
 */
function toneSamples(voice, index, seconds, rate) {
  const samples = new Float32Array(Math.round(seconds * rate));
  for (const [ratio, amplitude] of voice.partials) {
    const cycles = (ratio * voice.frequencies[index]) / rate;
    if (cycles >= 0.5) continue;
    const weight = amplitude * voice.amplitudes[index];
    for (let at = 0; at < samples.length; at += 1) samples[at] += weight * Math.sin(2 * Math.PI * ((cycles * at) % 1));
  }
  const ramp = Math.min(Math.round(voice.ramp * rate), samples.length >> 1);
  for (let at = 0; at < ramp; at += 1) {
    const share = 0.5 - 0.5 * Math.cos((Math.PI * at) / ramp);
    samples[at] *= share;
    samples[samples.length - 1 - at] *= share;
  }
  return samples;
}

/** A curve that leaves everything up to `UNTOUCHED` as it is and bends what is beyond towards `CEILING`. */
function guardCurve() {
  const room = CEILING - UNTOUCHED;
  return Float32Array.from({ length: 4001 }, (_, index) => {
    const value = index / 2000 - 1;
    const beyond = Math.abs(value) - UNTOUCHED;
    return beyond <= 0 ? value : Math.sign(value) * (UNTOUCHED + room * Math.tanh(beyond / room));
  });
}
