// The module calls of a step, and one statistic of one kind of module over layers and steps.

import { h, section, table } from "../lib/dom.js";
import { fold } from "../lib/fold.js";
import { count, plural, statistic } from "../lib/format.js";
import { heatMap } from "../lib/heat.js";
import { thinned } from "./kept.js";

const LAYER = /^((?:[^.\d][^.]*\.)*)(\d+)(?:\.(.+))?$/;
const STATISTICS = { mean: "mean", std: "standard deviation", low: "minimum", high: "maximum", largest: "largest magnitude", nonfinite: "not finite" };

export const layers = {
  id: "layers",
  mount(main, state) {
    const { element, body } = section("layers", "Layers", "Every module call with the shape and statistics of its output.");
    main.append(element);
    const note = h("p", { class: "note fact" });
    const what = h("select", { "aria-label": "Module", on: { change: () => drawMap() } });
    const which = h("select", { "aria-label": "Statistic", on: { change: () => drawMap() } }, Object.entries(STATISTICS).map(([value, text]) => h("option", { value, text, selected: value === "std" })));
    const list = h("div", {});
    let shown = null;
    const map = heatMap({ label: "Layers over steps", outlined: "this step", describe: (line, column) => describe(shown, what.value, which.value, line, column), pick: (_, column) => state.go({ step: shown.data.arrays.steps.data[column] }) });
    const figure = h("div", {}, h("div", { class: "row" }, what, which, h("span", { class: "note", text: "layers from top to bottom, steps from left to right" })), map.element);
    body.append(note, figure, list);
    let painted = null;
    const drawMap = () => {
      const { data, roles } = shown;
      const found = roles.get(what.value) ?? [];
      const steps = data.arrays.steps.data;
      const wanted = `${shown.run.number}/${what.value}/${which.value}`;
      if (painted !== wanted) map.draw(found.length, steps.length, (line, column) => valueOf(data, which.value, column, found[line].module), { name: STATISTICS[which.value] });
      painted = wanted;
      const at = steps.indexOf(shown.step.number);
      map.mark(Math.max(at, 0), at, `${STATISTICS[which.value]} of ${what.value} in ${found.length} layers over ${steps.length} steps`);
    };
    return {
      async update(step) {
        const run = state.run;
        const data = await run.section("modules");
        if (state.run !== run || state.at.step !== step.number) return;
        figure.hidden = !data;
        if (!data) {
          note.textContent = "The module calls of this run were not recorded.";
          list.replaceChildren();
          return;
        }
        if (shown?.run !== run) {
          shown = { run, data, roles: rolesOf(run) };
          what.replaceChildren(...Array.from(shown.roles.keys(), (role) => h("option", { value: role, text: role })));
        }
        shown.step = step;
        drawMap();
        const place = data.arrays.steps.data.indexOf(step.number);
        const { stride } = data.facts;
        note.replaceChildren(...thinned(state, "the module calls", stride, data.arrays.steps.data, step.number));
        if (place >= 0) note.append(summary(run, data, place));
        else if (stride <= 1) note.append("The module calls of this step were not recorded.");
        list.replaceChildren(...(place < 0 ? [] : [calls(run, data, place)]));
      },
    };
  },
};

/** Modules by what they are in their layer, in the order of the layers. */
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

/** A statistic of a module's call in a kept step; NaN where it was not called or not measured. */
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

function layoutOf({ arrays, facts }, place) {
  return facts.layouts[arrays.layout.data[place]];
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
  const [inputs, outputs] = data.facts.shapes[sets.data[set.data[place] * sets.shape[1] + call]] ?? [[], []];
  const bad = nonfinite.data[place * nonfinite.shape[1] + call];
  const [name, kind] = run.modules[module];
  const figure = (column) => (bad < 0 ? "" : statistic(data.arrays[column].data[place * data.arrays[column].shape[1] + call]));
  return h("tr", { class: `${classes} ${bad > 0 ? "bad" : ""}` },
    h("td", { class: "module" }, name || "(the model itself)"), h("td", { text: kind }), h("td", { text: inputs[0]?.[0] ?? "" }), h("td", { text: outputs[0]?.[0] ?? "" }),
    h("td", { text: outputs[0]?.[1] ?? "" }), h("td", { text: outputs[0]?.[2] ?? "" }),
    ["mean", "std", "low", "high"].map((column) => h("td", { text: figure(column) })), h("td", { text: bad < 0 ? "" : count(bad) }));
}
