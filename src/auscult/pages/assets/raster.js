/**
 * Raster: the cells of a heat map as pixels, with its row names, its step axis and its legend. Knows no events.
 */
import { formatNumber } from "./timeline.js";
import { mix } from "./palette.js";

export const NOT_OBSERVED = -32768;
export const NON_FINITE = -32767;
export const ZERO = -32766;
export const LOG_SCALE = 1000;
export const LINEAR_SCALE = 10000;

/**
 * A heat map as it is compared with a centre.
 *
 * @typedef {object} Sheet
 * @property {import("./heatmap.js").Heatmap} map
 * @property {Int16Array} codes Of the end of each cell that is farthest from the row's own centre.
 * @property {Int16Array} others Of the other end.
 * @property {Int32Array} shifts What to add to the codes of each row, so that they tell the distance from the centre.
 * @property {(number | null)[]} centres The centre of each row.
 * @property {number} reach Decades at which the colours end.
 *
 * @typedef {import("./palette.js").Palette} Palette
 * @typedef {import("./timeline.js").View} View
 */

/** Height of a row in CSS pixels. */
export const rowHeight = (/** @type {{rows: string[]}} */ map) => Math.max(2, Math.min(18, Math.floor(520 / map.rows.length)));

/**
 * The last column that begins at a step or before it.
 *
 * @param {{starts: number[]}} map
 * @param {number} step
 */
