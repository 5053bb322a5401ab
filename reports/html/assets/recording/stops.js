// The step as a debugger shows it: its stops on the left, source and variables of one of them on the right.

import { h, section, table } from "../lib/dom.js";
import { count, plural, probability, score } from "../lib/format.js";
import { coloured } from "../lib/python.js";
import { banner } from "../lib/banner.js";
import { figureTable } from "./figures.js";
import { candidateTable, stageCards } from "./scores.js";
import { tokenText } from "../lib/tokens.js";

const [HEAD, TAIL, FEWEST] = [48, 12, 12];

export const stops = {
  id: "step",
  mount(main, state) {
    const { element, body } = section("step", "Step", "← → steps, g any step, j k stops, Home End first and last");
    main.append(element);
    const list = h("ol", { class: "stops", "aria-label": "Stops of the step" });
    const pane = h("article", { class: "pane", "aria-live": "off" });
    const alerts = h("div", { class: "banners" });
    body.append(alerts, h("div", { class: "debugger" }, list, pane));
    const title = element.querySelector("h2");
    return {
      update(step) {
        title.textContent = `Step ${count(step.number)}, ${step.number === 1 ? "prefill" : "decode"}`;
        alerts.replaceChildren(...step.alerts.map(banner));
        // A line that only the first step comes to is none of later ones.
        const stops = state.run.stops.map((stop) => (stop.first && step.number > 1 ? { ...stop, anchor: null } : stop));
        list.replaceChildren(...stops.map((stop, index) => item(state, stop, index + 1, step.cards[index])));
        const place = stops.findIndex((stop) => stop.name === state.at.stop);
        pane.replaceChildren(...card(state, step, stops[place], place + 1, step.cards[place]));
      },
    };
  },
};

/** The next stop, or the one before. */
export function moveStop(state, distance) {
  const names = state.run.stops.map((stop) => stop.name);
  const place = Math.min(Math.max(names.indexOf(state.at.stop) + distance, 0), names.length - 1);
  state.go({ stop: names[place] });
  document.querySelector(".stops [aria-current]")?.scrollIntoView({ block: "nearest" });
}

function item(state, { name, title, anchor }, number, { blocks, skipped }) {
  const variables = blocks.filter((block) => block.kind === "variables").flatMap((block) => block.rows);
  const bad = blocks.some((block) => block.level === "error");
  const current = name === state.at.stop;
  return h("li", {}, h("button", {
    type: "button", class: `stop ${skipped ? "skipped" : ""}`, "aria-current": current ? "step" : null,
    on: { click: () => state.go({ stop: name }) },
  },
  h("span", { class: "number", text: number }),
  h("span", { class: "title", text: title }),
  bad ? h("span", { class: "flag bad", title: "a check failed or recording failed", text: "✕" }) : null,
  variables.some((variable) => variable.changed) ? h("span", { class: "flag", title: "changed since the step before", text: "●" }) : null,
  h("span", { class: "place", text: anchor ? `${anchor.file.split("/").pop()}:${anchor.line}` : skipped ? "skipped" : name === "layers" ? "every module" : "no line of this step" })));
}

function card(state, step, { title, anchor }, number, { blocks }) {
  return [
    h("h3", { text: `${number} · ${title}` }),
    anchor ? source(anchor) : null,
    ...blocks.map((block) => DRAW[block.kind](state, step, block)),
  ].filter(Boolean);
}

function source({ file, line, start, excerpt }) {
  return h("figure", { class: "source-code" },
    h("figcaption", { text: `${file}:${line}` }),
    h("pre", { tabindex: "0", "aria-label": `Source, ${file} around line ${line}` }, excerpt.map((text, index) =>
      h("span", { class: start + index === line ? "code current" : "code", "aria-current": start + index === line ? "location" : null },
        h("span", { class: "line", text: start + index }), h("code", {}, coloured(text), "\n")))));
}

