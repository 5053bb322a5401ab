// The bar that stays in sight: buttons, the place of the reader, links, and a strip with one item for each step.

import { h } from "./dom.js";
import { count } from "./format.js";

/** Fill the bar; `strip` is the element that holds the items, `sections` are the links: `[[id, text], …]`. */
export function fillBar(strip, sections) {
  const parts = {
    strip,
    where: h("p", { class: "where", role: "status", "aria-live": "polite" }),
    controls: h("div", { class: "controls" }),
  };
  const bar = document.getElementById("bar");
  bar.append(h("div", { class: "line" }, parts.controls, parts.where, links(sections)), strip);
  // What a link leads to must not hide under the bar, which is higher where the window is narrow.
  new ResizeObserver(() => document.documentElement.style.setProperty("--bar-height", `${bar.offsetHeight}px`)).observe(bar);
  return parts;
}

/** Show in the parts of a filled bar where the reader is; each item of the strip names its `data-place`. */
export function markPlace({ strip, where, controls }, { steps, place }) {
  strip.querySelector("[aria-current]")?.removeAttribute("aria-current");
  for (const other of strip.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
  const current = strip.querySelector(`[data-place="${place}"]`);
  if (current) {
    current.setAttribute("aria-current", "step");
    current.tabIndex = 0;
    strip.scrollTop = current.offsetTop - strip.clientHeight / 2 + current.offsetHeight / 2;
  }
  const last = steps.length - 1;
  controls.querySelector(".previous").disabled = place <= 0;
  controls.querySelector(".next").disabled = place >= last;
  where.textContent = steps.length ? `Step ${count(steps[place])} of ${count(steps[last])}` : "No step was recorded";
  const field = controls.querySelector(".goto");
  field.disabled = !steps.length;
  field.max = steps[last] ?? 1;
  if (document.activeElement !== field) field.value = steps[place] ?? "";
}

function links(sections) {
  return h("div", { class: "links" }, sections.map(([id, text]) => h("a", { href: `#${id}`, text, on: { click: (event) => jump(event, id) } })));
}

/** Scroll to a section without touching the address, which names the step. */
function jump(event, id) {
  event.preventDefault();
  const target = document.getElementById(id);
  target.scrollIntoView();
  target.focus({ preventScroll: true });
}

/** Buttons to the step before and the one after, and a field for any. */
export function arrows(state) {
  const go = (event) => {
    const wanted = event.target.valueAsNumber;
    if (!Number.isNaN(wanted)) state.go({ step: wanted });
    event.target.value = state.at.step;
  };
  return [
    h("button", { type: "button", class: "previous", "aria-label": "Previous step", title: "Previous step (←)", text: "←", on: { click: () => state.moveBy(-1) } }),
    h("input", { type: "number", class: "goto", min: 1, step: 1, "aria-label": "Go to step", title: "Go to step (g)", on: { change: go } }),
    h("button", { type: "button", class: "next", "aria-label": "Next step", title: "Next step (→)", text: "→", on: { click: () => state.moveBy(1) } }),
  ];
}

/** Where the number of a step can be typed. */
export function focusStepField() {
  document.querySelector("#bar .goto")?.select();
}

/** A choice among numbers. */
export function picker(name, values, chosen, choose, text = (value) => `${name} ${value}`) {
  return h("select", { "aria-label": name, on: { change: (event) => choose(Number(event.target.value)) } },
    values.map((value) => h("option", { value, text: text(value), selected: value === chosen })));
}
