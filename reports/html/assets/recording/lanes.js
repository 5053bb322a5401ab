// Where the branches of a tree are drawn: a line for each run along its steps, that leaves the line of its parent.

import { h } from "../lib/dom.js";

const PROMPT = 0.06; // of the width; the steps share the rest

/**
 * The runs of a tree in the order of their lines, each after its parent, and how many steps they go. Of the branches of a run those that leave it
 * last come first, so that no line crosses another.
 */
export function placed(root, lastStep) {
  const rows = [];
  const add = (branch, parent, position, siblings) => {
    const row = { branch, parent, position, siblings, level: parent ? parent.level + 1 : 1, last: Math.max(lastStep(branch.number), branch.step) };
    rows.push(row);
    const inside = [...branch.branches].sort((a, b) => b.step - a.step || a.number - b.number);
    inside.forEach((each, index) => add(each, row, index + 1, inside.length));
  };
  add(root, null, 1, 1);
  const steps = Math.max(...rows.map((row) => row.last));
  const place = (step) => PROMPT + (1 - PROMPT) * ((step - 1) / steps);
  for (const row of rows) {
    row.from = row.parent ? place(row.branch.step) : 0;
    row.to = place(row.last + 1);
  }
  rows.forEach((row, index) => { row.index = index; });
  return { rows, steps };
}

/** The lines in one row: the run's own, and those that lead down to branches of it or of others. */
export function lane(row, rows) {
  const children = rows.filter((each) => each.parent === row);
  const first = Math.min(row.from, ...children.map((each) => each.from));
  return h("div", { class: "lane", "aria-hidden": "true" },
    first < row.from ? h("span", { class: "line given", style: span(first, row.from) }) : null,
    row.parent ? null : h("span", { class: "line prompt", style: span(0, PROMPT) }),
    pieces(row, children).map(({ from, to, runs }) => h("span", { class: "line", "data-to": runs.join(" "), style: span(from, to) })),
    rows.filter((each) => each.parent && each.parent.index <= row.index && row.index <= each.index).map((each) => h("span", {
      class: `down ${each.parent === row ? "leaves" : each === row ? "arrives" : ""}`, "data-to": numbers(each.branch).join(" "), style: { "--from": each.from },
    })),
    row.parent ? h("span", { class: "knot", "data-to": numbers(row.branch).join(" "), style: { "--from": row.from } }) : null);
}

/** A run's line, cut where branches leave it: each piece with the runs that pass through it. */
function pieces(row, children) {
  const cuts = [...new Set(children.map((each) => each.from).filter((at) => at > row.from))].sort((a, b) => a - b);
  const ends = [...cuts, row.to];
  return ends.map((to, index) => ({
    from: index ? ends[index - 1] : row.from,
    to,
    runs: [row.branch.number, ...children.filter((each) => each.from >= to).flatMap((each) => numbers(each.branch))],
  }));
}

/** A branch and all that branch off it. */
function numbers(branch) {
  return [branch.number, ...branch.branches.flatMap(numbers)];
}

function span(from, to) {
  return { "--from": from, "--to": to };
}
