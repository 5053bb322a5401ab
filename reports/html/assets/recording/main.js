// Open the recording, mount the views, and listen to keys and addresses.

import { attention } from "./attention.js";
import { bar } from "./bar.js";
import { beams } from "./beams.js";
import { branches } from "./branches.js";
import { cache } from "./cache.js";
import { header } from "./header.js";
import { layers } from "./layers.js";
import { lens } from "./lens.js";
import { overview } from "./overview.js";
import { pipeline } from "./pipeline.js";
import { openRecording } from "./recording.js";
import { listen, startPage } from "../lib/start.js";
import { State } from "./state.js";
import { moveStop, stops } from "./stops.js";
import { whatif } from "./whatif.js";

const VIEWS = [stops, beams, pipeline, whatif, cache, layers, lens, attention, overview];

const KEYS = {
  ArrowLeft: (state) => state.moveBy(-1),
  ArrowRight: (state) => state.moveBy(1),
  Home: (state) => state.moveBy(-Infinity),
  End: (state) => state.moveBy(Infinity),
  j: (state) => moveStop(state, 1),
  k: (state) => moveStop(state, -1),
  "/": () => document.getElementById("why-search")?.focus(),
};

async function start() {
  const main = document.getElementById("main");
  const state = new State(await openRecording());
  main.replaceChildren();
  branches.mount(main, state);
  const views = VIEWS.map((view) => view.mount(main, state));
  bar.mount(state);
  header.mount(state);
  state.onChange(() => show(state, views));
  const wanted = location.hash;
  state.go({});
  state.read(wanted);
  listen(state, KEYS);
}

async function show(state, views) {
  const { place, run, at } = state;
  if (!run.steps.length) return;
  const step = await run.step(place, at.row);
  if (!state.shows(run, step)) return;
  await Promise.all(views.map((view) => view.update(step)));
  document.documentElement.dataset.shown = `${run.number}/${step.number}/${at.row}/${state.at.stop}`;
}

startPage(start, "This report");
