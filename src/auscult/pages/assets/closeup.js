/**
 * Closeup: the cells of a heat map in the steps in view alone, finer than those of the whole map. Somebody is asked for
 * them when the view has come to rest, and until they are there the whole map is drawn.
 */

/**
 * @typedef {import("./heatmap.js").Heatmap} Heatmap
 * @typedef {(metric: string, first: number, last: number, signal: AbortSignal) => Promise<Heatmap | null>} Ask
 *   The map in some steps; null where there is nothing finer.
 */

const SETTLED_MS = 200;

/**
 * @param {import("./timeline.js").Timeline} timeline
 * @param {Ask} ask
 * @param {() => Heatmap | undefined} getWhole The map that is chosen.
 * @param {() => void} changed Called when another map is to be drawn.
 */
export function createCloseup(timeline, ask, getWhole, changed) {
  let asked = new AbortController();
  /** @type {number | undefined} */
  let timer;
  /** @type {{first: number, last: number, map: Heatmap} | null} */
  let found = null;
  const inquire = async () => {
    const whole = getWhole();
    if (!whole || whole.others === null) return; // every column is one step
    const first = Math.max(0, Math.floor(timeline.view.min));
    const last = Math.max(first, Math.ceil(timeline.view.max));
    const { signal } = asked;
    try {
      const map = await ask(whole.metric, first, last, signal);
      if (signal.aborted || !map) return;
      found = { first, last, map };
      changed();
    } catch {
      // another view has been chosen, or nobody is there to ask: what is drawn stays
    }
  };
  const again = () => {
    clearTimeout(timer);
    asked.abort();
    asked = new AbortController();
    if (timeline.view !== timeline.whole) timer = setTimeout(inquire, SETTLED_MS);
  };
  timeline.on("view", () => {
    const { min, max } = timeline.view;
    const inside = found !== null && min >= found.first - 1 && max <= found.last + 1 && timeline.view !== timeline.whole;
    if (found && !inside) {
      found = null;
      changed();
    }
    again();
  });
  return {
    /** Something else is chosen, or there is more of it: what is shown stays until the answer is there. */
    again,
    /** What is to be drawn in place of a whole map. */
    of: (/** @type {Heatmap | undefined} */ whole) => (found && found.map.metric === whole?.metric ? found.map : whole),
  };
}
