// Open two compared runs, put up the views, and listen to keys and addresses.

import { bar, moveBy } from "./bar.js";
import { head } from "./head.js";
import { gaps } from "./modules.js";
import { begins } from "./begins.js";
import { State, openComparison } from "./state.js";
import { steps } from "./steps.js";
import { h } from "../lib/dom.js";

const VIEWS = [begins, steps, gaps];

const KEYS = {
  ArrowLeft: (state) => moveBy(state, -1),
  ArrowRight: (state) => moveBy(state, 1),
  Home: (state) => moveBy(state, -Infinity),
  End: (state) => moveBy(state, Infinity),
  d: (state) => state.toParting(),
};

async function start() {
  const main = document.getElementById("main");
  const state = new State(await openComparison());
  main.replaceChildren();
  head.mount(state);
  bar.mount(state);
  for (const view of VIEWS) view.mount(main, state);
  state.onChange(({ rows, place, at }) => {
    document.documentElement.dataset.shown = rows.length ? `${at.row}/${rows.number(place)}` : "nothing";
  });
  const wanted = location.hash;
  state.toParting();
  state.read(wanted);
  addEventListener("hashchange", () => state.read(location.hash));
  addEventListener("keydown", (event) => pressed(event, state));
  document.documentElement.dataset.ready = "true";
}

function pressed(event, state) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest?.("input, select, textarea")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act(state);
}

start().catch((error) => {
  document.getElementById("main").replaceChildren(h("p", { class: "banner error", text: `This page cannot be opened: ${error.message}` }));
});
