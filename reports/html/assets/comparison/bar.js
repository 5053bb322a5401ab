// The bar that stays in sight: which step, which rows, and the tokens of both runs, one above the other.

import { arrows, fillBar, markPlace, picker } from "../lib/controls.js";
import { h } from "../lib/dom.js";
import { probability } from "../lib/format.js";

const LINKS = [["begins", "Where they part"], ["steps", "Steps"], ["modules", "Modules"]];

export const bar = {
  mount(state) {
    const strip = h("div", { class: "pairs", role: "group", "aria-label": "Tokens of both runs, A above B" });
    const parts = fillBar(strip, LINKS);
    let shown = null;
    state.onChange(() => {
      if (shown !== state.at.row) {
        shown = state.at.row;
        parts.controls.replaceChildren(...controls(state));
        strip.replaceChildren(legend(), ...pairs(state));
      }
      markPlace(parts, state);
    });
  },
};

function controls(state) {
  const { rows, comparison, at } = state;
  return [
    ...arrows(state),
    rows.parted === null ? null : h("button", { type: "button", title: "Where they part (d)", text: "First difference", on: { click: () => state.toParting() } }),
    comparison.rows.length > 1 ? picker("Rows", comparison.rows.map((_, place) => place), at.row, (row) => { state.go({ row }); state.toParting(); }, (place) => comparison.rows[place].label) : null,
  ].filter(Boolean);
}

function legend() {
  return h("span", { class: "pair legend", "aria-hidden": "true" }, h("span", { text: "A" }), h("span", { text: "B" }));
}

function pairs(state) {
  const { rows } = state;
  return Array.from(rows.steps, (number, place) => {
    const [ours, theirs] = ["a", "b"].map((side) => inWords(state, side, place));
    const kind = number === rows.parted ? "parted" : rows.parted !== null && number > rows.parted ? "after" : rows.same(place) ? "same" : "";
    const said = `step ${number}${number === rows.parted ? ", the first difference" : ""}: A ${ours}, B ${theirs}`;
    return h("button", { type: "button", tabindex: "-1", class: `pair ${kind}`, "data-place": place, title: said, "aria-label": said, on: { click: () => state.go({ step: number }) } },
      chip(state, "a", place), chip(state, "b", place));
  });
}

function chip({ rows, tokens }, side, place) {
  const id = rows.token(side, place);
  if (id === null) return h("span", { class: "none", text: "-" });
  const p = rows.figure(`probability_${side}`, place);
  return h("span", { class: tokens.special(id) ? "special" : null, style: { "--surprise": Number.isNaN(p) ? 0 : 1 - p }, text: tokens.label(id) });
}

function inWords({ rows, tokens }, side, place) {
  const id = rows.token(side, place);
  return id === null ? "has no token here" : `${tokens.label(id)} (${probability(rows.figure(`probability_${side}`, place))})`;
}
