// The KV cache: norms of keys and values by layer, head and position, and how it grows.

import { chart } from "../lib/chart.js";
import { h, section, table } from "../lib/dom.js";
import { byteSize, count, plural, statistic } from "../lib/format.js";
import { HeatMap } from "../lib/heat.js";

export const cache = { mount: (main, state) => new CacheView(main, state) };

class CacheView {
  constructor(main, state) {
    const { element, body } = section("cache", "KV cache", "Euclidean norms of the cached keys or values, one line a layer and KV head, one column a position.");
    main.append(element);
    this.state = state;
    this.summary = h("p", { class: "note fact" });
    this.which = h("select", { "aria-label": "Keys or values", on: { change: () => this.draw() } },
      h("option", { value: "key", text: "Keys" }), h("option", { value: "value", text: "Values" }));
    this.map = new HeatMap({ label: "KV cache", outlined: "new in this step", describe: (line, column) => describe(state, this.shown.step, this.norms, line, column) });
    this.growth = h("div", { class: "charts" });
    this.newest = h("details", {}, h("summary", { text: "Norms of the newest slot as a table" }));
    body.append(h("div", { class: "row" }, this.which, this.summary), this.map.element, this.growth, this.newest);
  }

  async update(step) {
    const { state } = this;
    const { run } = state;
    this.drawGrowth(step.place);
    const data = await run.section("cache");
    if (!state.shows(run, step)) return;
    this.shown = { step, data };
    this.map.element.hidden = this.which.hidden = this.newest.hidden = !data;
    this.summary.textContent = summary(run, step, data);
    if (data) this.draw();
  }

  /** The chosen norms of the shown step. */
  get norms() {
    return new Norms(this.which.value, this.shown.step.row, this.shown.data.arrays);
  }

  drawGrowth(place) {
    const { run } = this.state;
    if (this.run !== run) {
      this.run = run;
      this.memory = chart({ title: "Memory of the cache", format: byteSize, from: 0, values: Float64Array.from(run.steps, (_, index) => run.figure("cache_bytes", index)), pick: (index) => this.state.go({ step: run.steps[index] }) });
      this.growth.replaceChildren(this.memory.element);
    }
    this.memory.at(place);
  }

  draw() {
    const { step } = this.shown;
    const { norms } = this;
    const { layers, heads, which } = norms;
    const columns = norms.columnOf(step.new[1]);
    const first = Math.min(norms.columnOf(step.new[0]), columns);
    this.map.draw(layers * heads, columns, (line, column) => norms.at(column, line), {
      name: `${which} norm`, across: { what: "position", of: (column) => String(norms.slots[column]) },
      down: { what: heads > 1 ? "layer, its KV heads" : "layer", of: (line) => String(Math.floor(line / heads)), every: heads },
    });
    this.map.mark(first, columns - 1, `${which} norms of ${layers} layers with ${plural(heads, "KV head")} at ${plural(columns, "position")}; the new ones are outlined`);
    this.newest.querySelector(".scroll")?.remove();
    if (first < columns) this.newest.append(newestTable(norms, columns - 1));
  }
}

/** Norms of the keys or values of one row, `which` of them; a line is a layer and KV head. */
class Norms {
  constructor(which, row, { slots, [which]: norms }) {
    this.which = which;
    this.slots = slots.data;
    this.data = norms.data;
    this.row = row;
    [, this.layers, this.rows, this.heads] = norms.shape;
  }

  /** The first column whose slot is at or after a position; their number where there is none. */
  columnOf(position) {
    const column = this.slots.findIndex((slot) => slot >= position);
    return column < 0 ? this.slots.length : column;
  }

  at(column, line) {
    const [layer, head] = [Math.floor(line / this.heads), line % this.heads];
    return this.data[((column * this.layers + layer) * this.rows + this.row) * this.heads + head];
  }
}

function newestTable(norms, column) {
  const heads = Array.from({ length: norms.heads }, (_, head) => head);
  const rows = Array.from({ length: norms.layers }, (_, layer) => [layer, ...heads.map((head) => statistic(norms.at(column, layer * norms.heads + head)))]);
  return table("Norms of the newest slot", ["layer", ...heads.map((head) => `${norms.which} head ${head}`)], rows);
}

function describe(state, step, norms, line, column) {
  const slot = norms.slots[column];
  const id = state.run.history(step.place, step.row)[slot];
  return `position ${slot} ${id === undefined ? "" : state.tokens.label(id)} · layer ${Math.floor(line / norms.heads)}, KV head ${line % norms.heads} · ${norms.which} norm ${statistic(norms.at(column, line))}`;
}

function summary(run, step, data) {
  const [from, to] = step.new;
  const size = `${plural(run.figure("slots", step.place), "slot")} a layer, ${byteSize(run.figure("cache_bytes", step.place))} in all after this step`;
  const written = `cache_position ${to - from === 1 ? from : `${from}–${to - 1}`} is written`;
  const coverage = data && data.metadata.stride > 1 ? `; to keep the page small, it holds the norms of one position in ${count(data.metadata.stride)} only` : "";
  return `${size}; ${written}${data ? coverage : "; no norms were recorded"}`;
}
