// Tables of scores: what each processor did, and what is left.

import { h, table } from "../lib/dom.js";
import { bits, count, percent, plural, probability, score } from "../lib/format.js";
import { tokenButton } from "../lib/tokens.js";

const SHOWN = 12;

/** What each processor of a list did, one card each. */
export function stageCards(state, step, list) {
  const { scores } = step;
  const cards = state.run.processors.map((processor, index) => [processor, index + 1]).filter(([processor, stage]) => processor.list === list && stage < scores.stages);
  return h("ol", { class: "stage-cards" }, cards.map(([processor, stage]) => h("li", {},
    h("h4", {}, h("code", { text: processor.name }), processor.value ? h("span", { class: "setting", text: processor.value }) : null),
    processor.meaning ? h("p", { class: "meaning", text: processor.meaning }) : null,
    h("p", { class: "note fact", text: [
      `changed ${count(scores.changed[stage])}`, `removed ${count(scores.removed[stage])}` + (scores.removed[stage] ? ` with ${percent(scores.massRemoved[stage])} of the probability` : ""),
      `${plural(scores.kept[stage], "token")} left`, `entropy ${bits(scores.entropy[stage - 1])} → ${bits(scores.entropy[stage])}`].join(" · ") }),
    gone(state, scores, stage))));
}

function gone(state, scores, stage) {
  const recorded = Array.from(scores.tokens).filter((_, column) => scores.remover(column) === stage);
  const ids = [...new Set([...recorded, ...scores.removedTokens[stage]])];
  if (!ids.length) return null;
  const hidden = scores.removed[stage] - Math.min(ids.length, SHOWN);
  return h("p", { class: "tokens" }, h("span", { class: "label", text: "removed" }), ids.slice(0, SHOWN).map((id) => tokenButton(state, id, "gone")),
    hidden > 0 ? h("span", { class: "label", text: `and ${count(hidden)} more` }) : null);
}

/** The tokens with the highest scores before any processor, or the candidates with their probabilities. */
export function candidateTable(state, step, final) {
  const { scores } = step;
  const stage = final ? scores.stages - 1 : 0;
  const order = Array.from(scores.tokens.keys()).filter((column) => scores.scores[stage][column] > -Infinity && (!final || scores.probabilities[column] > 0))
    .sort((a, b) => scores.scores[stage][b] - scores.scores[stage][a]).slice(0, final ? 64 : SHOWN);
  const total = final ? scores.candidates : scores.kept[0];
  const rows = order.map((column, index) => h("tr", { class: scores.tokens[column] === scores.chosen ? "current" : null },
    h("td", { text: index + 1 }), h("td", {}, tokenButton(state, scores.tokens[column])), h("td", { text: scores.tokens[column] }), h("td", { text: score(scores.scores[0][column]) }),
    final ? [h("td", { text: score(scores.scores[stage][column]) }), h("td", { text: probability(scores.probabilities[column]) }), h("td", { class: "bar-cell" }, bar(scores.probabilities[column]))] : null));
  const columns = ["rank", "token", "id", state.run.first.one, ...(final ? ["score", "probability", ""] : [])];
  return h("div", {}, h("p", { class: "note fact", text: `${plural(total, final ? "candidate" : "token")} of ${count(state.run.vocabulary ?? total)}, entropy ${bits(scores.entropy[stage])}` }),
    table(final ? "Candidates" : `Highest ${state.run.first.many}`, columns, rows),
    total > order.length ? h("p", { class: "note explain", text: `${count(total - order.length)} more are not listed.` }) : null);
}

/** A bar whose length is a share of the whole. */
export function bar(share, classes = "") {
  return h("span", { class: `bar ${classes}`, "aria-hidden": "true", style: { "--share": Math.min(Math.max(share, 0), 1) } });
}
