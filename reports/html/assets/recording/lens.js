// The logit lens: what each layer would have predicted, and the rank of the chosen token in each layer.

import { h, section, table } from "../lib/dom.js";
import { count, plural, probability } from "../lib/format.js";
import { banner } from "../lib/banner.js";
import { HeatMap } from "../lib/heat.js";
import { coverage, notRecorded } from "./coverage.js";
import { SHARES, ranks } from "../lib/legend.js";
import { bar } from "./scores.js";
import { tokenButton } from "../lib/tokens.js";

const FIGURES = { probability: "probability of the chosen token", rank: "rank of the chosen token" };

export const lens = { mount: (main, state) => new LensView(main, state) };

class LensView {
  constructor(main, state) {
    const { element, body } = section("lens", "Logit lens", "What each layer would have predicted, had it been the last: its output at the last position, put through the final norm and the output head.");
    main.append(element);
    this.state = state;
    this.note = h("p", { class: "note fact" });
    this.faults = h("div", { class: "banners" });
    this.sentence = h("p", { class: "row" });
    this.rows = h("div", {});
    this.figureName = h("select", { "aria-label": "Figure of the lens", on: { change: () => this.drawMap() } }, Object.entries(FIGURES).map(([value, text]) => h("option", { value, text })));
    this.map = new HeatMap({ label: "Lens: layers over steps", outlined: "this step", describe: (layer, column) => describe(state, this.shown, layer, column), pick: (_, column) => state.go({ step: this.shown.steps[column] }) });
    this.figure = h("div", {}, h("div", { class: "row" }, this.figureName), this.map.element);
    body.append(this.note, this.faults, this.sentence, this.rows, this.figure);
  }

  async update(step) {
    const { state } = this;
    const { run } = state;
    const found = await run.section("lens");
    if (!state.shows(run, step)) return;
    const steps = found?.arrays.steps.data ?? [];
    const place = steps.indexOf(step.number);
    this.shown = { run, row: step.row, found, steps, number: step.number };
    this.explain(step, place);
    this.figure.hidden = !steps.length;
    this.sentence.hidden = this.rows.hidden = place < 0;
    if (steps.length) this.drawMap();
    if (place < 0) return;
    const layers = layersOf(found.arrays, place, step.row);
    this.sentence.replaceChildren(...sentence(state, step, layers));
    this.rows.replaceChildren(grid(state, step, layers));
  }

  /** Say which steps there are, and why this one has no lens. */
  explain(step, place) {
    const { found, steps } = this.shown;
    this.note.replaceChildren(...(found ? coverage(this.state, "the lens", found.metadata.stride, steps, step.number) : notRecorded("The lens", "--lens")));
    if (found && place < 0 && found.metadata.stride <= 1) this.note.append("The lens of this step was not recorded.");
    this.faults.replaceChildren(...(found?.metadata.faults[step.number] ?? []).map((text) => banner({ text, level: "error" })));
  }

  /** Draw the map where run, row or figure changed, and mark the step. */
  drawMap() {
    const { run, row, found, steps, number } = this.shown;
    const name = this.figureName.value;
    const layers = found.arrays.rank.shape[1];
    const wanted = `${run.number}/${row}/${name}`;
    const scale = name === "rank" ? ranks(run.vocabulary ?? 1) : SHARES;
    if (this.drawn !== wanted) this.map.draw(layers, steps.length, (layer, column) => valuesAt(found.arrays[name], column, layer, row)[0], {
      name: FIGURES[name], scale, across: { what: "step", of: (column) => String(steps[column]) }, down: { what: "layer", of: String },
    });
    this.drawn = wanted;
    const place = steps.indexOf(number);
    this.map.mark(Math.max(place, 0), place, `${FIGURES[name]} in ${plural(layers, "layer")} over ${plural(steps.length, "step")}`);
  }
}

/** The values of one step, layer and row in an array `[steps, layers, rows, …]`. */
function valuesAt({ shape, data }, place, layer, row) {
  const size = shape.slice(3).reduce((a, b) => a * b, 1);
  const start = ((place * shape[1] + layer) * shape[2] + row) * size;
  return data.subarray(start, start + size);
}

function layersOf(arrays, place, row) {
  return Array.from({ length: arrays.rank.shape[1] }, (_, layer) => ({
    layer,
    tokens: valuesAt(arrays.tokens, place, layer, row),
    shares: valuesAt(arrays.probabilities, place, layer, row),
    rank: valuesAt(arrays.rank, place, layer, row)[0],
    share: valuesAt(arrays.probability, place, layer, row)[0],
  }));
}

/** First layer from which the chosen token ranks first in all later ones; undefined if it does not in the last. */
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
  return `step ${number} ${id < 0 ? "" : state.tokens.label(id)} · layer ${layer} · rank ${count(valuesAt(found.arrays.rank, column, layer, row)[0])}, probability ${probability(valuesAt(found.arrays.probability, column, layer, row)[0])}`;
}
