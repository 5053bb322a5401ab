// How the runs of the recording branch off one another: a tree that opens them, and the command that compares two.

import { compare } from "./compare.js";
import { h, reveal, section } from "../lib/dom.js";
import { lane, placed } from "./lanes.js";
import { tokenText } from "../lib/tokens.js";

export const branches = {
  mount(main, state) {
    if (!state.recording.branches.length) return;
    const { element, body } = section("branches", "Branches", "A line is a run along its steps; a fork leaves the line of its parent. A click, or Enter, opens a run where it is its own; ↑ ↓ move between them.");
    main.append(element);
    const trees = h("div", { class: "trees" });
    const comparison = compare(state);
    body.append(...[trees, comparison.element].filter(Boolean));
    let drawn = null;
    state.onChange(({ run, at }) => {
      if (drawn !== at.row) {
        drawn = at.row;
        trees.replaceChildren(...state.recording.branches[at.row].map((trunk, index) => tree(state, trunk, index)));
      }
      mark(trees, run.number);
      comparison.opened(run);
    });
  },
};

function tree(state, { prompt, run }, index) {
  const { rows, steps } = placed(run, (number) => lastStep(state, number));
  const items = rows.map((row) => item(state, row, rows));
  const name = `trunk-${index}`;
  return h("div", { class: "trunk" },
    h("div", { class: "branch head" }, h("p", { class: "steps", text: `steps 1–${steps}` }), h("p", { class: "prompt", id: name }, h("bdi", { text: prompt }))),
    h("div", { role: "tree", "aria-labelledby": name, on: { keydown: (event) => pressed(event, rows, items) } }, items));
}

function lastStep(state, number) {
  const { steps } = state.recording.runs.find((each) => each.number === number);
  return steps[steps.length - 1] ?? 0;
}

function item(state, row, rows) {
  const { number, step, origin, token, first, figures, text } = row.branch;
  return h("div", {
    role: "treeitem", class: "branch", tabindex: "-1", "data-run": number,
    "aria-level": row.level, "aria-posinset": row.position, "aria-setsize": row.siblings,
    on: { click: (event) => { event.currentTarget.focus(); state.go({ run: number, step }); }, focus: (event) => reachable(event.currentTarget) },
  },
  lane(row, rows),
  h("div", { class: "words" },
    h("p", { class: "title" }, h("strong", { text: `run ${number}` }), h("span", { class: "tag", text: "open" }), origin ? h("bdi", { text: origin }) : null),
    h("p", { class: "figures" }, first ? firstToken(state, token, first) : null, figures.map((each) => h("span", { text: each }))),
    h("p", { class: "first" }, h("bdi", { text: text || "no text known" }))));
}

/** The token with which a fork begins, and how probable it was. */
function firstToken(state, token, first) {
  return h("span", { class: "placed-first" }, token === null ? null : tokenText(state, token), h("span", { text: first }));
}

/** Mark the branch that is open, and the way to it from the prompt. */
function mark(trees, number) {
  for (const each of trees.querySelectorAll(".on-path")) each.classList.remove("on-path");
  for (const each of trees.querySelectorAll("[role='treeitem']")) {
    const open = each.dataset.run === String(number);
    each.setAttribute("aria-selected", String(open));
    if (!open) continue;
    for (const line of trees.querySelectorAll(`[data-to~="${number}"]`)) line.classList.add("on-path");
    reachable(each);
    reveal(trees, each);
  }
}

/** The one branch that Tab reaches; the arrow keys go on from it. */
function reachable(item) {
  for (const other of item.closest(".trees").querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
  item.tabIndex = 0;
}

const MOVES = {
  ArrowDown: (place) => place + 1,
  ArrowUp: (place) => place - 1,
  Home: () => 0,
  End: (place, rows) => rows.length - 1,
  ArrowLeft: (place, rows) => rows.indexOf(rows[place].parent),
  ArrowRight: (place, rows) => rows.findIndex((row) => row.parent === rows[place]),
};

function pressed(event, rows, items) {
  const opens = event.key === "Enter" || event.key === " ";
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !(opens || MOVES[event.key])) return;
  event.preventDefault();
  event.stopPropagation(); // the page's own keys move through the steps
  if (opens) event.target.click();
  else items[MOVES[event.key](items.indexOf(event.target), rows)]?.focus();
}
