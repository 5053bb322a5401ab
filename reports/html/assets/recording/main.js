// Open the recording, put up the views, and listen to keys and addresses.

import { attention } from "./attention.js";
import { bar, move } from "./bar.js";
import { cache } from "./cache.js";
import { h } from "../lib/dom.js";
import { header } from "../lib/header.js";
import { layers } from "./layers.js";
import { lens } from "./lens.js";
import { overview } from "./overview.js";
import { pipeline } from "./pipeline.js";
import { openRecording } from "./recording.js";
import { State } from "./state.js";
import { moveStop, stops } from "./stops.js";
import { whatif } from "./whatif.js";

const VIEWS = [stops, pipeline, whatif, cache, layers, lens, attention, overview];

const KEYS = {
  ArrowLeft: (state) => move(state, -1),
  ArrowRight: (state) => move(state, 1),
  Home: (state) => move(state, -Infinity),
  End: (state) => move(state, Infinity),
  j: (state) => moveStop(state, 1),
  k: (state) => moveStop(state, -1),
};

async function start() {
  const main = document.getElementById("main");
  const state = new State(await openRecording());
  main.replaceChildren();
  const views = VIEWS.map((view) => view.mount(main, state));
  bar.mount(state);
  header.mount(state);
  state.onChange(() => show(state, views));
  const wanted = location.hash;
  state.go({});
  state.read(wanted);
  addEventListener("hashchange", () => state.read(location.hash));
  addEventListener("keydown", (event) => pressed(event, state));
  document.documentElement.dataset.ready = "true";
}

async function show(state, views) {
  const { place, run, at } = state;
  if (!run.steps.length) return;
  const step = await run.step(place, at.row);
  if (state.run !== run || state.place !== place || state.at.row !== at.row) return; // the reader has gone on
  await Promise.all(views.map((view) => view.update(step)));
  document.documentElement.dataset.shown = `${run.number}/${step.number}/${at.row}/${state.at.stop}`;
}

function pressed(event, state) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest?.("input, select, textarea")) return;
  if (event.key === "/") {
    event.preventDefault();
    document.getElementById("why-search")?.focus();
    return;
  }
  const act = KEYS[event.key];
  if (!act || event.shiftKey) return;
  event.preventDefault();
  act(state);
}

start().catch((error) => {
  document.getElementById("main").replaceChildren(h("p", { class: "banner error", text: `This report cannot be opened: ${error.message}` }));
});
