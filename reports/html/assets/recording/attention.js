// Attention: to which positions of its context the last position attends, by layer and head.

import { h, section, table } from "../lib/dom.js";
import { count, plural, probability } from "../lib/format.js";
import { banner } from "../lib/banner.js";
import { HeatMap } from "../lib/heat.js";
import { coverage, notRecorded } from "./coverage.js";
import { SHARES } from "../lib/legend.js";
import { tokenButton } from "../lib/tokens.js";

const [STEPS, NOT_FINITE] = [254, 255]; // reports/html/sections/attention.py
const ALL = "all";
const STORED = "Colours and the figures of single cells are stored in 8 bits: near 1 they are right to 0.004, near 0.01 to 0.0004. The table is exact.";

export const attention = { mount: (main, state) => new AttentionView(main, state) };

class AttentionView {
  constructor(main, state) {
    const { element, body } = section("attention", "Attention", "How the last position attends to its context: the weights of the positions before it and of itself, which sum to 1 for each head.");
    main.append(element);
    this.state = state;
    this.note = h("p", { class: "note fact" });
    this.faults = h("div", { class: "banners" });
    this.layer = h("select", { "aria-label": "Layer", on: { change: () => this.draw() } });
    this.lines = h("span", { class: "note" });
    this.map = new HeatMap({ label: "Attention", outlined: "new in this step", describe: (line, column) => describe(state, this.shown, line, column) });
    this.rows = h("div", {});
    this.figure = h("div", {}, h("div", { class: "row" }, this.layer, this.lines), this.map.element, h("p", { class: "note explain", text: STORED }));
    body.append(this.note, this.faults, this.figure, this.rows);
  }

  async update(step) {
    const { state } = this;
    const { run } = state;
    const [index, stored] = await Promise.all([run.section("attention"), run.section(`attention-${step.number}`)]);
    if (!state.shows(run, step)) return;
    this.explain(step, index, stored);
    this.figure.hidden = this.rows.hidden = !stored;
    if (!stored) return;
    this.shown = { step, grid: new Grid(stored, step.row, run.history(step.place, step.row), run.prompts[step.row].padding) };
    offerLayers(this.layer, this.shown.grid.layers);
    this.draw();
  }

  /** Say which steps there are, and why this one has no attention. */
  explain(step, index, stored) {
    this.note.replaceChildren(...(index ? coverage(this.state, "the attention", index.metadata.stride, index.arrays.steps.data, step.number) : notRecorded("The attention", "--capture tensors --save attention")));
    if (index && !stored && index.metadata.stride <= 1) this.note.append("The attention of this step was not recorded.");
    this.faults.replaceChildren(...(index?.metadata.faults[step.number] ?? []).map((text) => banner({ text, level: "error" })));
  }

  /** Draw all layers or the chosen one, and its highest weights. */
  draw() {
    const { grid, step } = this.shown;
    grid.layer = this.layer.value === ALL ? null : Number(this.layer.value);
    const names = grid.names;
    this.lines.textContent = `${grid.layer === null ? "layers, each the mean over its heads," : "the mean over the heads, then each head,"} from top to bottom; ${grid.span}`;
    this.map.draw(names.length, grid.columns, (line, column) => grid.weight(line, column), {
      name: "weight", scale: SHARES, across: { what: "position", of: (column) => String(grid.positions(column)[0]) },
      down: { what: grid.layer === null ? "layer" : "head", of: (line) => names[line] },
    });
    this.map.mark(Math.max(grid.columnOf(step.new[0]), 0), grid.columns - 1, `Attention of ${plural(names.length, grid.layer === null ? "layer" : "line")} to ${plural(grid.context, "position")}; the table lists the highest weights`);
    this.rows.replaceChildren(highest(this.state, grid));
  }
}

/** Offer layers to choose from; the chosen one stays chosen where it is among them. */
function offerLayers(select, layers) {
  const wanted = [ALL, ...layers].map(String);
  if (wanted.join() === Array.from(select.options, (option) => option.value).join()) return;
  const chosen = select.value;
  select.replaceChildren(...wanted.map((value) => h("option", { value, text: value === ALL ? "All layers" : `Layer ${value}`, selected: value === chosen })));
}

