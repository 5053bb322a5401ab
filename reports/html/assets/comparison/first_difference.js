// Where the difference begins: the first differing tokens, and the first numbers with their module.

import { h, section, table } from "../lib/dom.js";
import { tokenText } from "../lib/tokens.js";

export const firstDifference = {
  mount(main, state) {
    const { tokens, numbers, same } = state.comparison.verdict;
    const { element, body } = section("begins", "Where they part", "The first token and the first number that differ, and what explains them.");
    main.append(element);
    body.append(h("div", { class: "begins" },
      ...(tokens.length ? tokens.map((token) => tokenCard(state, token)) : [h("p", { class: "note", text: "Every token that both runs chose is the same." })]),
      ...(numbers.length ? numbers.map(numberCard) : [h("p", { class: "note", text: same ? "No recorded number differs." : "No recorded number differs before the runs part." })])));
  },
};

function tokenCard(state, { step, rows, a, b, probability_a: ours, probability_b: theirs, gaps, draw }) {
  const place = state.comparison.rows.findIndex((each) => each.label === rows);
  const line = (letter, id, probability) => h("tr", {}, h("th", { scope: "row", text: letter }), h("td", {}, tokenText(state, id)), h("td", { text: id }), h("td", { text: probability }));
  return h("div", { class: "card" },
    h("h3", {}, "The first differing token: ", h("button", { type: "button", class: "jump", text: `step ${step}`, on: { click: () => state.go({ row: Math.max(place, 0), step }) } }), ` ${rows}`),
    table(`The first differing token, ${rows}`, ["", "token", "id", "probability"], [line("A", a, ours), line("B", b, theirs)]),
    [gaps, draw].filter(Boolean).map((text) => h("p", { class: "note fact", text })));
}

function numberCard({ title, where, quantity, a, b, size, verdict, beyond }) {
  return h("div", { class: "card" },
    h("h3", { text: title[0].toUpperCase() + title.slice(1) }),
    h("p", { class: "note", text: where }),
    table(title, ["", "A", "B"], [[quantity, a, b]]),
    h("p", { class: "note fact" }, `apart by ${size}; `, h("span", { class: beyond ? "beyond" : null, text: verdict })));
}
