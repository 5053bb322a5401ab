// What a view says that does not hold every step.

import { h } from "../lib/dom.js";
import { count } from "../lib/format.js";

/** Why a step is missing, and where the nearest kept ones are; nothing where all steps are kept. */
export function thinned(state, what, stride, steps, number) {
  if (stride <= 1) return [];
  const kept = Array.from(steps);
  const said = `To keep the page small, it holds ${what} of one step in ${count(stride)}. `;
  if (kept.includes(number) || !kept.length) return [said];
  const near = [kept.filter((step) => step < number).pop(), kept.find((step) => step > number)].filter((step) => step !== undefined);
  return [said, "Not of this one; nearest: ", ...near.map((step) => h("button", { type: "button", class: "jump", text: `step ${count(step)}`, on: { click: () => state.go({ step }) } }))];
}

/** How to record what this run lacks. */
export function unrecorded(what, option) {
  return [`${what} of this run was not recorded; `, h("code", { text: option }), " records it."];
}
