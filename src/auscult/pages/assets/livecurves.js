/**
 * The curves of a page whose run goes on: an overview that grows, and the detail of the steps in view.
 */

/**
 * @typedef {import("./curves.js").Curve} Curve
 * @typedef {import("./curves.js").Chart} Chart
 * @typedef {{name: string, curves: Curve[]}} Points Curves of one chart in some steps alone.
 */

/**
 * @typedef {object} CurveStore
 * @property {(names?: string[]) => Chart[]} charts The charts as they are to be drawn; some by name, or all.
 * @property {boolean} detailed Whether a detail is shown.
 * @property {boolean} incomplete Whether the page has curves now of which points may be missing.
 * @property {(added: Points[]) => string[]} append Takes new points; returns the names of the charts that have some.
 * @property {(fresh: Chart[], reached: number) => void} replace Takes the charts of a newer page that has the steps up to
 *   `reached`, and keeps what came after it.
 * @property {(found: {first: number, last: number, charts: Points[]}) => string[]} detail Shows some steps as they were
 *   found; returns the names of the charts.
 * @property {() => string[]} forget Shows no detail any more; returns the names of the charts that were.
 */

/**
 * @param {Chart[]} first
 * @returns {CurveStore}
 */
export function createCurveStore(first) {
  let overview = first;
  /** @type {{first: number, charts: Map<string, Curve[]>} | null} */
  let detail = null;
  let incomplete = false;

  const charts = (/** @type {string[] | undefined} */ names = undefined) =>
    overview.filter((chart) => !names || names.includes(chart.name)).map((chart) => {
      const inside = detail?.charts.get(chart.name);
      if (!detail || !inside) return chart;
      const { first: from } = detail;
      return { ...chart, curves: chart.curves.map((curve) => inserted(curve, inside.find((each) => each.label === curve.label), from)) };
    });

  return {
    charts,
    get detailed() {
      return detail !== null;
    },
    get incomplete() {
      return incomplete;
    },
    append(added) {
      const news = new Map(added.map((each) => [each.name, each.curves]));
      /** @type {string[]} */
      const names = [];
      overview = overview.map((chart) => {
        const more = news.get(chart.name);
        if (!more?.some((curve) => curve.steps.length)) return chart;
        names.push(chart.name);
        return { ...chart, curves: chart.curves.map((curve) => joined(curve, more.find((each) => each.label === curve.label))) };
      });
      return names;
    },
    replace(fresh, reached) {
      const before = new Map(overview.map((chart) => [chart.name, chart]));
      incomplete = false;
      overview = fresh.map((chart) => {
        const old = before.get(chart.name);
        const curves = chart.curves.map((curve) => {
          const known = old?.curves.find((each) => each.label === curve.label);
          if (!known) incomplete = true;
          return known ? joined(curve, after(known, reached)) : curve;
        });
        return { ...chart, curves };
      });
    },
    detail(found) {
      detail = { first: found.first, charts: new Map(found.charts.map((each) => [each.name, each.curves])) };
      return found.charts.map((each) => each.name);
    },
    forget() {
      const names = [...(detail?.charts.keys() ?? [])];
      detail = null;
      return names;
    },
  };
}

/** A curve with what came after its end. @param {Curve} curve @param {Curve | undefined} more @returns {Curve} */
function joined(curve, more) {
  const last = curve.steps.at(-1) ?? -1;
  const from = more ? more.steps.findIndex((step) => step > last) : -1;
  if (!more || from < 0) return curve;
  return {
    ...curve,
    steps: [...curve.steps, ...more.steps.slice(from)],
    values: [...curve.values, ...more.values.slice(from)],
    nonfinite: [...curve.nonfinite, ...more.nonfinite.filter(([, end]) => end > last)],
    nonpositive: [...curve.nonpositive, ...more.nonpositive.filter(([, end]) => end > last)],
  };
}

/** The part of a curve after a step. @param {Curve} curve @param {number} reached @returns {Curve} */
function after(curve, reached) {
  const from = curve.steps.findIndex((step) => step > reached);
  const later = (/** @type {number[][]} */ pairs) => pairs.filter(([, end]) => end > reached);
  if (from < 0) return { ...curve, steps: [], values: [], nonfinite: [], nonpositive: [] };
  return {
    ...curve,
    steps: curve.steps.slice(from),
    values: curve.values.slice(from),
    nonfinite: later(curve.nonfinite),
    nonpositive: later(curve.nonpositive),
  };
}

/**
 * A curve of which some steps are those of a finer one; points that came since that was read stay.
 *
 * @param {Curve} curve
 * @param {Curve | undefined} fine
 * @param {number} first The first step of the finer one.
 * @returns {Curve}
 */
function inserted(curve, fine, first) {
  const end = fine?.steps.at(-1);
  if (!fine || end === undefined) return curve;
  const from = position(curve.steps, first);
  const rest = position(curve.steps, end + 1);
  return {
    ...curve,
    steps: [...curve.steps.slice(0, from), ...fine.steps, ...curve.steps.slice(rest)],
    values: [...curve.values.slice(0, from), ...fine.values, ...curve.values.slice(rest)],
  };
}

/** Where the steps from one on begin. @param {number[]} steps @param {number} step */
function position(steps, step) {
  const found = steps.findIndex((each) => each >= step);
  return found < 0 ? steps.length : found;
}
