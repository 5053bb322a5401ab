// Open two compared runs, mount the views, and listen to keys and addresses.

import { bar } from "./bar.js";
import { firstDifference } from "./first_difference.js";
import { header } from "./header.js";
import { moduleDifferences } from "./modules.js";
import { State, openComparison } from "./state.js";
import { steps } from "./steps.js";
import { listen, startPage } from "../lib/start.js";

const VIEWS = [firstDifference, steps, moduleDifferences];

const KEYS = {
  ArrowLeft: (state) => state.moveBy(-1),
  ArrowRight: (state) => state.moveBy(1),
  Home: (state) => state.moveBy(-Infinity),
  End: (state) => state.moveBy(Infinity),
  d: (state) => state.toParting(),
};

async function start() {
  const main = document.getElementById("main");
  const state = new State(await openComparison());
  main.replaceChildren();
  header.mount(state);
  bar.mount(state);
  for (const view of VIEWS) view.mount(main, state);
  state.onChange(({ rows, place, at }) => {
    document.documentElement.dataset.shown = rows.length ? `${at.row}/${rows.steps[place]}` : "nothing";
  });
  const wanted = location.hash;
  state.toParting();
  state.read(wanted);
  listen(state, KEYS);
}

startPage(start, "This page");
