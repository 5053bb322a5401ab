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
    const parts = fillBar(strip, state.recording.branches.length ? [["branches", "Branches"], ...LINKS] : LINKS);
    let shown = null;
    state.onChange(() => {
      const { run, at } = state;
      if (shown !== `${run.number}/${at.row}`) {
        shown = `${run.number}/${at.row}`;
        parts.controls.replaceChildren(...controls(state));
        strip.replaceChildren(...promptChips(state), ...stepChips(state));
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
function stepChips(state) {
  const { run, at } = state;
  const sequence = run.history(run.steps.length, at.row);
  const start = sequence.length - run.steps.length;
  return Array.from(run.steps, (number, place) => {
    const id = run.figure("chosen", place, at.row);
    const p = run.figure("probability", place, at.row);
    const ended = run.figure("finished", place, at.row);
    const trouble = run.figure("trouble", place);
    const before = sequence.slice(Math.max(0, start + place - 3), start + place);
    const words = [`step ${number}`, ended ? "the row had ended" : `probability ${probability(p)}`];
    if (trouble === 2) words.push("has a failed check or a fault in recording");
    if (trouble === 1) words.push("changed by the user");
    return chip(state, id, before, `${ended ? "padding" : ""} ${trouble ? `trouble${trouble}` : ""}`, {
      title: words.join(", "), "aria-label": `${state.tokens.joined(id, before)}, ${words.join(", ")}`, "data-place": place,
      style: { "--surprise": Number.isNaN(p) || ended ? 0 : 1 - p }, on: { click: () => state.go({ step: number }) },
    });
  });
}

function chip(state, id, before, classes, attributes) {
  const { tokens } = state;
  return h("button", { type: "button", tabindex: "-1", class: `chip ${classes} ${tokens.special(id) ? "special" : ""}`, "data-token": id, text: tokens.joined(id, before), ...attributes });
}