const DRAW = {
  note: (state, step, { text, level }) => (level === "explain" || level === "fact" ? h("p", { class: `note ${level}`, text }) : banner({ text, level })),
  variables: (state, step, { title, rows }) => h("div", { class: "variables" }, title ? h("h4", { text: title }) : null,
    table(title ?? "Variables", ["name", "shape", "dtype", "device", "value"], rows.map(variable))),
  tokens: (state, step, { title, ids, start }) => h("div", {}, h("h4", { text: title }), strip(state, ids, start)),
  layers: () => h("p", { class: "note fact", text: "Their shapes and statistics are under Layers, before those of the candidates." }),
  cache: (state, step, block) => cache(block),
  criteria: (state, step, { batch, fired }) => table("Stopping criteria", ["criterion", "settings", "answer"], state.run.criteria.map((criterion, index) => [
    criterion.name, criterion.value, answer(fired[index] ?? [], batch)])),
  stages: (state, step) => stageCards(state, step, state.at.stop === "warpers" ? "logits_warper" : "logits_processor"),
  candidates: (state, step, block) => candidateTable(state, step, block.title === "candidates"),
  choice: (state, step) => choice(state, step),
  figures: (state, step, block) => figureTable(state, block),
  others: (state, step, { columns, rows }) => table("Other rows", ["row", ...columns], rows),
};

/** Tokens with their positions; of many the middle is left out until it is asked for. */
function strip(state, ids, start) {
  const placed = (from, to) => Array.from({ length: to - from }, (_, index) => from + index).map((index) =>
    h("span", { class: "placed" }, h("span", { class: "position", text: start + index }), tokenText(state, ids[index], ids.slice(Math.max(0, index - 3), index))));
  const hidden = ids.length - HEAD - TAIL;
  if (hidden < FEWEST) return h("p", { class: "tokens" }, placed(0, ids.length));
  const more = h("button", { type: "button", class: "quiet more", text: `${count(hidden)} more tokens`, on: { click: () => more.replaceWith(...placed(HEAD, ids.length - TAIL)) } });
  return h("p", { class: "tokens" }, placed(0, HEAD), more, placed(ids.length - TAIL, ids.length));
}

function variable({ name, tensor, value, meaning, changed }) {
  const [shape, dtype, device] = tensor ?? ["", "", ""];
  return h("tr", { class: changed ? "changed" : null },
    h("td", { class: "name" }, changed ? h("span", { class: "flag", title: "changed since the step before", text: "●", role: "img", "aria-label": "changed" }) : null, h("code", { text: name }),
      meaning ? h("span", { class: "meaning", text: meaning }) : null),
    h("td", {}, h("code", { text: shape })), h("td", { text: dtype }), h("td", { text: device }), h("td", { class: "values" }, h("code", { text: value ?? "" })));
}

function cache({ title, cache: kind, slots, bytes, rows }) {
  const size = h("p", { class: "note fact", text: slots ? `${kind}: ${plural(slots, "slot")} a layer, ${bytes} in all` : `${kind}: empty` });
  return h("div", {}, h("h4", { text: title }), size, rows.length ? table(title, ["layers", "keys", "values", "dtype", "device", "a layer"],
    rows.map(({ layers, key, value, bytes: size }) => [layers, h("code", { text: key[0] }), h("code", { text: value[0] }), key[1], key[2], size])) : null);
}

function answer(fired, batch) {
  if (!fired.length) return "no";
  return batch === 1 ? h("strong", { text: "stop" }) : h("strong", { text: `stop for row ${fired.join(", ")}` });
}

function choice(state, step) {
  const { run } = state;
  const rows = Array.from({ length: run.rows }, (_, row) => {
    const ended = run.figure("finished", step.place, row);
    return h("tr", { class: row === step.row && run.rows > 1 ? "current" : null },
      h("td", { text: row }), h("td", {}, tokenText(state, run.figure("chosen", step.place, row), run.history(step.place, row))),
      h("td", { text: run.figure("chosen", step.place, row) }),
      h("td", { text: ended ? "the row had ended" : probability(run.figure("probability", step.place, row)) }),
      h("td", { text: ended ? "" : count(run.figure("rank", step.place, row)) }),
      h("td", { text: ended ? "" : count(run.figure("candidates", step.place, row)) }));
  });
  const chosen = step.scores;
  const pipeline = chosen ? h("p", { class: "note fact", text: `score ${chosen.chosenScores.map((value) => score(value)).join(" → ")}; rank ${chosen.chosenRank.map(count).join(" → ")}` }) : null;
  return h("div", {}, table("Choice", ["row", "token", "id", "probability", "rank", "candidates"], rows), pipeline);
}

