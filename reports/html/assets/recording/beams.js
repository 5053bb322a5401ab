// The beams of a batch row over the steps: which goes on from which, and which come to nothing.

import { h, reveal, section } from "../lib/dom.js";
import { probability } from "../lib/format.js";

export const beams = {
  id: "beams",
  mount(main, state) {
    const { element, body } = section("beams", "Beams", "A column is a step, a line leads from each beam to those that go on from it. A click opens a beam at its step; ← → follow it.");
    main.append(element);
    const place = h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Beams over the steps" });
    body.append(place);
    let drawn = null;
    return {
      update(step) {
        const { run } = state;
        element.hidden = !run.beams;
        if (!run.beams) return;
        const first = Math.floor(step.row / run.beams.count) * run.beams.count;
        if (drawn !== `${run.number}/${first}`) {
          drawn = `${run.number}/${first}`;
          place.replaceChildren(tree(state, first));
        }
        mark(place, run, step);
      },
    };
  },
};

function tree(state, first) {
  const { run } = state;
  const living = survivors(run, first);
  const rows = Array.from({ length: run.beams.count }, (_, beam) => first + beam);
  const { groups, count } = run.beams;
  const names = groups > 1 ? Array.from({ length: groups }, (_, group) => h("div", { class: "beam-group", style: { "--beam": level(run, (group * count) / groups) - HEADING } }, h("span", { text: `group ${group}` }))) : [];
  const cells = Array.from(run.steps).flatMap((number, place) => rows.map((row) => cell(state, number, place, row, row - first, living.has(`${place}/${row}`))));
  return h("div", { class: "beam-tree", style: { "--steps": run.steps.length, "--beams": level(run, count - 1) + 1 } },
    names,
    Array.from(run.steps, (number, place) => h("span", { class: "beam-step", text: number, style: { "--at": place } })),
    Array.from(run.steps).flatMap((_, place) => (place ? rows.map((row) => line(run, place, row, first, living)) : [])), cells);
}

/** Height of a group's name, in rows. */
const HEADING = 0.8;

/** Where a beam stands from above, in rows: with its group's name, and those of the groups before, above it. */
function level({ beams: { groups, count } }, beam) {
  return groups > 1 ? beam + HEADING * (Math.floor((beam * groups) / count) + 1) : beam;
}

function inGroup({ beams: { groups, count } }, beam) {
  return groups > 1 ? `, group ${Math.floor((beam * groups) / count)}` : "";
}

/** Places and rows that lead to a sequence that was kept to the end; none of a run that did not come to it. */
function survivors(run, first) {
  const found = new Set();
  for (const each of run.beams.rows[first / run.beams.count] ?? []) {
    const place = (run.places.get(each.step) ?? 0) - (each.open ? 0 : 1);
    if (place < 0) continue;
    run.path(place, each.row).slice(0, place + 1).forEach((row, at) => found.add(`${at}/${row}`));
  }
  return found;
}

function cell(state, number, place, row, beam, alive) {
  const { run, tokens } = state;
  const id = run.figure("chosen", place, row);
  const ended = run.figure("finished", place, row);
  const p = run.figure("probability", place, row);
  const label = tokens.joined(id, run.history(place, run.figure("parents", place, row)).slice(-3));
  return h("button", {
    type: "button", class: `beam ${alive ? "alive" : ""} ${ended ? "ended" : ""}`, "data-at": `${place}/${row}`, text: ended ? "" : label,
    "aria-label": `step ${number}, row ${row}${inGroup(run, beam)}: ${ended ? `the ${run.beams.groups > 1 ? "group" : "batch row"} was done` : `${label}, probability ${probability(p)}${alive ? "" : ", comes to nothing"}`}`,
    style: { "--at": place, "--beam": level(run, beam) }, on: { click: () => state.go({ step: number, row }) },
  });
}

function line(run, place, row, first, living) {
  const from = run.figure("parents", place, row) - first;
  if (from < 0 || from >= run.beams.count || run.figure("finished", place, row)) return null;
  const alive = living.has(`${place}/${row}`) ? "alive" : "";
  return h("span", { class: `beam-line ${alive}`, "aria-hidden": "true", style: { "--at": place, "--from": level(run, from), "--beam": level(run, row - first) } });
}

function mark(place, run, step) {
  const path = run.path(step.place, step.row);
  for (const each of place.querySelectorAll(".beam")) {
    const [at, row] = each.dataset.at.split("/").map(Number);
    each.classList.toggle("path", path[at] === row);
    const current = at === step.place && row === step.row;
    each.setAttribute("aria-current", current ? "step" : "false");
    if (current) reveal(place, each);
  }
}