export function columnAt(map, step) {
  let low = 0;
  let high = map.starts.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (map.starts[middle] <= step) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * @param {Sheet} sheet
 * @param {import("./heatmap.js").Parts} parts
 * @param {View} view
 * @param {Palette} colours
 */
export function drawMap(sheet, parts, view, colours) {
  const height = sheet.map.rows.length * rowHeight(sheet.map);
  const gutter = parts.scroll.clientWidth < 520 ? 96 : 210;
  const width = Math.max(60, parts.scroll.clientWidth - gutter);
  drawLabels(sheet.map, parts.labels, gutter, height, colours);
  paint(parts.cells, width, height, (image) => fill(image, sheet, view, colours));
  drawAxis(parts.axis, gutter, width, view, colours);
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 */
function size(canvas, width, height) {
  const ratio = devicePixelRatio;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.scale(ratio, ratio);
  return context;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {(image: ImageData) => void} fillImage
 */
function paint(canvas, width, height, fillImage) {
  const context = size(canvas, width, height);
  const image = context.createImageData(canvas.width, canvas.height);
  fillImage(image);
  context.putImageData(image, 0, 0);
}

/**
 * Every pixel shows the cell farthest from the centre among the columns that fall into it: narrow screens hide nothing.
 *
 * @param {ImageData} image
 * @param {Sheet} sheet
 * @param {View} view
 * @param {Palette} colours
 */
function fill(image, sheet, view, colours) {
  const { width, height } = image;
  const rows = sheet.map.rows.length;
  const pixels = new Uint32Array(image.data.buffer);
  const spans = pixelSpans(sheet.map, view, width);
  const paints = makePaints(sheet, colours);
  const line = new Int16Array(width);
  for (let row = 0; row < rows; row += 1) {
    const top = Math.ceil((row * height) / rows);
    const bottom = Math.ceil(((row + 1) * height) / rows);
    const plain = collect(line, sheet, row, spans);
    for (let y = top; y < bottom; y += 1) {
      if (plain && y > top) pixels.copyWithin(y * width, top * width, (top + 1) * width);
      else paintLine(pixels, line, y, paints);
    }
  }
}

/**
 * The codes of a row's pixels.
 *
 * @param {Int16Array} line
 * @param {Sheet} sheet
 * @param {number} row
 * @param {Int32Array} spans
 * @returns {boolean} Whether all are distances, and so have no pattern.
 */
function collect(line, { codes, others, shifts, map }, row, spans) {
  const first = row * map.starts.length;
  const shift = shifts[row];
  let plain = true;
  for (let x = 0; x < line.length; x += 1) {
    let code = NOT_OBSERVED;
    for (let at = first + spans[2 * x]; at < first + spans[2 * x + 1]; at += 1) code = worse(worse(code, codes[at], shift), others[at], shift);
    if (code <= ZERO) plain = false;
    line[x] = code <= ZERO ? code : Math.max(ZERO + 1, Math.min(32767, code + shift));
  }
  return plain;
}

/**
 * @param {number} left
 * @param {number} right
 * @param {number} shift
 */
function worse(left, right, shift) {
  if (left === NON_FINITE || right === NON_FINITE) return NON_FINITE;
  if (left === ZERO || right === ZERO) return ZERO;
  if (left === NOT_OBSERVED) return right;
  if (right === NOT_OBSERVED) return left;
  return Math.abs(right + shift) > Math.abs(left + shift) ? right : left;
}

/**
 * First and one past the last column of every pixel.
 *
 * @param {import("./heatmap.js").Heatmap} map
 * @param {View} view
 * @param {number} width
 */
function pixelSpans(map, view, width) {
  const spans = new Int32Array(2 * width);
  const stepsPerPixel = (view.max - view.min) / width;
  for (let x = 0; x < width; x += 1) {
    const from = view.min + x * stepsPerPixel + 0.5; // a cell reaches half a step before and after its step
    const to = from + stepsPerPixel;
    let first = columnAt(map, from);
    if (map.stops[first] <= from) first += 1;
    let last = first;
    while (last < map.starts.length && map.starts[last] < to) last += 1;
    spans[2 * x] = first;
    spans[2 * x + 1] = last;
  }
  return spans;
}

/**
 * Colours as a canvas keeps them, one for every code, and those that the patterns are made of.
 *
 * @param {Sheet} sheet
 * @param {Palette} colours
 */
function makePaints(sheet, colours) {
  const table = new Uint32Array(65536);
  const end = sheet.map.scale === "linear" ? LINEAR_SCALE : sheet.reach * LOG_SCALE;
  for (let code = -end; code <= end; code += 1) table[code + 32768] = asPixel(cellColour(code, sheet, colours));
  table.fill(table[32768 - end], 0, 32768 - end);
  table.fill(table[32768 + end], 32769 + end);
  return {
    table,
    scale: Math.max(1, Math.round(devicePixelRatio)),
    centre: asPixel(colours.map[2]),
    nonFinite: asPixel(colours.nonFinite),
    zero: asPixel(colours.zero),
    hole: asPixel(colours.hole),
  };
}

/**
 * @param {Uint32Array} pixels
 * @param {Int16Array} line
 * @param {number} row
 * @param {ReturnType<typeof makePaints>} paints
 */
function paintLine(pixels, line, row, { table, scale, centre, nonFinite, zero, hole }) {
  const y = Math.floor(row / scale);
  const first = row * line.length;
  for (let at = 0; at < line.length; at += 1) {
    const code = line[at];
    if (code > ZERO) {
      pixels[first + at] = table[code + 32768];
      continue;
    }
    const x = Math.floor(at / scale);
    if (code === NON_FINITE) pixels[first + at] = (x + y) % 6 < 4 ? nonFinite : centre;
    else if (code === ZERO) pixels[first + at] = x % 4 < 2 ? zero : centre;
    else pixels[first + at] = (x - y + 8192) % 8 === 0 ? hole : centre;
  }
}

/** In the order of a canvas' bytes; every machine that runs a browser is little-endian. */
const asPixel = (/** @type {import("./palette.js").Colour} */ [red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/**
 * @param {number} code
 * @param {Sheet} sheet
 * @param {Palette} colours
 */
function cellColour(code, sheet, colours) {
  if (sheet.map.scale === "linear") return mix(colours.map.slice(2), code / LINEAR_SCALE);
  return mix(colours.map, 0.5 + code / LOG_SCALE / sheet.reach / 2);
}

/**
 * @param {import("./heatmap.js").Heatmap} map
 * @param {HTMLCanvasElement} canvas
 * @param {number} gutter
 * @param {number} height
 * @param {Palette} colours
 */
function drawLabels(map, canvas, gutter, height, colours) {
  const context = size(canvas, gutter, height);
  const every = Math.ceil(14 / rowHeight(map));
  context.font = "11px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace";
  context.fillStyle = colours.quiet;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (let row = 0; row < map.rows.length; row += every) {
    if (row > 0 && map.rows.length - row < every) break; // no room for its name
    const text = shorten(map.rows[row], (shown) => context.measureText(shown).width <= gutter - 12);
    context.fillText(text, gutter - 8, (row + 0.5 * Math.min(every, map.rows.length - row)) * rowHeight(map));
  }
}

/**
 * The end of a path tells rows apart, so the front is cut.
 *
 * @param {string} text
 * @param {(text: string) => boolean} fits
 */
function shorten(text, fits) {
  if (fits(text)) return text;
  const letters = [...text].slice(-64);
  let kept = letters.length;
  while (kept > 1 && !fits(`…${letters.slice(-kept).join("")}`)) kept -= 1;
  return `…${letters.slice(-kept).join("")}`;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} gutter
 * @param {number} width
 * @param {View} view
 * @param {Palette} colours
 */
function drawAxis(canvas, gutter, width, view, colours) {
  const context = size(canvas, gutter + width, 22);
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = colours.quiet;
  context.strokeStyle = colours.grid;
  context.textAlign = "center";
  context.textBaseline = "top";
  const rough = (view.max - view.min) / Math.max(2, width / 90);
  const power = 10 ** Math.floor(Math.log10(rough));
  const every = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? 10 * power);
  for (let step = Math.ceil(view.min / every) * every; step <= view.max; step += every) {
    const x = gutter + ((step - view.min) / (view.max - view.min)) * width;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, 4);
    context.stroke();
    const text = formatNumber(step + 0); // -0 is 0
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.min(x, gutter + width - half), 6);
  }
}

/**
 * @param {Sheet} sheet
 * @param {Palette} colours
 */
export function drawLegend(sheet, colours) {
  const parent = /** @type {HTMLElement} */ (document.getElementById("heatmap-legend"));
  const canvas = document.createElement("canvas");
  const scale = sheet.map.scale === "linear";
  paint(canvas, 160, 12, (image) => {
    for (let x = 0; x < image.width; x += 1) {
      const share = x / (image.width - 1);
      const colour = mix(scale ? colours.map.slice(2) : colours.map, share);
      for (let y = 0; y < image.height; y += 1) image.data.set([...colour, 255], (y * image.width + x) * 4);
    }
  });
  const power = (/** @type {number} */ decades) => (10 ** decades).toLocaleString("en");
  const item = (/** @type {(string | Node)[]} */ ...children) => {
    const element = document.createElement("span");
    element.append(...children);
    return element;
  };
  const low = scale ? "0" : `÷${power(sheet.reach)}`;
  const high = scale ? "1" : `×${power(sheet.reach)}`;
  /** @type {[number, string][]} */
  const swatches = [[NON_FINITE, "NaN or inf"], .../** @type {[number, string][]} */ (scale ? [] : [[ZERO, "exact zero"]]), [NOT_OBSERVED, "not observed"]];
  const paints = makePaints(sheet, colours);
  parent.replaceChildren(
    item(low, canvas, high),
    ...swatches.map(([code, text]) => {
      const swatch = document.createElement("canvas");
      paint(swatch, 24, 12, (image) => {
        const line = new Int16Array(image.width).fill(code);
        const pixels = new Uint32Array(image.data.buffer);
        for (let y = 0; y < image.height; y += 1) paintLine(pixels, line, y, paints);
      });
      return item(swatch, text);
    }),
  );
}
