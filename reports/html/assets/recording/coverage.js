// Which steps a section of the data covers, and what to say where it lacks one.

import { h } from "../lib/dom.js";
import { count } from "../lib/format.js";

/** What to say of a section with every `stride`-th step: that, and the nearest steps it holds; nothing where it holds all. */
export function coverage(state, what, stride, steps, number) {
  if (stride <= 1) return [];
  const held = Array.from(steps);
  const sentence = `To keep the page small, it holds ${what} of one step in ${count(stride)}. `;
  if (held.includes(number) || !held.length) return [sentence];
  const nearest = [held.filter((step) => step < number).pop(), held.find((step) => step > number)].filter((step) => step !== undefined);
  return [sentence, "Not of this one; nearest: ", ...nearest.map((step) => h("button", { type: "button", class: "jump", text: `step ${count(step)}`, on: { click: () => state.go({ step }) } }))];
}

/** How to record what this run lacks. */
export function notRecorded(what, option) {
  return [`${what} of this run was not recorded; `, h("code", { text: option }), " records it."];
}
