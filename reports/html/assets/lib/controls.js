// Parts of the bar that stays in sight.

import { h } from "./dom.js";

/** Links to the sections of the page: `[[id, text], …]`. */
export function links(sections) {
  return h("div", { class: "links" }, sections.map(([id, text]) => h("a", { href: `#${id}`, text, on: { click: (event) => jump(event, id) } })));
}

/** Scroll to a section without touching the address, which names the step. */
function jump(event, id) {
  event.preventDefault();
  const target = document.getElementById(id);
  target.scrollIntoView();
  target.focus({ preventScroll: true });
}

/** Buttons to the step before and the one after. */
export function arrows(back, forth) {
  return [
    h("button", { type: "button", class: "previous", "aria-label": "Previous step", title: "Previous step (←)", text: "←", on: { click: back } }),
    h("button", { type: "button", class: "next", "aria-label": "Next step", title: "Next step (→)", text: "→", on: { click: forth } }),
  ];
}

/** A choice among numbers. */
export function picker(name, values, chosen, choose, text = (value) => `${name} ${value}`) {
  const select = h("select", { "aria-label": name, on: { change: (event) => choose(Number(event.target.value)) } },
    values.map((value) => h("option", { value, text: text(value), selected: value === chosen })));
  return select;
}
