// The module calls of a step, and one statistic of one kind of module over layers and steps.

import { h, section, table } from "../lib/dom.js";
import { fold } from "../lib/fold.js";
import { count, plural, statistic } from "../lib/format.js";
import { HeatMap, range } from "../lib/heat.js";
import { OWN, usual } from "../lib/legend.js";
import { coverage } from "./coverage.js";

const LAYER = /^((?:[^.\d][^.]*\.)*)(\d+)(?:\.(.+))?$/;
const STATISTICS = { mean: "mean", std: "standard deviation", low: "minimum", high: "maximum", largest: "largest magnitude", nonfinite: "not finite" };

const SCALES = { all: "one scale for all steps", own: "a scale for each step" };

export const layers = { mount: (main, state) => new LayersView(main, state) };

class LayersView {
  constructor(main, state) {
    const { element, body } = section("layers", "Layers", "Every module call with the shape and statistics of its output.");
    main.append(element);
    this.state = state;
    this.note = h("p", { class: "note fact" });
    this.role = h("select", { "aria-label": "Module", on: { change: () => this.drawMap() } });
    this.statistic = h("select", { "aria-label": "Statistic", on: { change: () => this.drawMap() } }, Object.entries(STATISTICS).map(([value, text]) => h("option", { value, text, selected: value === "std" })));
    this.scale = h("select", { "aria-label": "Scale of the colours", on: { change: () => this.drawMap() } }, Object.entries(SCALES).map(([value, text]) => h("option", { value, text })));
    this.map = new HeatMap({ label: "Layers over steps", outlined: "this step", describe: (line, column) => describe(this.shown, this.role.value, this.statistic.value, line, column), pick: (_, column) => state.go({ step: this.shown.data.arrays.steps.data[column] }) });
    this.figure = h("div", {}, h("div", { class: "row" }, this.role, this.statistic, this.scale), this.map.element);
    this.calls = h("div", {});
    body.append(this.note, this.figure, this.calls);
  }

  async update(step) {
    const { state } = this;
    const { run } = state;
    const data = await run.section("modules");
    if (!state.shows(run, step)) return;
    this.figure.hidden = !data;
    if (!data) {
      this.note.textContent = "The module calls of this run were not recorded.";
      this.calls.replaceChildren();
      return;
    }
    if (this.shown?.run !== run) this.open(run, data);
    this.shown.number = step.number;
    this.drawMap();
    this.list(step.number);
  }

  open(run, data) {
    this.shown = { run, data, roles: rolesOf(run) };
    this.role.replaceChildren(...Array.from(this.shown.roles.keys(), (role) => h("option", { value: role, text: role })));
  }

  /** Draw the map where run, role or statistic changed, and mark the step. */
  drawMap() {
    const { run, data, roles, number } = this.shown;
    const [role, name] = [this.role.value, this.statistic.value];
    const found = roles.get(role) ?? [];
    const steps = data.arrays.steps.data;
    const wanted = `${run.number}/${role}/${name}/${this.scale.value}`;
    if (this.drawn !== wanted) this.draw(found, steps, (line, column) => valueOf(data, name, column, found[line].module), name);
    this.drawn = wanted;
    const place = steps.indexOf(number);
    this.map.mark(Math.max(place, 0), place, `${STATISTICS[name]} of ${role} in ${found.length} layers over ${steps.length} steps`);
  }

  draw(found, steps, value, name) {
    const own = this.scale.value === "own";
    const { values, scale } = own ? ofOwnRange(found.length, steps.length, value) : { values: value, scale: withoutPrefill(found.length, steps, value) };
    this.map.draw(found.length, steps.length, values, {
      name: own ? `${STATISTICS[name]}, by the range of its step` : STATISTICS[name], scale,
      across: { what: "step", of: (column) => String(steps[column]) }, down: { what: "layer", of: (line) => String(found[line].layer) },
    });
  }

  /** List the module calls of a step, or say why there are none. */
  list(number) {
    const { run, data } = this.shown;
    const { stride } = data.metadata;
    const steps = data.arrays.steps.data;
    const place = steps.indexOf(number);
    this.note.replaceChildren(...coverage(this.state, "the module calls", stride, steps, number));
    if (place >= 0) this.note.append(summary(run, data, place));
    else if (stride <= 1) this.note.append("The module calls of this step were not recorded.");
    this.calls.replaceChildren(...(place < 0 ? [] : [calls(run, data, place)]));
  }
}

