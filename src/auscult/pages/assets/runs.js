/**
 * The listing: all runs of a directory as they go on, filtered and sorted by whoever looks at it.
 */
import { listen } from "./events.js";

/**
 * @typedef {{id: string, place: string, name: string, word: string, reason: string, step: number, began: number,
 *   written: number, severity: string, active: boolean, finding: string, since: number, findings: number}} Run
 * @typedef {keyof Run} Key
 * @typedef {{key: Key, down: boolean, text: string, word: string, severity: string}} Choice What is shown, in which order.
 */

const WORDS = ["training", "stalled", "crashed", "unreadable", "finished"];
const SEVERITIES = ["", "info", "warning", "critical"];
const TROUBLED = new Set(["stalled", "crashed"]); // of which it is said why that is thought
const FALLING = new Set(["step", "severity", "written", "began"]); // most interesting first
const REMEMBERED = "auscult-runs";

function start() {
  /** @type {Map<string, Run>} */
  const runs = new Map();
  /** @type {Map<string, HTMLTableRowElement>} */
  const rows = new Map();
  /** @type {Choice} */
  const choice = { key: "began", down: true, text: "", word: "", severity: "", ...remembered() };
  let skew = 0; // seconds that the server's clock is ahead
  const show = () => draw(runs, rows, choice, skew);
  addControls(choice, show);
  listen("events", "", { connected }, {
    anew: () => location.reload(),
    runs: (/** @type {{all: boolean, now: number, runs: Run[], gone: string[]}} */ news) => {
      skew = news.now - Date.now() / 1000;
      if (news.all) runs.clear();
      for (const each of news.runs) runs.set(each.id, each);
      for (const id of news.gone) runs.delete(id);
      show();
    },
  });
  setInterval(show, 5000); // "12 s ago" grows old
}

/** @returns {Partial<Choice>} */
function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(REMEMBERED) ?? "{}");
  } catch {
    return {};
  }
}

/** @param {boolean} on */
function connected(on) {
  const place = document.getElementById("connection");
  const text = on ? "" : "The server does not answer; trying again …";
  if (place && place.textContent !== text) place.textContent = text;
}

/**
 * @param {Choice} choice
 * @param {() => void} show
 */
function addControls(choice, show) {
  const keep = () => {
    sessionStorage.setItem(REMEMBERED, JSON.stringify(choice));
    show();
  };
  for (const name of /** @type {("text" | "word" | "severity")[]} */ (["text", "word", "severity"])) {
    const control = /** @type {HTMLInputElement} */ (document.getElementById(name));
    control.value = choice[name];
    control.addEventListener("input", () => {
      choice[name] = control.value;
      keep();
    });
  }
  for (const button of document.querySelectorAll("button[data-key]")) {
    button.addEventListener("click", () => {
      const { key } = /** @type {HTMLElement} */ (button).dataset;
      choice.down = choice.key === key ? !choice.down : FALLING.has(key ?? "");
      choice.key = /** @type {Key} */ (key);
      keep();
    });
  }
}

/**
 * @param {Map<string, Run>} runs
 * @param {Map<string, HTMLTableRowElement>} rows
 * @param {Choice} choice
 * @param {number} skew Seconds that the server's clock is ahead.
 */