/** The attention of one row of a step: all layers, or the heads of one `layer`, their mean first. */
class Grid {
  constructor({ metadata, arrays }, row, history, padding) {
    Object.assign(this, metadata);
    this.arrays = arrays;
    this.row = row;
    this.history = history;
    this.padding = padding;
    this.layer = null;
    [, this.rows, this.heads, this.columns] = arrays.weights.shape;
  }

  get span() {
    const range = `positions ${this.start}–${this.start + this.context - 1} from left to right`;
    return this.width > 1 ? `${range}, ${count(this.width)} in a column, which is their sum` : range;
  }

  get names() {
    return this.layer === null ? this.layers.map(String) : ["mean", ...Array.from({ length: this.heads }, (_, head) => String(head))];
  }

  /** The column of a position. */
  columnOf(position) {
    return Math.floor((position - this.start) / this.width);
  }

  /** The positions of a column, the last one excluded. */
  positions(column) {
    const first = this.start + column * this.width;
    return [first, Math.min(first + this.width, this.start + this.context)];
  }

  /** The place of a line among layers and lines, line 0 of a layer being the mean over its heads. */
  place(line) {
    return this.layer === null ? [line, 0] : [this.layers.indexOf(this.layer), line];
  }

  /** A weight as it is stored; infinite for one that is not finite. */
  weight(line, column) {
    const [layer, which] = this.place(line);
    const one = (head) => {
      const stored = this.arrays.weights.data[((layer * this.rows + this.row) * this.heads + head) * this.columns + column];
      return stored === NOT_FINITE ? Infinity : (stored / STEPS) ** 2;
    };
    if (which) return one(which - 1);
    let sum = 0;
    for (let head = 0; head < this.heads; head++) sum += one(head);
    return sum / this.heads;
  }

  /** A line's highest weights, exactly as they were recorded. */
  highest(line) {
    const { positions, highest } = this.arrays;
    const start = this.index(line) * positions.shape[3];
    return Array.from({ length: positions.shape[3] }, (_, place) => ({ position: positions.data[start + place], weight: highest.data[start + place] })).filter(({ weight }) => weight > 0);
  }

  entropy(line) {
    return Math.max(0, this.arrays.entropy.data[this.index(line)]);
  }

  index(line) {
    const [layer, which] = this.place(line);
    return (layer * this.rows + this.row) * (this.heads + 1) + which;
  }
}

function highest(state, grid) {
  const kind = grid.layer === null ? "layer" : "head";
  const top = grid.arrays.positions.shape[3];
  return table(grid.layer === null ? "Highest weights of the layers" : `Highest weights in layer ${grid.layer}`, [kind, "bits", ...Array.from({ length: top }, (_, place) => (place ? "" : "highest weights"))], grid.names.map((name, line) => {
    const found = grid.highest(line);
    return h("tr", { "data-line": name }, h("th", { scope: "row", text: name }), h("td", { text: grid.entropy(line).toFixed(2) }),
      Array.from({ length: top }, (_, place) => (place < found.length ? seen(state, grid, found[place]) : h("td"))));
  }), { class: "lens" });
}

function seen(state, grid, { position, weight }) {
  const id = grid.history[position];
  return h("td", { class: "guess", style: { "--share": weight } }, h("span", { class: "position", text: position }),
    id === undefined ? h("span", { class: "token", text: "unused" }) : tokenButton(state, id), h("span", { class: "figure", text: probability(weight) }));
}

function describe(state, { grid }, line, column) {
  const [from, to] = grid.positions(column);
  const kind = grid.layer === null ? "layer" : line ? "head" : "";
  const tokens = Array.from({ length: to - from }, (_, place) => named(state, grid, from + place));
  const exact = to - from === 1 ? grid.highest(line).find(({ position }) => position === from) : undefined;
  const weight = exact ? probability(exact.weight) : rough(grid.weight(line, column));
  return `${kind} ${kind ? grid.names[line] : "mean over the heads"} · position ${to - from > 1 ? `${from}–${to - 1}` : from} ${tokens.join(" ")} · weight ${weight}${to - from > 1 ? " in all" : ""}`.trim();
}

function named(state, grid, position) {
  const id = grid.history[position];
  if (id === undefined) return "unused slot";
  return position < grid.padding ? `${state.tokens.label(id)} (padding)` : state.tokens.label(id);
}

/** A weight that was stored in 8 bits. */
function rough(weight) {
  return weight === Infinity ? "not finite" : weight ? `≈ ${probability(weight)}` : "≈ 0";
}
