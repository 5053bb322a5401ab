// The bar that stays in sight: which step, which rows, and the tokens of both runs, one above the other.

import { arrows, links, picker } from "../lib/controls.js";
import { h } from "../lib/dom.js";
import { count, probability } from "../lib/format.js";

const LINKS = [["begins", "Where they part"], ["steps", "Steps"], ["modules", "Modules"]];

export const bar = {
  mount(state) {
    const parts = {
      pairs: h("div", { class: "pairs", role: "group", "aria-label": "Tokens of both runs, A above B" }),
      where: h("p", { class: "where", role: "status", "aria-live": "polite" }),
      controls: h("div", { class: "controls" }),
    };
    document.getElementById("bar").append(h("div", { class: "line" }, parts.controls, parts.where, links(LINKS)), parts.pairs);
    let shown = null;
    state.onChange(() => {
      if (shown !== state.at.row) {
        shown = state.at.row;
        parts.controls.replaceChildren(...controls(state));
        parts.pairs.replaceChildren(legend(), ...pairs(state));
      }
      mark(state, parts);
    });
  },
};

/** Go some steps forward or back. */
export function moveBy(state, distance) {
  const { rows, place } = state;
  const to = Math.min(Math.max(place + distance, 0), rows.length - 1);
  if (rows.length) state.go({ step: rows.number(to) });
}

function controls(state) {
  const { rows, comparison, at } = state;
  return [
    ...arrows(() => moveBy(state, -1), () => moveBy(state, 1)),
    rows.parted === null ? null : h("button", { type: "button", title: "Where they part (d)", text: "First difference", on: { click: () => state.toParting() } }),
    comparison.rows.length > 1 ? picker("Rows", comparison.rows.map((_, place) => place), at.row, (row) => { state.go({ row }); state.toParting(); }, (place) => comparison.rows[place].label) : null,
  ].filter(Boolean);
}

function legend() {
  return h("span", { class: "pair legend", "aria-hidden": "true" }, h("span", { text: "A" }), h("span", { text: "B" }));
}

function pairs(state) {
  const { rows } = state;
  return Array.from({ length: rows.length }, (_, place) => {
    const number = rows.number(place);
    const [ours, theirs] = ["a", "b"].map((side) => words(state, side, place));
    const same = rows.same(place);
    const kind = number === rows.parted ? "parted" : rows.parted !== null && number > rows.parted ? "after" : same ? "same" : "";
    const said = `step ${number}${number === rows.parted ? ", the first difference" : ""}: A ${ours}, B ${theirs}`;
    return h("button", { type: "button", tabindex: "-1", class: `pair ${kind}`, "data-place": place, title: said, "aria-label": said, on: { click: () => state.go({ step: number }) } },
      chip(state, "a", place), chip(state, "b", place));
  });
}

function chip({ rows, comparison }, side, place) {
  const id = rows.token(side, place);
  if (id === null) return h("span", { class: "none", text: "-" });
  const p = rows.figure(`probability_${side}`, place);
  return h("span", { class: comparison.tokens.special(id) ? "special" : null, style: { "--surprise": Number.isNaN(p) ? 0 : 1 - p }, text: comparison.tokens.label(id) });
}

function words({ rows, comparison }, side, place) {
  const id = rows.token(side, place);
  return id === null ? "has no token here" : `${comparison.tokens.label(id)} (${probability(rows.figure(`probability_${side}`, place))})`;
}

function mark(state, { pairs: strip, where, controls: buttons }) {
  const { rows, place } = state;
  strip.querySelector("[aria-current]")?.removeAttribute("aria-current");
  for (const other of strip.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
  const current = strip.querySelector(`[data-place="${place}"]`);
  if (current) {
    current.setAttribute("aria-current", "step");
    current.tabIndex = 0;
    strip.scrollTop = current.offsetTop - strip.clientHeight / 2 + current.offsetHeight / 2;
  }
  buttons.querySelector(".previous").disabled = place <= 0;
  buttons.querySelector(".next").disabled = place >= rows.length - 1;
  where.textContent = rows.length ? `Step ${count(rows.number(place))} of ${count(rows.number(rows.length - 1))}` : "No step was recorded";
}
