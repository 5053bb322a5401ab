// Two branches side by side: the command that writes their page.

import { picker } from "../lib/controls.js";
import { h } from "../lib/dom.js";

/** A choice of two runs, and the command that compares them. */
export function compare(state) {
  const sides = sidesOf(state.recording);
  if (sides.length < 2) return { element: null, opened() {} };
  const chosen = [0, 1];
  let shown = null;
  const command = h("code", { tabindex: "0", "aria-label": "Command that compares the two" });
  const said = h("span", { class: "meaning", role: "status" });
  const draw = () => {
    command.textContent = commandOf(...chosen.map((side) => sides[side]));
    said.textContent = "";
  };
  const pickers = ["First", "Second"].map((which, place) => picker(`${which} run to compare`, sides.map((_, index) => index), chosen[place], (to) => { chosen[place] = to; draw(); }, (index) => sides[index].name));
  draw();
  return {
    element: h("div", { class: "compare" },
      h("p", { class: "row" }, h("strong", { text: "Side by side" }), pickers, h("button", { type: "button", text: "Copy", on: { click: async () => { said.textContent = await copied(command); } } }), said),
      h("pre", {}, command),
      h("p", { class: "hint", text: "This command, in the folder of the trace, writes a page of both: their tokens step by step, and where and why they part." })),
    /** A fork that is opened is compared with its parent. */
    opened(run) {
      if (shown === run.number) return;
      shown = run.number;
      const parent = sides.findIndex((side) => isParent(side, run, state.recording.file));
      const own = sides.findIndex((side) => side.run === run.number && side.file === state.recording.file);
      if (parent < 0) return;
      chosen.splice(0, 2, parent, own);
      pickers.forEach((each, place) => { each.value = chosen[place]; });
      draw();
    },
  };
}

/** The runs of the page, and the runs of other files that they branch off. */
function sidesOf({ runs, file, redacted }) {
  const here = runs.map((run) => ({ name: `run ${run.number}`, run: run.number, file }));
  const there = redacted ? [] : runs.filter((run) => run.fork?.elsewhere).map(({ fork }) => ({ name: `run ${fork.run} of ${fork.elsewhere}`, run: fork.run, file: fork.elsewhere }));
  return [...here, ...there.filter((side, index) => there.findIndex((other) => other.name === side.name) === index)];
}

function isParent(side, { fork }, own) {
  return Boolean(fork) && side.run === fork.run && side.file === (fork.elsewhere ?? own);
}

function commandOf(a, b) {
  return `trace-generate diff ${a.file} ${b.file} --run-a ${a.run} --run-b ${b.run} --html diff-${a.run}-${b.run}.html`;
}

/** Copy the text of an element; where the browser does not let a page do that, select it. */
async function copied(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return "copied";
  } catch {
    getSelection().selectAllChildren(element);
    return "selected, to be copied with the keyboard";
  }
}
