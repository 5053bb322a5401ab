// "Why not …?": find a token among the recorded ones and say what became of it.

import { h } from "../lib/dom.js";
import { count, plural, probability, score, shortName } from "../lib/format.js";
import { tokenButton } from "../lib/tokens.js";

const SHOWN = 8;

/** The search box of a section; `update` shows its answer for another step. */
export function whySearch(state) {
  const answer = h("ul", { class: "answers", "aria-live": "polite" });
  const input = h("input", { type: "search", id: "why-search", placeholder: "text or id", autocomplete: "off", spellcheck: "false", on: { input: () => draw() } });
  let shown = null;
  const draw = () => {
    const text = input.value.trim();
    answer.replaceChildren(...(text && shown ? answers(state, shown, text) : []));
  };
  const element = h("div", { class: "why", role: "search" }, h("label", { for: "why-search", text: "Why not …?" }), input, answer);
  return { element, update(step) { shown = step; draw(); } };
}

function answers(state, step, text) {
  const { tokens } = state;
  const { scores } = step;
  const here = scores ? [scores.tokens, ...scores.removedTokens] : [];
  const found = tokens.find(text, [...here, tokens.labels.keys()]).slice(0, SHOWN);
  if (!found.length) return [h("li", { text: "No token of this recording has this text or id." })];
  return found.map((id) => h("li", {}, tokenButton(state, id), h("span", { text: fate(state, step, id) })));
}

/** What became of a token in a step, in a sentence. */
export function fate(state, step, id) {
  const { scores } = step;
  if (!scores) return "The scores of this step were not recorded.";
  const column = scores.column.get(id);
  if (column === undefined) {
    const stage = scores.removedTokens.findIndex((ids) => ids.includes(id));
    if (stage > 0) return `Removed by ${nameOf(state, stage)}; its scores were not recorded.`;
    return `Not among the ${scores.tokens.length} recorded tokens of this step: its ${state.run.first.one} is at most ${score(lowest(scores, state.run.cap))}.`;
  }
  const rank = `${state.run.first.one} ${score(scores.scores[0][column])}, rank ${count(rankOf(scores, 0, column))}`;
  const stage = scores.remover(column);
  if (stage) return `Removed by ${nameOf(state, stage)} at score ${score(scores.scores[stage - 1][column])}, with ${plural(scores.kept[stage], "token")} left (${rank}).`;
  const chance = `probability ${probability(scores.probabilities[column])}, rank ${count(rankOf(scores, scores.stages - 1, column))} of ${count(scores.candidates)}`;
  if (id === scores.chosen) return `Chosen: ${chance} (${rank}).`;
  if (state.run.beams) return `Not what this row goes on with: ${chance} (${rank}). The continuations at choice say which were cut, and by how much.`;
  if (state.run.ranked) return `Not taken: ${chance} (${rank}). The ranking at choice says whether it was a candidate, and by how much it lost.`;
  return state.run.sampling ? `It could have been drawn: ${chance} (${rank}).` : `Not the highest score: ${chance} (${rank}).`;
}

function nameOf(state, stage) {
  return shortName(state.run.processors[stage - 1]?.name ?? `processor ${stage}`);
}

function rankOf(scores, stage, column) {
  return 1 + scores.scores[stage].filter((value) => value > scores.scores[stage][column]).length;
}

function lowest(scores, cap) {
  const raw = Float32Array.from(scores.scores[0]).sort().reverse();
  return raw[Math.min(cap, raw.length) - 1];
}
