/**
 * Server-sent events that go on after any interruption: a drop, a restart of the server, a laptop that slept.
 */

const SILENT_MS = 30_000; // three beats
const AGAIN_MS = 1000;

/**
 * @typedef {object} Stream
 * @property {(mark: string) => void} restart Goes on from another mark.
 */

/**
 * @param {string} address
 * @param {string} mark How far the page has read; the server tells what comes after it.
 * @param {{connected: (on: boolean) => void}} status
 * @param {Record<string, (data: any) => void>} handlers What to do with each kind of event.
 * @returns {Stream}
 */
export function listen(address, mark, status, handlers) {
  /** @type {EventSource | null} */
  let source = null;
  let version = "";
  let heard = performance.now();
  let again = 0;

  const open = () => {
    close();
    heard = performance.now();
    source = new EventSource(mark ? `${address}?after=${encodeURIComponent(mark)}` : address);
    source.addEventListener("error", () => {
      status.connected(false);
      if (source?.readyState === EventSource.CLOSED) later(); // refused; a mere drop is tried again by the browser
    });
    for (const name of ["hello", "beat", ...Object.keys(handlers)]) {
      source.addEventListener(name, (event) => {
        heard = performance.now();
        status.connected(true);
        if (event.lastEventId) mark = event.lastEventId;
        const data = JSON.parse(event.data);
        if (name === "hello") greet(data);
        handlers[name]?.(data);
      });
    }
  };
  const close = () => {
    clearTimeout(again);
    source?.close();
    source = null;
  };
  const later = () => {
    close();
    again = setTimeout(open, AGAIN_MS);
  };
  /** Another auscult serves the page now, with other scripts. */
  const greet = (/** @type {{version: string}} */ data) => {
    if (version && data.version !== version) location.reload();
    version = data.version;
  };
  setInterval(() => {
    if (source && performance.now() - heard > SILENT_MS) open(); // a connection that is gone without a word
  }, SILENT_MS / 6);
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  open();
  return {
    restart(other) {
      mark = other;
      open();
    },
  };
}
