// A heat map on a canvas: values in a grid, one scale of colour with its legend, read by pointer or by keys.

import { axis } from "./axes.js";
import { h } from "./dom.js";
import { legend, usual } from "./legend.js";

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity] };
const HINT = "Arrow keys go from cell to cell, Home and End to the ends of a line";

export class HeatMap {
  /** `describe(row, column)` names a cell, `pick(row, column)` is called for a click or Enter, `outlined` says what is outlined. */
  constructor({ label, describe, pick, outlined }) {
    this.describe = describe;
    this.pick = pick;
    this.canvas = h("canvas", { role: "img", "aria-label": label });
    this.marks = h("div", { class: "marks", "aria-hidden": "true" });
    this.cursor = h("div", { class: "cell", "aria-hidden": "true", hidden: true });
    this.readout = h("p", { class: "readout", "aria-live": "polite", text: " " });
    this.legend = legend(outlined);
    this.across = axis("x");
    this.down = axis("y");
    this.frame = h("div", { class: "heat", tabindex: "0", role: "application", "aria-roledescription": "heat map", "aria-label": `${label}. ${HINT}${pick ? ", Enter goes to a step" : ""}.` },
      h("div", { class: "grid" }, this.canvas, this.marks, this.cursor), this.across.element);
    this.plot = h("div", { class: "plot" }, this.down.element, this.frame);
    this.element = h("div", {}, this.plot, this.readout, this.legend.element);
    this.drawn = { rows: 0, columns: 0, cells: new Float64Array(0), scale: null };
    this.place = [0, 0];
    this.read = null;
    this.listen();
  }

  listen() {
    const { frame, cursor } = this;
    frame.addEventListener("pointermove", (event) => this.show(this.cellAt(event)));
    frame.addEventListener("pointerleave", () => this.show(null));
    frame.addEventListener("focus", () => { if (frame.matches(":focus-visible") && this.drawn.columns) this.goTo(...this.place); });
    frame.addEventListener("blur", () => { cursor.hidden = true; this.show(null); });
    frame.addEventListener("keydown", (event) => this.pressed(event));
    frame.addEventListener("click", (event) => this.clicked(this.cellAt(event)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint(this.canvas, this.drawn));
  }

  /** Draw `value(row, column)`; NaN is a hole, infinite values are red. `name` says what the values are, `across` and `down` what the axes are. */
  draw(rows, columns, value, { name, scale, across, down }) {
    const cells = Float64Array.from({ length: rows * columns }, (_, index) => value(Math.floor(index / columns), index % columns));
    this.drawn = { rows, columns, cells, scale: scale ?? usual(cells) };
    paint(this.canvas, this.drawn);
    for (const [property, size] of [["--rows", rows], ["--columns", columns]]) this.plot.style.setProperty(property, size);
    this.across.draw(columns, across);
    this.down.draw(rows, down);
    this.legend.draw(name, this.drawn.scale, { bad: cells.some((cell) => Math.abs(cell) === Infinity), hole: cells.some(Number.isNaN) });
    if (this.read) this.show(this.read[0] < rows && this.read[1] < columns ? this.read : null);
    if (!this.cursor.hidden) this.goTo(...this.place);
  }

  /** Outline columns from `first` to `last`; `text` describes the map to readers who cannot see it. */
  mark(first, last, text) {
    this.marks.style.setProperty("--left", first / this.drawn.columns);
    this.marks.style.setProperty("--width", (last - first + 1) / this.drawn.columns);
    this.marks.hidden = last < first;
    this.legend.marked(!this.marks.hidden);
    this.canvas.setAttribute("aria-label", text);
  }

  /** Describe a cell below the map; nothing for null. */
  show(cell) {
    this.read = cell;
    this.readout.textContent = cell ? this.describe(...cell) : " ";
  }

  /** Row and column under the pointer; null outside the cells. */
  cellAt(event) {
    const { rows, columns } = this.drawn;
    const box = this.canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column] : null;
  }

  /** Put the cursor on a cell, the nearest one to an impossible place. */
  goTo(row, column) {
    const { rows, columns } = this.drawn;
    this.place = [within(row, rows), within(column, columns)];
    for (const [name, share] of [["--left", this.place[1] / columns], ["--top", this.place[0] / rows], ["--width", 1 / columns], ["--height", 1 / rows]]) this.cursor.style.setProperty(name, share);
    this.cursor.hidden = false;
    this.show(this.place);
  }

  /** The keys go on from a cell that was clicked. */
  clicked(cell) {
    if (!cell) return;
    this.place = cell;
    this.pick?.(...cell);
  }

  pressed(event) {
    const move = MOVES[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey || !this.drawn.columns || !(move || (event.key === "Enter" && this.pick))) return;
    event.preventDefault();
    event.stopPropagation(); // the page's own keys move through the steps
    if (move) {
      this.goTo(this.place[0] + move[0], this.place[1] + move[1]);
      this.cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else this.pick(...this.place);
  }
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
