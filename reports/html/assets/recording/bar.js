// The bar that stays in sight: which step, which row, and the tokens as chips.

import { arrows, links, picker } from "../lib/controls.js";
import { h } from "../lib/dom.js";
import { count, probability } from "../lib/format.js";

const LINKS = [
  ["step", "Step"], ["pipeline", "Logits"], ["whatif", "What if"], ["cache", "KV cache"], ["layers", "Layers"], ["lens", "Lens"], ["attention", "Attention"], ["overview", "Overview"],
];

export const bar = {
  mount(state) {
    const parts = {
      chips: h("div", { class: "chips", role: "group", "aria-label": "Tokens of the row" }),
      where: h("p", { class: "where", role: "status", "aria-live": "polite" }),
      controls: h("div", { class: "controls" }),
    };
    document.getElementById("bar").append(
      h("div", { class: "line" }, parts.controls, parts.where, links(LINKS)),
      parts.chips);
    let shown = null;
    state.onChange(() => {
      const { run, at } = state;
      if (shown !== `${run.number}/${at.row}`) {
        shown = `${run.number}/${at.row}`;
        parts.controls.replaceChildren(...controls(state));
        parts.chips.replaceChildren(...chips(state));
      }
      mark(state, parts);
    });
    state.onFollow((id) => {
      for (const chip of parts.chips.children) chip.classList.toggle("followed", id !== null && chip.dataset.token === String(id));
    });
  },
};

function controls(state) {
  const { run, at, recording } = state;
  const by = (distance) => () => move(state, distance);
  return [
    ...arrows(by(-1), by(1)),
    recording.runs.length > 1 ? picker("Run", recording.runs.map((each) => each.number), run.number, (number) => state.go({ run: number, row: 0 })) : null,
    run.rows > 1 ? picker("Row", Array.from({ length: run.rows }, (_, row) => row), at.row, (row) => state.go({ row })) : null,
  ].filter(Boolean);
}

/** Go some steps forward or back. */
export function move(state, distance) {
  const place = Math.min(Math.max(state.place + distance, 0), state.run.steps.length - 1);
  if (state.run.steps.length) state.go({ step: state.run.steps[place] });
}

function chips(state) {
  const { run, at } = state;
  const { ids, padding } = run.prompts[at.row];
  const prompt = ids.map((id, position) => chip(state, id, `prompt ${position < padding ? "padding" : ""}`, { title: `prompt, position ${position}, token ${id}`, on: { click: () => move(state, -Infinity) } }));
  const generated = Array.from(run.steps, (number, place) => {
    const id = run.figure("chosen", place, at.row);
    const p = run.figure("probability", place, at.row);
    const ended = run.figure("finished", place, at.row);
    const trouble = run.figure("trouble", place);
    const words = [`step ${number}`, ended ? "the row had ended" : `probability ${probability(p)}`];
    if (trouble === 2) words.push("has a failed check or a fault in recording");
    if (trouble === 1) words.push("changed by the user");
    return chip(state, id, `${ended ? "padding" : ""} ${trouble ? `trouble${trouble}` : ""}`, {
      title: words.join(", "), "aria-label": `${state.recording.tokens.label(id)}, ${words.join(", ")}`, "data-place": place,
      style: { "--surprise": Number.isNaN(p) || ended ? 0 : 1 - p }, on: { click: () => state.go({ step: number }) },
    });
  });
  return [...prompt, ...generated];
}

function chip(state, id, classes, attributes) {
  const { tokens } = state.recording;
  return h("button", { type: "button", tabindex: "-1", class: `chip ${classes} ${tokens.special(id) ? "special" : ""}`, "data-token": id, text: tokens.label(id), ...attributes });
}

function mark(state, { chips: strip, where, controls: buttons }) {
  const { run, place, at } = state;
  strip.querySelector("[aria-current]")?.removeAttribute("aria-current");
  const current = strip.querySelector(`[data-place="${place}"]`);
  for (const other of strip.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
  if (current) {
    current.setAttribute("aria-current", "step");
    current.tabIndex = 0;
    strip.scrollTop = current.offsetTop - strip.clientHeight / 2 + current.offsetHeight / 2;
  }
  const last = run.steps.length - 1;
  buttons.querySelector(".previous").disabled = place <= 0;
  buttons.querySelector(".next").disabled = place >= last;
  where.textContent = run.steps.length ? `Step ${count(at.step)} of ${count(run.steps[last])}` : "No step was recorded";
}
