// What was run, what came of it, and what a reader has to know about the trace.

import { h } from "./dom.js";
import { duration, plural } from "./format.js";

const REDACTED = { text: "Texts, token ids and absolute paths are left out of this report; tokens are numbered as they appear.", level: "warning" };
const SIGNS = { error: "✕", warning: "!", ok: "✓" };

export const header = {
  mount(state) {
    const top = document.getElementById("top");
    let shown = null;
    state.onChange(({ run, at }) => {
      if (shown === `${run.number}/${at.row}`) return;
      shown = `${run.number}/${at.row}`;
      top.replaceChildren(...content(state, run, at.row));
    });
  },
};

function content(state, run, row) {
  const figures = [
    run.class, plural(run.steps.length, "step"), run.seconds === null ? null : duration(run.seconds),
    run.sampling ? "sampling" : "greedy", fact(run, "dtype"), fact(run, "devices"), seed(run),
  ];
  return [
    h("p", { class: "source", text: state.recording.source }),
    h("h1", { text: run.model }),
    h("p", { class: "figures" }, figures.filter(Boolean).map((text) => h("span", { text }))),
    h("div", { class: "banners" }, [...(state.recording.redacted ? [REDACTED] : []), ...run.banners].map(banner)),
    h("div", { class: "talk" },
      spoken("Prompt", run.prompts[row].text, "prompt"),
      spoken(run.status === "complete" ? "Answer" : `Answer (${run.status})`, run.answers[row], "answer")),
    h("details", {}, h("summary", { text: "Model, settings, versions" }), h("div", { class: "facts" },
      facts("Model", run.facts), facts("Generation settings", run.settings), facts("Logits pipeline", run.processors),
      facts("Stopping criteria", run.criteria),
      facts("Versions", [...run.versions, { name: "recorded", value: run.started }, { name: "capture", value: run.capture }]),
      h("div", { class: "tree" }, h("h3", { text: "Modules" }), h("pre", { tabindex: "0", "aria-label": "Module tree", text: run.tree })))),
  ];
}

/** A sentence with a sign: an error, a warning, or that all is well. */
export function banner({ text, level }) {
  return h("p", { class: `banner ${level}` }, h("span", { class: "sign", "aria-hidden": "true", text: SIGNS[level] ?? "·" }), h("span", { text }));
}

/** A prompt or an answer. */
export function spoken(who, text, kind) {
  return h("div", { class: kind }, h("h2", { text: who }),
    h("pre", { tabindex: "0", "aria-label": who, text: text ?? "The text is not in this report." }));
}

function facts(title, found) {
  if (!found.length) return null;
  return h("div", {}, h("h3", { text: title }), h("dl", {}, found.map(({ name, value, meaning }) => [
    h("dt", { text: name }), h("dd", {}, h("span", { class: "value", text: value }), meaning ? h("span", { class: "meaning", text: meaning }) : null),
  ])));
}

function fact(run, name) {
  return run.facts.find((each) => each.name === name)?.value;
}

function seed(run) {
  const value = fact(run, "seed");
  return value === undefined ? null : `seed ${value}`;
}
