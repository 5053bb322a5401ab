// A table of figures that only one decoding loop has.

import { h, table } from "../lib/dom.js";
import { tokenButton } from "../lib/tokens.js";

export function figureTable(state, { title, columns, rows }) {
  return h("div", { class: "figures-table" }, h("h4", { text: title }), table(title, columns, rows.map(({ taken, cells }) =>
    h("tr", { class: taken ? "current" : null }, cells.map((cell) => h("td", {}, cell.token === undefined ? cell : tokenButton(state, cell.token)))))));
}
