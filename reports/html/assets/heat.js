// A heat map on a canvas: values in a grid, one quiet scale of colour, not-finite values in red.

import { h } from "./dom.js";

/** A heat map. `describe(row, column)` names a cell, `pick(row, column)` is told about a click. */
export function heatMap({ label, describe, pick }) {
  const canvas = h("canvas", { role: "img", "aria-label": label });
  const marks = h("div", { class: "marks", "aria-hidden": "true" });
  const readout = h("p", { class: "readout", text: " " });
  const frame = h("div", { class: "heat" }, canvas, marks);
  let size = { rows: 0, columns: 0 };
  const cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * size.rows);
    const column = Math.floor(((event.clientX - box.left) / box.width) * size.columns);
    return row >= 0 && row < size.rows && column >= 0 && column < size.columns ? [row, column] : null;
  };
  frame.addEventListener("pointermove", (event) => {
    const cell = cellAt(event);
    readout.textContent = cell ? describe(...cell) : " ";
  });
  frame.addEventListener("pointerleave", () => { readout.textContent = " "; });
  if (pick) frame.addEventListener("click", (event) => { const cell = cellAt(event); if (cell) pick(...cell); });
  return {
    element: h("div", {}, frame, readout),
    /** Draw `value(row, column)`; NaN is a hole, infinite values are red. */
    draw(rows, columns, value) {
      size = { rows, columns };
      paint(canvas, rows, columns, value);
      frame.style.setProperty("--rows", rows);
      return this;
    },
    /** Outline columns from `first` to `last`, and name the cells for who cannot see them. */
    mark(first, last, text) {
      marks.style.setProperty("--left", first / size.columns);
      marks.style.setProperty("--width", (last - first + 1) / size.columns);
      marks.hidden = last < first;
      canvas.setAttribute("aria-label", text);
    },
  };
}

function paint(canvas, rows, columns, value) {
  canvas.width = Math.max(columns, 1);
  canvas.height = Math.max(rows, 1);
  const style = getComputedStyle(document.documentElement);
  const [low, high, bad] = ["--faint", "--accent", "--red"].map((name) => rgb(style.getPropertyValue(name).trim()));
  const cells = Float64Array.from({ length: rows * columns }, (_, index) => value(Math.floor(index / columns), index % columns));
  const [least, most] = usual(cells);
  const pixels = new ImageData(canvas.width, canvas.height);
  cells.forEach((cell, index) => {
    if (Number.isNaN(cell)) return;
    const share = most > least ? Math.min(Math.max((cell - least) / (most - least), 0), 1) : 0.5;
    const colour = Number.isFinite(cell) ? low.map((channel, i) => channel + (high[i] - channel) * share) : bad;
    pixels.data.set([...colour, 255], index * 4);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** Ends of the scale: a few extreme values must not wash out all others. */
function usual(cells) {
  const sorted = cells.filter(Number.isFinite).sort();
  return [sorted[Math.floor(sorted.length * 0.02)], sorted[Math.ceil(sorted.length * 0.98) - 1]];
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
