// The bar that stays in sight: which step, which row, and the tokens as chips.

import { arrows, fillBar, markPlace, picker } from "../lib/controls.js";
import { h } from "../lib/dom.js";
import { probability } from "../lib/format.js";

const LINKS = [
  ["step", "Step"], ["pipeline", "Logits"], ["whatif", "What if"], ["cache", "KV cache"], ["layers", "Layers"], ["lens", "Lens"], ["attention", "Attention"], ["overview", "Overview"],
];

export const bar = {
  mount(state) {
    const strip = h("div", { class: "chips", role: "group", "aria-label": "Tokens of the row" });
    const links = state.recording.runs.some((run) => run.beams) ? [LINKS[0], ["beams", "Beams"], ...LINKS.slice(1)] : LINKS;
    const parts = fillBar(strip, state.recording.branches.length ? [["branches", "Branches"], ...links] : links);
    let shown = null;
    state.onChange(() => {
      const { run, at } = state;
      const path = run.beams && run.steps.length ? run.path(state.place, at.row) : Array(run.steps.length).fill(at.row);
      const key = `${run.number}/${path.join()}/${run.beams ? at.row : ""}`;
      if (shown !== key) {
        shown = key;
        parts.controls.replaceChildren(...controls(state));
        strip.replaceChildren(...promptChips(state), ...stepChips(state, path));
      }
      markPlace(parts, state);
    });
    state.onFollow((id) => {
      for (const chip of strip.children) chip.classList.toggle("followed", id !== null && chip.dataset.token === String(id));
    });
  },
};

function controls(state) {
  const { run, at, recording } = state;
  return [
    ...arrows(state),
    recording.runs.length > 1 ? picker("Run", recording.runs.map((each) => each.number), run.number, (number) => state.go({ run: number, row: 0 })) : null,
    run.rows > 1 ? picker("Row", Array.from({ length: run.rows }, (_, row) => row), at.row, (row) => state.go({ row })) : null,
  ].filter(Boolean);
}

function promptChips(state) {
  const { ids, padding } = state.run.prompts[state.at.row];
  return ids.map((id, position) => chip(state, id, ids.slice(Math.max(0, position - 3), position), `prompt ${position < padding ? "padding" : ""}`, { title: `prompt, position ${position}, token ${id}`, on: { click: () => state.moveBy(-Infinity) } }));
}

/** The token of each step; the less probable it was, the stronger its colour. */
function stepChips(state, path) {
  const { run } = state;
  const known = path.filter((row) => row !== null);
  const sequence = known.length ? run.history(known.length, known[known.length - 1]) : [];
  let position = run.leading + run.prompts[0].ids.length;
  return Array.from(run.steps).slice(0, known.length).flatMap((number, place) => {
    const accepted = (run.appended?.[place] ?? []).slice(0, -1);
    const chips = accepted.map((id) => acceptedChip(state, id, number, place, sequence.slice(Math.max(0, position - 3), position++)));
    const before = sequence.slice(Math.max(0, position - 3), position++);
    return [...chips, stepChip(state, number, place, path[place], before)];
  });
}

/** A token that was proposed and accepted in a step, before the step's own. */
function acceptedChip(state, id, number, place, before) {
  const words = `step ${number}, proposed and accepted`;
  return chip(state, id, before, "accepted", { title: words, "aria-label": `${state.tokens.joined(id, before)}, ${words}`, on: { click: () => state.go({ step: number }) } });
}

function stepChip(state, number, place, row, before) {
  const { run } = state;
  const id = run.figure("chosen", place, row);
  const p = run.figure("probability", place, row);
  const ended = run.figure("finished", place, row);
  const trouble = run.figure("trouble", place);
  const words = [`step ${number}`, ended ? "the row had ended" : `probability ${probability(p)}`];
  if (trouble === 2) words.push("has a failed check or a fault in recording");
  if (trouble === 1) words.push("changed by the user");
  return chip(state, id, before, `${ended ? "padding" : ""} ${trouble ? `trouble${trouble}` : ""}`, {
    title: words.join(", "), "aria-label": `${state.tokens.joined(id, before)}, ${words.join(", ")}`, "data-place": place,
    style: { "--surprise": Number.isNaN(p) || ended ? 0 : 1 - p }, on: { click: () => state.go({ step: number, row }) },
  });
}

function chip(state, id, before, classes, attributes) {
  const { tokens } = state;
  return h("button", { type: "button", tabindex: "-1", class: `chip ${classes} ${tokens.special(id) ? "special" : ""}`, "data-token": id, text: tokens.joined(id, before), ...attributes });
}
