// The followed token over the steps: where it was chosen, and how probable it was where it was recorded.

import { chart } from "../lib/chart.js";
import { h } from "../lib/dom.js";
import { count, plural, probability } from "../lib/format.js";

const DELAY = 150; // milliseconds on a token before all steps are searched
const LISTED = 12;

/** A line that says where the followed token occurs; it stays empty while none is followed. */
export function trailOf(state) {
  const element = h("div", { class: "trail", "aria-live": "polite" });
  let waiting = 0;
  state.onFollow((id) => {
    clearTimeout(waiting);
    if (id === null) element.replaceChildren();
    else waiting = setTimeout(async () => {
      const found = await followed(state, id);
      if (state.followed === id) element.replaceChildren(...found);
    }, DELAY);
  });
  return element;
}

async function followed(state, id) {
  const { run, at, tokens } = state;
  const shares = new Float64Array(run.steps.length).fill(NaN);
  for (let place = 0; place < run.steps.length; place++) {
    const { scores } = await run.step(place, at.row);
    const column = scores?.column.get(id);
    if (column !== undefined) shares[place] = scores.probabilities[column];
  }
  const chosen = Array.from(run.steps).filter((_, place) => run.figure("chosen", place, at.row) === id);
  const recorded = shares.filter((share) => !Number.isNaN(share)).length;
  const line = chart({ title: `Probability of ${tokens.label(id)} over the steps`, values: shares, format: probability, from: 0, pick: (place) => state.go({ step: run.steps[place] }) });
  line.at(state.place);
  return [
    h("p", { class: "note fact" }, h("span", { text: `recorded in ${count(recorded)} of ${plural(run.steps.length, "step")}; ${chosen.length ? "chosen in step " : "never chosen"}` }),
      chosen.slice(0, LISTED).map((number) => h("button", { type: "button", class: "jump", text: count(number), on: { click: () => state.go({ step: number }) } })),
      chosen.length > LISTED ? ` and ${count(chosen.length - LISTED)} more` : null),
    line.element,
  ];
}