function draw(runs, rows, choice, skew) {
  const chosen = [...runs.values()].filter((run) => fits(run, choice)).sort((one, other) => compare(one, other, choice));
  const body = /** @type {HTMLElement} */ (document.querySelector("#runs tbody"));
  for (const [id, row] of rows) {
    if (runs.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  const now = Date.now() / 1000 + skew;
  const wanted = chosen.map((run) => {
    const row = rows.get(run.id) ?? makeRow(run.id);
    rows.set(run.id, row);
    fill(row, run, now);
    return row;
  });
  if (wanted.some((row, index) => body.children[index] !== row) || body.children.length !== wanted.length) place(body, wanted);
  for (const button of document.querySelectorAll("button[data-key]")) {
    const sorted = /** @type {HTMLElement} */ (button).dataset.key === choice.key;
    button.closest("th")?.setAttribute("aria-sort", sorted ? (choice.down ? "descending" : "ascending") : "none");
  }
  tell(runs, chosen.length);
}

/**
 * Rows in their order; the one with the focus keeps it.
 *
 * @param {HTMLElement} body
 * @param {HTMLTableRowElement[]} wanted
 */
function place(body, wanted) {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  body.replaceChildren(...wanted);
  if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

/** @param {Run} run @param {Choice} choice */
function fits(run, { text, word, severity }) {
  const named = `${run.place}\n${run.name}`.toLowerCase().includes(text.trim().toLowerCase());
  const bad = run.active ? SEVERITIES.indexOf(run.severity) : 0;
  const worse = severity === "none" ? bad === 0 : bad >= SEVERITIES.indexOf(severity);
  return named && (!word || run.word === word) && worse;
}

/** @param {Run} one @param {Run} other @param {Choice} choice */
function compare(one, other, { key, down }) {
  const left = rank(one, key);
  const right = rank(other, key);
  const order = left < right ? -1 : left > right ? 1 : 0;
  return (down ? -order : order) || one.place.localeCompare(other.place, "en", { numeric: true });
}

/** @param {Run} run @param {Key} key */
function rank(run, key) {
  if (key === "word") return WORDS.indexOf(run.word);
  if (key === "severity") return SEVERITIES.indexOf(run.severity) + (run.active ? 10 : 0);
  return run[key];
}

/** @param {string} id */
function makeRow(id) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  const link = document.createElement("a");
  link.href = `run/${id}/`;
  const name = document.createElement("span");
  name.className = "quiet";
  head.append(link, name);
  row.append(head, ...Array.from({ length: 5 }, () => document.createElement("td")));
  const reason = document.createElement("span");
  reason.className = "quiet";
  row.cells[1].append(document.createElement("span"), reason);
  return row;
}

/**
 * Names come from runs: they are only ever set as text.
 *
 * @param {HTMLTableRowElement} row
 * @param {Run} run
 * @param {number} now Seconds since the epoch.
 */
function fill(row, run, now) {
  const [head, state, step, finding, written, began] = row.cells;
  const [link, name] = head.children;
  const [word, reason] = state.children;
  write(link, run.place === "." ? run.name : run.place);
  write(name, run.place.split("/").at(-1) === run.name || run.place === "." ? "" : run.name);
  write(word, run.word);
  word.className = `word ${run.word}`;
  write(reason, TROUBLED.has(run.word) ? run.reason : "");
  write(step, run.step < 0 ? "–" : run.step.toLocaleString("en"));
  write(finding, run.finding ? worst(run) : run.word === "unreadable" ? run.reason : "none");
  finding.className = run.active ? run.severity : "quiet";
  write(written, run.written ? `${span(now - run.written)} ago` : "–");
  write(began, run.began ? new Date(run.began * 1000).toLocaleString() : "–");
}

/** @param {Run} run */
function worst(run) {
  const more = run.findings > 1 ? ` and ${run.findings - 1} more` : "";
  return `${run.finding} since step ${run.since.toLocaleString("en")}${run.active ? "" : ", recovered"}${more}`;
}

/** @param {Element | null} element @param {string} text */
function write(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** @param {number} seconds */
function span(seconds) {
  for (const [unit, size] of /** @type {[string, number][]} */ ([["days", 86400], ["h", 3600], ["min", 60]])) {
    if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

/** @param {Map<string, Run>} runs @param {number} shown How many fit the filter. */
function tell(runs, shown) {
  const counts = WORDS.map((word) => [[...runs.values()].filter((run) => run.word === word).length, word]).filter(([count]) => count);
  write(document.getElementById("counts"), runs.size ? counts.map(([count, word]) => `${count} ${word}`).join(", ") : "No run here yet.");
  const nothing = /** @type {HTMLElement} */ (document.getElementById("nothing"));
  nothing.hidden = shown > 0;
  const text = runs.size
    ? "No run fits the filter."
    : "auscult.watch(model, optimizer, path) begins a run; it appears here with its first step.";
  write(nothing, text);
}

start();
