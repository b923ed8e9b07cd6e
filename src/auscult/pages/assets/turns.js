/**
 * Turns: what is to be drawn anew, one piece a frame, so that no frame is long however much is in sight.
 */

/** @type {Set<() => void>} */
const waiting = new Set();

/**
 * Draws something when it is its turn, once however often it is asked for before.
 *
 * @param {() => void} draw
 */
export function inTurns(draw) {
  if (!waiting.size) requestAnimationFrame(drawNext);
  waiting.add(draw);
}

function drawNext() {
  const [draw] = waiting;
  draw();
  waiting.delete(draw);
  if (waiting.size) requestAnimationFrame(drawNext);
}
