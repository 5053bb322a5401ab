// A heat map on a canvas: values in a grid, one scale of colour with its legend, read by pointer or by keys.

import { h } from "./dom.js";
import { legend, usual } from "./legend.js";

const WAYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity] };
const HINT = "Arrow keys go from cell to cell, Home and End to the ends of a line";

/** A heat map. `describe(row, column)` names a cell, `pick(row, column)` is told about a click or Enter, `outlined` says what is outlined. */
export function heatMap({ label, describe, pick, outlined }) {
  const canvas = h("canvas", { role: "img", "aria-label": label });
  const marks = h("div", { class: "marks", "aria-hidden": "true" });
  const cursor = h("div", { class: "cell", "aria-hidden": "true", hidden: true });
  const readout = h("p", { class: "readout", "aria-live": "polite", text: " " });
  const key = legend(outlined);
  const grid = h("div", { class: "grid" }, canvas, marks, cursor);
  const frame = h("div", { class: "heat", tabindex: "0", role: "application", "aria-roledescription": "heat map", "aria-label": `${label}. ${HINT}${pick ? ", Enter goes to a step" : ""}.` }, grid);
  let drawn = { rows: 0, columns: 0, cells: new Float64Array(0), scale: null };
  let place = [0, 0];
  let read = null;
  const show = (cell) => {
    read = cell;
    readout.textContent = cell ? describe(...cell) : " ";
  };
  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * drawn.rows);
    const column = Math.floor(((event.clientX - box.left) / box.width) * drawn.columns);
    return row >= 0 && row < drawn.rows && column >= 0 && column < drawn.columns ? [row, column] : null;
  };
  const goTo = (row, column) => {
    place = [within(row, drawn.rows), within(column, drawn.columns)];
    for (const [name, share] of [["--left", place[1] / drawn.columns], ["--top", place[0] / drawn.rows], ["--width", 1 / drawn.columns], ["--height", 1 / drawn.rows]]) cursor.style.setProperty(name, share);
    cursor.hidden = false;
    show(place);
  };
  frame.addEventListener("pointermove", (event) => show(cellAt(event)));
  frame.addEventListener("pointerleave", () => show(null));
  frame.addEventListener("focus", () => { if (frame.matches(":focus-visible") && drawn.columns) goTo(...place); });
  frame.addEventListener("blur", () => { cursor.hidden = true; show(null); });
  frame.addEventListener("keydown", (event) => {
    const way = WAYS[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey || !drawn.columns || !(way || (event.key === "Enter" && pick))) return;
    event.preventDefault();
    event.stopPropagation(); // the page's own keys move through the steps
    if (!way) return pick(...place);
    goTo(place[0] + way[0], place[1] + way[1]);
    cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  if (pick) frame.addEventListener("click", (event) => { const cell = cellAt(event); if (cell) pick(...cell); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint(canvas, drawn));
  return {
    element: h("div", {}, frame, readout, key.element),
    /** Draw `value(row, column)`; NaN is a hole, infinite values are red. `name` says what the values are. */
    draw(rows, columns, value, { name, scale }) {
      const cells = Float64Array.from({ length: rows * columns }, (_, index) => value(Math.floor(index / columns), index % columns));
      drawn = { rows, columns, cells, scale: scale ?? usual(cells) };
      paint(canvas, drawn);
      for (const [property, size] of [["--rows", rows], ["--columns", columns]]) frame.style.setProperty(property, size);
      key.draw(name, drawn.scale, { bad: cells.some((cell) => Math.abs(cell) === Infinity), hole: cells.some(Number.isNaN) });
      if (read) show(read[0] < rows && read[1] < columns ? read : null);
      if (!cursor.hidden) goTo(...place);
    },
    /** Outline columns from `first` to `last`, and name the cells for who cannot see them. */
    mark(first, last, text) {
      marks.style.setProperty("--left", first / drawn.columns);
      marks.style.setProperty("--width", (last - first + 1) / drawn.columns);
      marks.hidden = last < first;
      key.marked(!marks.hidden);
      canvas.setAttribute("aria-label", text);
    },
  };
}

function within(index, size) {
  return Math.min(Math.max(index, 0), size - 1);
}

function paint(canvas, { rows, columns, cells, scale }) {
  canvas.width = Math.max(columns, 1);
  canvas.height = Math.max(rows, 1);
  const style = getComputedStyle(document.documentElement);
  const [low, high, bad] = ["--faint", "--accent", "--red"].map((name) => rgb(style.getPropertyValue(name).trim()));
  const pixels = new ImageData(canvas.width, canvas.height);
  cells.forEach((cell, index) => {
    if (Number.isNaN(cell)) return;
    const share = scale.share(cell);
    const colour = Number.isFinite(cell) ? low.map((channel, i) => channel + (high[i] - channel) * share) : bad;
    pixels.data.set([...colour, 255], index * 4);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** Smallest and largest finite value. */
export function range(values) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return [least, most];
}

function rgb(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}
