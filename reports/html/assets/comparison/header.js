// The header of a comparison: which runs, the verdict, and what differs in their headers.

import { banner } from "../lib/banner.js";
import { h, passage, table } from "../lib/dom.js";
import { plural } from "../lib/format.js";

export const header = {
  mount(state) {
    const { comparison } = state;
    const talk = h("div", { class: "texts" });
    document.getElementById("top").append(
      h("div", { class: "runs" }, comparison.runs.map((run, index) => runCard(run, "AB"[index]))),
      ...verdict(comparison.verdict),
      facts(comparison.verdict.facts),
      talk,
      headers(comparison.headers));
    let shown = null;
    state.onChange(({ rows, at }) => {
      if (shown === at.row) return;
      shown = at.row;
      talk.replaceChildren(...texts(rows));
    });
  },
};

function runCard(run, letter) {
  return h("div", { class: `run ${letter.toLowerCase()}` },
    h("p", { class: "source" }, h("span", { class: "letter", text: letter }), h("span", { text: run.name })),
    h("p", { class: "figures" }, [run.model, ...run.figures].map((text) => h("span", { text }))));
}

function verdict({ same, headline, explanation, steps, notes }) {
  return [
    h("h1", { class: same ? "same" : "apart", text: headline }),
    h("p", { class: "explanation", text: explanation }),
    h("p", { class: "note fact", text: steps }),
    h("div", { class: "banners" }, notes.map((text) => banner({ text, level: "warning" }))),
  ];
}

function facts(found) {
  if (!found.length) return h("p", { class: "note", text: "Before the first step the runs do not differ in anything that is recorded." });
  return h("div", { class: "before" }, h("h2", { text: "What differs before the first step" }),
    table("What differs before the first step", ["", "A", "B"], found.map(({ name, a, b }) => [name, a, b])));
}

/** One prompt where both are the same, and both answers. */
function texts({ prompts, answers, padding }) {
  const [ours, theirs] = prompts;
  const prompt = ours === theirs ? [passage("Prompt of both", ours, "prompt whole")] : [passage("Prompt of A", ours, "prompt"), passage("Prompt of B", theirs, "prompt")];
  const padded = padding.some((each) => each) ? h("p", { class: "note fact whole", text: `Padding at the left: ${plural(padding[0], "token")} in A, ${plural(padding[1], "token")} in B.` }) : null;
  return [...prompt, padded, passage("Answer of A", answers[0], "answer"), passage("Answer of B", answers[1], "answer")].filter(Boolean);
}

function headers(groups) {
  const all = groups.flatMap((group) => group.values);
  const differing = all.filter((each) => each.differs).length;
  return h("details", {}, h("summary", { text: `Model, settings, versions of both (${differing ? `different in ${differing} of ${plural(all.length, "fact")}` : "all the same"})` }),
    h("div", { class: "heads" }, groups.map(({ title, values }) => h("div", {}, h("h3", { text: title }),
      table(title, ["", "A", "B"], values.map(({ name, a, b, differs }) => h("tr", { class: differs ? "differs" : null },
        h("th", { scope: "row" }, differs ? h("span", { class: "flag", title: "differs", "aria-label": "differs", role: "img", text: "≠" }) : null, name), h("td", { text: a }), h("td", { text: b }))))))));
}
