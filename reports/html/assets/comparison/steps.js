// The steps of both runs side by side: tokens, probabilities, distance of the logits; a few as a table, all as charts.

import { chart } from "../lib/chart.js";
import { h, section, table } from "../lib/dom.js";
import { probability, statistic } from "../lib/format.js";
import { tokenText } from "../lib/tokens.js";

const AROUND = 6;
const COLUMNS = ["step", "A chose", "in A", "in B", "B chose", "in B", "in A", "KL divergence, nats", "largest logit difference"];

export const steps = {
  mount(main, state) {
    const { element, body } = section("steps", "Steps", "What each run chose, its probability there and in the other run, and how far the raw logits are apart.");
    main.append(element);
    const list = h("div", {});
    const remark = h("p", { class: "note fact" });
    const grid = h("div", { class: "charts" });
    body.append(list, remark, grid);
    let drawn = null;
    let charts = [];
    state.onChange(() => {
      const { rows, place, at } = state;
      if (drawn !== at.row) {
        drawn = at.row;
        charts = rows.length ? allCharts(state) : [];
        grid.replaceChildren(...charts.map((each) => each.element));
        remark.textContent = about(rows);
      }
      list.replaceChildren(around(state));
      for (const each of charts) each.at(place);
    });
  },
};

/** The steps around the one that is looked at. */
function around(state) {
  const { rows, place } = state;
  const first = Math.max(0, Math.min(place - AROUND, rows.length - 2 * AROUND - 1));
  const shown = Array.from({ length: Math.min(2 * AROUND + 1, rows.length - first) }, (_, index) => first + index);
  return table("Steps of both runs", COLUMNS, shown.map((each) => line(state, each)), { class: "steps" });
}

function line(state, place) {
  const { rows } = state;
  const number = rows.steps[place];
  const kind = [place === state.place ? "current" : "", number === rows.parted ? "parted" : "", rows.same(place) ? "same" : ""].filter(Boolean).join(" ");
  return h("tr", { class: kind, "data-step": number },
    h("td", {}, h("button", { type: "button", class: "jump", text: number, on: { click: () => state.go({ step: number }) } })),
    side(state, "a", place), side(state, "b", place),
    h("td", { text: distance(rows.figure("divergence", place)) }),
    h("td", { text: distance(rows.figure("largest", place)) + (rows.figure("over_all", place) || Number.isNaN(rows.figure("largest", place)) ? "" : " *") }));
}

function side(state, name, place) {
  const { rows } = state;
  const id = rows.token(name, place);
  if (id === null) return h("td", { colspan: 3, class: "none", text: "no token" });
  const [own, other] = [rows.figure(`probability_${name}`, place), rows.figure(`elsewhere_${name}`, place)];
  const unknown = rows.figure("shared", place) ? "not recorded" : "another text";
  return [h("td", {}, tokenText(state, id)), h("td", {}, h("strong", { text: probability(own) })), h("td", { class: Number.isNaN(other) ? "none" : null, text: Number.isNaN(other) ? unknown : other === 0 ? "removed" : probability(other) })];
}

function distance(value) {
  return Number.isNaN(value) ? "" : statistic(value);
}

function about(rows) {
  const { divergence, largest, over_all: all } = rows.columns;
  const notes = [];
  if (rows.parted !== null) notes.push(`After step ${rows.parted} the texts differ, so that probabilities and logits cannot be compared.`);
  if (!divergence.data.some(Number.isFinite)) notes.push("The KL divergence needs saved logits in both runs (--capture tensors --save logits).");
  if (largest.data.some((value, place) => Number.isFinite(value) && !all.data[place])) notes.push("* of the tokens that both runs listed.");
  return notes.join(" ");
}

function allCharts(state) {
  const { columns } = state.rows;
  const pick = (place) => state.go({ step: state.rows.steps[place] });
  return [
    chart({ title: "Probability of the chosen token: A, B dashed", values: columns.probability_a.data, second: columns.probability_b.data, format: probability, from: 0, pick }),
    chart({ title: "KL divergence of the raw logits, nats", values: columns.divergence.data, format: statistic, from: 0, pick }),
    chart({ title: "Largest difference of two raw logits", values: columns.largest.data, format: statistic, from: 0, pick }),
  ];
}
