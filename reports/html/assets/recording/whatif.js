// What-if settings for this step, recomputed in the page on the recorded tokens.

import { h, section, table } from "../lib/dom.js";
import { bits, percent, plural, probability } from "../lib/format.js";
import { banner } from "../lib/banner.js";
import { bar } from "./scores.js";
import { tokenButton } from "../lib/tokens.js";
import { applied, changedProcessors, entropy, rawRow, settingsOf, softmax, verdict } from "./warp.js";

const CONTROLS = [
  ["temperature", "Temperature", { min: 0.05, max: 2, step: 0.05 }],
  ["top_k", "Top-k (0: off)", { min: 0, max: 100, step: 1 }],
  ["top_p", "Top-p (1: off)", { min: 0, max: 1, step: 0.01 }],
  ["min_p", "Min-p (0: off)", { min: 0, max: 1, step: 0.01 }],
  ["repetition_penalty", "Repetition penalty (1: off)", { min: 0.5, max: 2, step: 0.01 }],
];
const SHOWN = 20;

export const whatif = {
  id: "whatif",
  mount(main, state) {
    const { element, body } = section("whatif", "What if", "Other settings for this step, given the recorded text before it, in the order in which generate() applies them.");
    main.append(element);
    const inputs = {};
    const result = h("div", { class: "result", "aria-live": "polite" });
    let shown = null;
    let ours = null;
    const changed = () => { ours = read(inputs); draw(); };
    const form = h("form", { class: "knobs", on: { submit: (event) => event.preventDefault() } },
      CONTROLS.map(([name, label, range]) => knob(inputs, name, label, range, changed)),
      h("button", { type: "button", text: "As recorded", on: { click: () => { ours = null; draw(); } } }));
    body.append(h("div", { class: "whatif" }, form, result));
    const draw = () => {
      const reason = elsewhere(state.run);
      form.hidden = Boolean(reason);
      if (reason) return result.replaceChildren(h("p", { class: "note", text: reason }));
      const settings = ours ?? settingsOf(shown.processors);
      if (!ours) write(inputs, settings);
      result.replaceChildren(...(shown.step.scores ? outcome(state, shown, settings) : [h("p", { class: "note", text: "The scores of this step were not recorded." })]));
    };
    return { update(step) { shown = { step, processors: state.run.processors }; draw(); } };
  },
};

/** Why these settings alone do not say what a step of the run would choose; null where they do. */
function elsewhere(run) {
  if (run.beams) return "A beam search takes continuations from all beams of a row, so that one row's settings do not decide. What other settings would have kept of its hypotheses: trace-generate whatif --length-penalty, --early-stopping, --num-return-sequences.";
  if (run.appended) return "In assisted decoding a step chooses several tokens: what-if is not there for it.";
  if (run.ranked) return "In contrastive search a step ranks its candidates by their hidden states, too. What another penalty would have taken: trace-generate whatif --penalty-alpha.";
  return null;
}

function knob(inputs, name, label, range, changed) {
  const number = h("input", { type: "number", name, id: `knob-${name}`, ...range, max: null, step: "any", on: { input: () => { slider.value = number.value; changed(); } } });
  const slider = h("input", { type: "range", "aria-label": `${label}, slider`, ...range, on: { input: () => { number.value = slider.value; changed(); } } });
  inputs[name] = { number, slider };
  return h("div", { class: "knob" }, h("label", { for: `knob-${name}`, text: label }), slider, number);
}

function write(inputs, settings) {
  for (const [name, value] of Object.entries(settings)) inputs[name].number.value = inputs[name].slider.value = value;
}

/** Numbers from the controls; null where one is not possible. */
function read(inputs) {
  const settings = Object.fromEntries(Object.entries(inputs).map(([name, { number }]) => [name, number.value === "" ? NaN : Number(number.value)]));
  settings.top_k = Math.floor(settings.top_k);
  return settings;
}

function impossible({ temperature, top_k: count, top_p: mass, min_p: share, repetition_penalty: penalty }) {
  if (!(temperature > 0)) return "The temperature must be above 0.";
  if (!(count >= 0)) return "Top-k must be at least 0.";
  if (!(mass >= 0 && mass <= 1)) return "Top-p must be from 0 to 1.";
  if (!(share >= 0 && share <= 1)) return "Min-p must be from 0 to 1.";
  return penalty > 0 ? null : "The repetition penalty must be above 0.";
}

/** The row of a step under other settings, with its probabilities. */
export function recomputed(state, { step, processors }, settings) {
  const { scores } = step;
  const changed = changedProcessors(processors, settings).filter((each) => state.run.sampling || each.role !== "warper");
  const history = state.run.history(step.place, step.row).slice(state.run.leading);
  const row = applied(changed, rawRow(scores, state.run.cap), { tokens: scores.tokens, history, number: step.row, recorded: scores });
  return { row, shares: softmax(row.scores), order: changed.map((each) => each.name) };
}

function outcome(state, shown, settings) {
  const trouble = impossible(settings);
  if (trouble) return [banner({ text: trouble, level: "warning" })];
  const { scores } = shown.step;
  const { row, shares } = recomputed(state, shown, settings);
  const said = verdict(row, (state.run.vocabulary ?? scores.kept[0]) - scores.tokens.length);
  const kept = row.scores.filter((score) => score > -Infinity).length;
  const columns = Array.from(scores.tokens.keys()).filter((column) => shares[column] > 0 || scores.probabilities[column] > 0)
    .sort((a, b) => shares[b] - shares[a] || scores.probabilities[b] - scores.probabilities[a]);
  const more = said.share === undefined ? "" : ` They hold at most ${percent(said.share)} of it.`;
  return [
    h("div", { "data-exact": String(said.exact) }, banner({ text: said.text + more, level: said.exact ? "ok" : "warning" })),
    state.run.sampling ? null : h("p", { class: "note", text: "The run is greedy: warpers have no effect on it." }),
    h("p", { class: "note fact", text: `${plural(kept, "token")} left (recorded: ${plural(scores.candidates, "candidate")}), entropy ${bits(entropy(row.scores))} (recorded: ${bits(scores.entropy[scores.stages - 1])})` }),
    table("What if", ["token", "id", "recorded", "what if", ""], columns.slice(0, SHOWN).map((column) => h("tr", { class: scores.tokens[column] === scores.chosen ? "current" : null, "data-share": shares[column] },
      h("td", {}, tokenButton(state, scores.tokens[column], shares[column] > 0 ? "" : "gone")), h("td", { text: scores.tokens[column] }),
      h("td", { text: scores.probabilities[column] > 0 ? probability(scores.probabilities[column]) : "–" }),
      h("td", {}, h("strong", { text: shares[column] > 0 ? probability(shares[column]) : "removed" })),
      h("td", { class: "bar-cell" }, bar(scores.probabilities[column], "was"), bar(shares[column]))))),
    columns.length > SHOWN ? h("p", { class: "note", text: `${columns.length - SHOWN} more are not listed.` }) : null,
  ].filter(Boolean);
}
