// The logit lens: what each layer would have predicted, and the chosen token's way through the layers.

import { h, section, table } from "../lib/dom.js";
import { count, plural, probability } from "../lib/format.js";
import { banner } from "../lib/header.js";
import { heatMap } from "../lib/heat.js";
import { thinned, unrecorded } from "./kept.js";
import { SHARES, ranks } from "../lib/legend.js";
import { bar } from "./scores.js";
import { tokenButton } from "../lib/tokens.js";

const FIGURES = { probability: "probability of the chosen token", rank: "rank of the chosen token" };

export const lens = {
  id: "lens",
  mount(main, state) {
    const { element, body } = section("lens", "Logit lens", "What each layer would have predicted, had it been the last: its output at the last position, put through the final norm and the output head.");
    main.append(element);
    const note = h("p", { class: "note fact" });
    const faults = h("div", { class: "banners" });
    const said = h("p", { class: "row" });
    const rows = h("div", {});
    const which = h("select", { "aria-label": "Figure of the lens", on: { change: () => draw() } }, Object.entries(FIGURES).map(([value, text]) => h("option", { value, text })));
    let shown = null;
    const map = heatMap({ label: "Lens: layers over steps", outlined: "this step", describe: (layer, column) => describe(state, shown, layer, column), pick: (_, column) => state.go({ step: shown.steps[column] }) });
    const figure = h("div", {}, h("div", { class: "row" }, which, h("span", { class: "note", text: "layers from top to bottom, steps from left to right" })), map.element);
    body.append(note, faults, said, rows, figure);
    let painted = null;
    const draw = () => {
      const { run, row, found, steps, number } = shown;
      const layers = found.arrays.rank.shape[1];
      const wanted = `${run.number}/${row}/${which.value}`;
      const scale = which.value === "rank" ? ranks(run.vocabulary ?? 1) : SHARES;
      if (painted !== wanted) map.draw(layers, steps.length, (layer, column) => at(found.arrays[which.value], column, layer, row)[0], { name: FIGURES[which.value], scale });
      painted = wanted;
      const place = steps.indexOf(number);
      map.mark(Math.max(place, 0), place, `${FIGURES[which.value]} in ${plural(layers, "layer")} over ${plural(steps.length, "step")}`);
    };
    return {
      async update(step) {
        const { run } = state;
        const found = await run.section("lens");
        if (state.run !== run || state.at.step !== step.number || state.at.row !== step.row) return;
        const steps = found?.arrays.steps.data ?? [];
        const place = steps.indexOf(step.number);
        shown = { run, row: step.row, found, steps, number: step.number };
        note.replaceChildren(...(found ? thinned(state, "the lens", found.facts.stride, steps, step.number) : unrecorded("The lens", "--lens")));
        if (found && place < 0 && found.facts.stride <= 1) note.append("The lens of this step was not recorded.");
        faults.replaceChildren(...(found?.facts.faults[step.number] ?? []).map((text) => banner({ text, level: "error" })));
        figure.hidden = !steps.length;
        said.hidden = rows.hidden = place < 0;
        if (steps.length) draw();
        if (place < 0) return;
        const layers = layersOf(found.arrays, place, step.row);
        said.replaceChildren(...sentence(state, step, layers));
        rows.replaceChildren(grid(state, step, layers));
      },
    };
  },
};

/** The values of a kept step's layer and row in an array `[steps, layers, rows, …]`. */
function at({ shape, data }, place, layer, row) {
  const size = shape.slice(3).reduce((a, b) => a * b, 1);
  const start = ((place * shape[1] + layer) * shape[2] + row) * size;
  return data.subarray(start, start + size);
}

function layersOf(arrays, place, row) {
  return Array.from({ length: arrays.rank.shape[1] }, (_, layer) => ({
    layer,
    tokens: at(arrays.tokens, place, layer, row),
    shares: at(arrays.probabilities, place, layer, row),
    rank: at(arrays.rank, place, layer, row)[0],
    share: at(arrays.probability, place, layer, row)[0],
  }));
}

/** First layer from which on the chosen token ranks first; undefined if it does not in the last. */
export function settled(layers) {
  let found;
  for (const { layer, rank } of [...layers].reverse()) {
    if (rank !== 1) break;
    found = layer;
  }
  return found;
}

function summary(layers) {
  const last = layers.length - 1;
  const from = settled(layers);
  if (last < 0) return "No layer was recorded.";
  if (from === undefined) {
    const best = layers.reduce((a, b) => (b.rank < a.rank ? b : a));
    return `It ranks first in no layer up to the last; its best rank is ${best.rank}, in layer ${best.layer}.`;
  }
  return from === last ? `It ranks first from the last layer on, ${last}.` : `It ranks first from layer ${from} on, of ${plural(last + 1, "layer")}.`;
}

function sentence(state, step, layers) {
  const chosen = step.scores?.chosen;
  const ended = step.scores?.finished ? "The row had ended; its padding is looked up." : null;
  return [
    ...(chosen === undefined ? [] : [h("span", { text: "Chosen was" }), tokenButton(state, chosen)]),
    h("span", { class: "summary", text: summary(layers) }), ended ? h("span", { text: ended }) : null,
  ].filter(Boolean);
}

function grid(state, step, layers) {
  const from = settled(layers);
  const first = layers.find(({ rank }) => rank === 1)?.layer;
  const top = layers[0]?.tokens.length ?? 0;
  return table("Logit lens", ["layer", "chosen's rank", "probability", "", ...Array.from({ length: top }, (_, place) => (place ? "" : "top tokens"))], layers.map(({ layer, tokens, shares, rank, share }) =>
    h("tr", { class: rank === 1 ? "leads" : null, "data-layer": layer },
      h("th", { scope: "row" }, String(layer), tag(layer, first, from)),
      h("td", { class: "rank", text: count(rank) }), h("td", { text: probability(share) }), h("td", { class: "bar-cell" }, bar(share)),
      Array.from(tokens, (id, place) => h("td", { class: id === step.scores?.chosen ? "guess chosen" : "guess", style: { "--share": shares[place] || 0 } },
        tokenButton(state, id), h("span", { class: "figure", text: probability(shares[place]) }))))), { class: "lens" });
}

function tag(layer, first, from) {
  if (layer === from) return h("span", { class: "tag", title: "From here on the chosen token ranks first", text: layer === first ? "first, and stays" : "stays first" });
  return layer === first ? h("span", { class: "tag", title: "The chosen token ranks first here, but not in every later layer", text: "first" }) : null;
}

function describe(state, { run, row, found, steps }, layer, column) {
  const number = steps[column];
  const id = run.figure("chosen", run.places.get(number), row);
  return `step ${number} ${id < 0 ? "" : state.recording.tokens.label(id)} · layer ${layer} · rank ${count(at(found.arrays.rank, column, layer, row)[0])}, probability ${probability(at(found.arrays.probability, column, layer, row)[0])}`;
}
