// The score pipeline: the top tokens from raw logits to probabilities, stage by stage.

import { h, section } from "../lib/dom.js";
import { bits, count, percent, plural, probability, score, shortName } from "../lib/format.js";
import { bar } from "./scores.js";
import { tokenButton } from "../lib/tokens.js";
import { trailOf } from "./trail.js";
import { whySearch } from "./why.js";

const FEW = 14;

export const pipeline = {
  id: "pipeline",
  mount(main, state) {
    const { element, body } = section("pipeline", "Logits pipeline", "From the first scores to the choice. A bar is a token's odds against the best token of the stage; in the last column, its probability. A click on a token keeps following it through the steps.");
    main.append(element);
    let all = false;
    const place = h("div", {});
    const more = h("button", { type: "button", class: "quiet", on: { click: () => { all = !all; draw(); } } });
    const why = whySearch(state);
    body.append(why.element, place, more, trailOf(state));
    let shown = null;
    const draw = () => {
      const { scores } = shown;
      more.hidden = !scores || scores.tokens.length <= FEW;
      if (!scores) {
        place.replaceChildren(h("p", { class: "note", text: "The scores of this step were not recorded." }));
        return;
      }
      more.textContent = all ? "Show the top tokens only" : `Show all ${scores.tokens.length} recorded tokens`;
      place.replaceChildren(grid(state, shown, all));
      highlight(state.followed);
    };
    const highlight = (id) => {
      for (const row of place.querySelectorAll("tr[data-row]")) row.classList.toggle("followed", id !== null && row.dataset.row === String(id));
    };
    state.onFollow(highlight);
    return { update(step) { shown = step; draw(); why.update(step); } };
  },
};

/** The columns to show: the best at the end, the best at the start, the choice, and what processors moved most. */
export function shownColumns(scores, few) {
  const raw = Array.from(scores.tokens.keys()).sort((a, b) => scores.scores[0][b] - scores.scores[0][a]);
  const chosen = scores.column.get(scores.chosen);
  const found = new Set(Array.from(scores.tokens.keys()).filter((column) => scores.probabilities[column] > 0).slice(0, few - 4));
  if (chosen !== undefined) found.add(chosen);
  for (const column of raw) if (found.size < few) found.add(column);
  return [...found].sort((a, b) => a - b);
}

function grid(state, step, all) {
  const { scores } = step;
  const columns = all ? Array.from(scores.tokens.keys()) : shownColumns(scores, FEW);
  const best = scores.scores.map((stage) => stage.reduce((a, b) => Math.max(a, b), -Infinity));
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Logits pipeline" }, h("table", { class: "pipeline" },
    h("caption", { class: "unseen", text: `Scores of the top tokens of step ${step.number} at every stage` }),
    h("thead", {}, h("tr", {}, h("th", { scope: "col", text: "token" }), Array.from({ length: scores.stages }, (_, stage) => stageHead(state, scores, stage)),
      h("th", { scope: "col", class: "stage" }, h("span", { class: "name", text: "softmax" }), h("span", { class: "figure", text: plural(scores.candidates, "candidate") }), h("span", { class: "figure", text: bits(scores.entropy[scores.stages - 1]) })))),
    h("tbody", {}, columns.map((column) => line(state, scores, column, best)))));
}

function stageHead(state, scores, stage) {
  const processor = state.run.processors[stage - 1];
  const lost = scores.removed[stage];
  return h("th", { scope: "col", class: "stage" },
    h("span", { class: "name", title: processor?.meaning ?? "", text: processor ? shortName(processor.name) : state.run.first.many }),
    h("span", { class: "setting", text: processor?.value ?? "" }),
    h("span", { class: "figure", text: `${count(scores.kept[stage])} kept` }),
    h("span", { class: lost ? "figure lost" : "figure", text: !stage ? "" : lost ? `−${count(lost)}, ${percent(scores.massRemoved[stage])} of the mass` : scores.changed[stage] ? `${count(scores.changed[stage])} changed` : "no change" }),
    h("span", { class: "figure", text: bits(scores.entropy[stage]) }));
}

function line(state, scores, column, best) {
  const id = scores.tokens[column];
  const gone = scores.remover(column);
  const cells = Array.from({ length: scores.stages }, (_, stage) => {
    const value = scores.scores[stage][column];
    if (gone && stage >= gone) return h("td", { class: "removed" }, stage === gone ? h("span", { text: `✕ ${shortName(state.run.processors[stage - 1]?.name ?? "")}` }) : null);
    return h("td", {}, bar(Math.exp(value - best[stage])), h("span", { class: "figure", text: score(value) }));
  });
  const p = scores.probabilities[column];
  return h("tr", { class: `${gone ? "gone" : ""} ${id === scores.chosen ? "chosen" : ""}`, "data-row": id },
    h("th", { scope: "row" }, tokenButton(state, id), id === scores.chosen ? h("span", { class: "tag", text: "chosen" }) : null),
    cells, h("td", { class: "last" }, gone ? null : [bar(p), h("span", { class: "figure", text: probability(p) })]));
}
