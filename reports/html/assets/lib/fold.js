// Rows of a table that are shown when they are asked for.

import { h } from "./dom.js";

/** Give a layer's row a button that shows the modules inside it, made when they are first asked for. */
export function fold(row, make) {
  let rows = null;
  const button = h("button", { type: "button", class: "fold", "aria-expanded": "false", "aria-label": "Show the modules inside", text: "▸", on: { click: () => {
    const open = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "▾" : "▸";
    if (!rows) row.after(...(rows = make()));
    for (const each of rows) each.hidden = !open;
  } } });
  row.firstChild.prepend(button);
}
