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
 * @param {string} text Base64 of little-endian int16.
 * @returns {Int16Array}
 */
export function decode(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Int16Array.from({ length: bytes.length / 2 }, (_, index) => view.getInt16(index * 2, true));
}

/** Height of a row in CSS pixels. */
export const rowHeight = (map) => Math.max(2, Math.min(18, Math.floor(520 / map.rows.length)));

/** The last column that begins at a step or before it. */
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

export function drawMap(map, codes, parts, timeline, colours) {
  const height = map.rows.length * rowHeight(map);
  const gutter = parts.scroll.clientWidth < 520 ? 96 : 210;
  const width = Math.max(60, parts.scroll.clientWidth - gutter);
  drawLabels(map, parts.labels, gutter, height, colours);
  paint(parts.cells, width, height, (image) => fill(image, map, codes, timeline.view, colours));
  drawAxis(parts.axis, gutter, width, timeline.view, colours);
}

function size(canvas, width, height) {
  const ratio = devicePixelRatio;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

function paint(canvas, width, height, fillImage) {
  const context = size(canvas, width, height);
  const image = context.createImageData(canvas.width, canvas.height);
  fillImage(image);
  context.putImageData(image, 0, 0);
}

/** Every pixel shows the cell farthest from healthy among the columns that fall into it: narrow screens hide nothing. */
function fill(image, map, codes, view, colours) {
  const columns = map.starts.length;
  const { width, height, data } = image;
  const scale = Math.max(1, Math.round(devicePixelRatio));
  const spans = pixelSpans(map, view, width);
  const table = new Map();
  let painted = -1;
  for (let y = 0; y < height; y += 1) {
    const row = Math.min(map.rows.length - 1, Math.floor((y * map.rows.length) / height));
    const striped = Math.floor(y / scale);
    if (row === painted && y > 0 && rowHeight(map) < 4) {
      data.copyWithin(y * width * 4, (y - 1) * width * 4, y * width * 4);
      continue;
    }
    painted = row;
    for (let x = 0; x < width; x += 1) {
      let code = NOT_OBSERVED;
      for (let column = spans[2 * x]; column < spans[2 * x + 1]; column += 1) code = worse(code, codes[row * columns + column]);
      const colour = pixelColour(code, Math.floor(x / scale), striped, map, colours, table);
      data.set(colour, (y * width + x) * 4);
      data[(y * width + x) * 4 + 3] = 255;
    }
  }
}

/** First and one past the last column of every pixel. */
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

function worse(left, right) {
  if (left === NON_FINITE || right === NON_FINITE) return NON_FINITE;
  if (left === ZERO || right === ZERO) return ZERO;
  if (left === NOT_OBSERVED) return right;
  if (right === NOT_OBSERVED) return left;
  return Math.abs(right) > Math.abs(left) ? right : left;
}

function pixelColour(code, x, y, map, colours, table) {
  if (code === NON_FINITE) return (x + y) % 6 < 4 ? colours.nonFinite : colours.map[2];
  if (code === ZERO) return x % 4 < 2 ? colours.zero : colours.map[2];
  if (code === NOT_OBSERVED) return (x - y + 8192) % 8 === 0 ? colours.hole : colours.map[2];
  if (!table.has(code)) table.set(code, cellColour(code, map, colours));
  return table.get(code);
}

function cellColour(code, map, colours) {
  if (map.scale === "linear") return mix(colours.map.slice(2), code / LINEAR_SCALE);
  return mix(colours.map, 0.5 + code / LOG_SCALE / map.reach / 2);
}

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

/** The end of a path tells rows apart, so the front is cut. */
function shorten(text, fits) {
  if (fits(text)) return text;
  const letters = [...text].slice(-64);
  let kept = letters.length;
  while (kept > 1 && !fits(`…${letters.slice(-kept).join("")}`)) kept -= 1;
  return `…${letters.slice(-kept).join("")}`;
}

function drawAxis(canvas, gutter, width, view, colours) {
  const context = size(canvas, gutter + width, 22);
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = colours.quiet;
  context.strokeStyle = colours.grid;
  context.textAlign = "center";
  context.textBaseline = "top";
  const rough = (view.max - view.min) / Math.max(2, width / 90);
  const power = 10 ** Math.floor(Math.log10(rough));
  const every = Math.max(1, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough));
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

export function drawLegend(map, colours) {
  const parent = document.getElementById("heatmap-legend");
  const canvas = document.createElement("canvas");
  const scale = map.scale === "linear";
  paint(canvas, 160, 12, (image) => {
    for (let x = 0; x < image.width; x += 1) {
      const share = x / (image.width - 1);
      const colour = mix(scale ? colours.map.slice(2) : colours.map, share);
      for (let y = 0; y < image.height; y += 1) image.data.set([...colour, 255], (y * image.width + x) * 4);
    }
  });
  const power = (/** @type {number} */ decades) => (10 ** decades).toLocaleString("en");
  const item = (...children) => {
    const element = document.createElement("span");
    element.append(...children);
    return element;
  };
  const low = scale ? "0" : `÷${power(map.reach)}`;
  const high = scale ? "1" : `×${power(map.reach)}`;
  const swatches = [[NON_FINITE, "NaN or inf"], ...(scale ? [] : [[ZERO, "exact zero"]]), [NOT_OBSERVED, "not observed"]];
  parent.replaceChildren(
    item(low, canvas, high),
    ...swatches.map(([code, text]) => {
      const swatch = document.createElement("canvas");
      paint(swatch, 24, 12, (image) => {
        const dots = Math.max(1, Math.round(devicePixelRatio));
        for (let y = 0; y < image.height; y += 1) {
          for (let x = 0; x < image.width; x += 1) {
            const colour = pixelColour(code, Math.floor(x / dots), Math.floor(y / dots), map, colours, new Map());
            image.data.set([...colour, 255], (y * image.width + x) * 4);
          }
        }
      });
      return item(swatch, text);
    }),
  );
}
