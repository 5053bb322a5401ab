// The header of a recording: what was run, what came of it, and what a reader has to know about the trace.

import { banner } from "../lib/banner.js";
import { h, passage } from "../lib/dom.js";
import { figureTable } from "./figures.js";
import { duration, plural } from "../lib/format.js";

const REDACTED = { text: "Texts, token ids and absolute paths are left out of this report; tokens are numbered as they appear.", level: "warning" };

export const header = {
  mount(state) {
    const top = document.getElementById("top");
    let shown = null;
    state.onChange(({ run, at }) => {
      if (shown === `${run.number}/${at.row}`) return;
      shown = `${run.number}/${at.row}`;
      top.replaceChildren(...content(state, run, at.row).filter(Boolean));
    });
  },
};

function content(state, run, row) {
  const figures = [
    run.class, plural(run.steps.length, "step"), run.seconds === null ? null : duration(run.seconds),
    metadata(run, "decoding"), metadata(run, "dtype"), metadata(run, "devices"), seed(run),
  ];
  return [
    h("p", { class: "source", text: state.recording.source }),
    h("h1", { text: run.model }),
    run.fork ? forkLine(state, run) : null,
    h("p", { class: "figures" }, figures.filter(Boolean).map((text) => h("span", { text }))),
    h("div", { class: "banners" }, [...(state.recording.redacted ? [REDACTED] : []), ...run.banners].map(banner)),
    h("div", { class: "talk" },
      passage("Prompt", run.prompts[row].text, "prompt"),
      passage(run.status === "complete" ? "Answer" : `Answer (${run.status})`, run.answers[row], "answer")),
    h("details", {}, h("summary", { text: "Model, settings, versions" }), h("div", { class: "metadata" },
      values("Model", run.metadata), values("Generation settings", run.settings), values("Logits pipeline", run.processors),
      values("Stopping criteria", run.criteria),
      values("Versions", [...run.versions, { name: "recorded", value: run.started }, { name: "capture", value: run.capture }]),
      h("div", { class: "tree" }, h("h3", { text: "Modules" }), h("pre", { tabindex: "0", "aria-label": "Module tree", text: run.tree })))),
    run.tables.length ? h("details", { class: "hypotheses" }, h("summary", { text: "Hypotheses" }), run.tables.map((each) => figureTable(state, each))) : null,
  ];
}

/** Where the run branched off, and the way there. */
function forkLine(state, run) {
  const { text, run: parent, step, elsewhere } = run.fork;
  const here = elsewhere === null && state.recording.runs.some((each) => each.number === parent && parent < run.number);
  return h("p", { class: "fork" },
    h("span", { class: "tag", text: "fork" }), h("bdi", { text }),
    here ? h("button", { type: "button", text: `Open run ${parent} there`, on: { click: () => state.go({ run: parent, step }) } })
      : h("span", { class: "meaning", text: "That run is not in this page." }));
}

function values(title, found) {
  if (!found.length) return null;
  return h("div", {}, h("h3", { text: title }), h("dl", {}, found.map(({ name, value, meaning }) => [
    h("dt", { text: name }), h("dd", {}, h("span", { class: "value", text: value }), meaning ? h("span", { class: "meaning", text: meaning }) : null),
  ])));
}

function metadata(run, name) {
  return run.metadata.find((each) => each.name === name)?.value;
}

function seed(run) {
  const value = metadata(run, "seed");
  return value === undefined ? null : `seed ${value}`;
}