/** The usual range of all steps but the prefill: its values are of another size, and would take the whole scale. */
function withoutPrefill(lines, steps, value) {
  const of = (columns) => columns.flatMap((column) => Array.from({ length: lines }, (_, line) => value(line, column)));
  const columns = Array.from(steps.keys());
  const later = columns.filter((column) => steps[column] > 1);
  return usual(of(later.length ? later : columns), { all: of(columns) });
}

/** Values as shares of the range of their column. */
function ofOwnRange(lines, columns, value) {
  const ranges = Array.from({ length: columns }, (_, column) => range(Array.from({ length: lines }, (_, line) => value(line, column))));
  const share = (line, column) => {
    const [least, most] = ranges[column];
    const found = value(line, column);
    return Number.isFinite(found) ? (most > least ? (found - least) / (most - least) : 0.5) : found;
  };
  return { values: share, scale: OWN };
}

/** Modules by their role (their path with the layer's number as `*`), in the order of the layers. */
function rolesOf(run) {
  const roles = new Map();
  run.modules.forEach(([name], module) => {
    const found = LAYER.exec(name);
    if (!found) return;
    const role = `${found[1]}*${found[3] ? `.${found[3]}` : ""}`;
    if (!roles.has(role)) roles.set(role, []);
    roles.get(role).push({ layer: Number(found[2]), module });
  });
  return roles;
}

/** A statistic of a module's call in a step of the section; NaN where it was not called or not measured. */
function valueOf(data, name, place, module) {
  const call = layoutOf(data, place)[0].indexOf(module);
  if (call < 0) return NaN;
  return statisticOf(data, name, place, call);
}

function statisticOf({ arrays }, name, place, call) {
  const at = (column) => arrays[column].data[place * arrays[column].shape[1] + call];
  const bad = at("nonfinite");
  if (bad < 0) return NaN;
  if (name === "nonfinite") return bad;
  if (bad > 0) return Infinity;
  return name === "largest" ? Math.max(Math.abs(at("low")), Math.abs(at("high"))) : at(name);
}

function layoutOf({ arrays, metadata }, place) {
  return metadata.layouts[arrays.layout.data[place]];
}

function describe({ data, roles }, role, name, line, column) {
  const { layer, module } = roles.get(role)[line];
  const value = valueOf(data, name, column, module);
  const text = Number.isNaN(value) ? "not measured" : value === Infinity ? "not finite" : statistic(value);
  return `layer ${layer} · step ${data.arrays.steps.data[column]} · ${STATISTICS[name]} ${text}`;
}

function summary(run, data, place) {
  const [called, not] = layoutOf(data, place);
  return `${plural(called.length, "module call")}; ${not.length ? `not called: ${not.slice(0, 6).map((module) => run.modules[module][0]).join(", ")}${not.length > 6 ? ` and ${count(not.length - 6)} more` : ""}` : "every module was called"}`;
}

function calls(run, data, place) {
  const rows = [];
  const inside = new Map();
  layoutOf(data, place)[0].forEach((module, call) => {
    const found = LAYER.exec(run.modules[module][0]);
    const layer = found ? found[1] + found[2] : null;
    if (layer && found[3]) {
      if (!inside.has(layer)) inside.set(layer, []);
      inside.get(layer).push([module, call]);
    } else rows.push([layer, callRow(run, data, place, module, call, "")]);
  });
  for (const [layer, row] of rows) {
    if (inside.has(layer)) fold(row, () => inside.get(layer).map(([module, call]) => callRow(run, data, place, module, call, "inner")));
  }
  return table("Module calls", ["module", "class", "input", "output", "dtype", "device", "mean", "std", "min", "max", "not finite"], rows.map(([, row]) => row), { class: "calls" });
}

function callRow(run, data, place, module, call, classes) {
  const { shape_sets: sets, shape_set: set, nonfinite } = data.arrays;
  const [inputs, outputs] = data.metadata.shapes[sets.data[set.data[place] * sets.shape[1] + call]] ?? [[], []];
  const bad = nonfinite.data[place * nonfinite.shape[1] + call];
  const [name, kind] = run.modules[module];
  const figure = (column) => (bad < 0 ? "" : statistic(data.arrays[column].data[place * data.arrays[column].shape[1] + call]));
  return h("tr", { class: `${classes} ${bad > 0 ? "bad" : ""}` },
    h("td", { class: "module" }, name || "(the model itself)"), h("td", { text: kind }), h("td", { text: inputs[0]?.[0] ?? "" }), h("td", { text: outputs[0]?.[0] ?? "" }),
    h("td", { text: outputs[0]?.[1] ?? "" }), h("td", { text: outputs[0]?.[2] ?? "" }),
    ["mean", "std", "low", "high"].map((column) => h("td", { text: figure(column) })), h("td", { text: bad < 0 ? "" : count(bad) }));
}
