// How far the modules are apart, layer by layer, in the steps in which the runs begin to differ.

import { h, section, table } from "../lib/dom.js";
import { fold } from "../lib/fold.js";

export const moduleDifferences = {
  mount(main, state) {
    const { element, body } = section("modules", "Modules", "Statistics of what the modules gave, in relation to the size of the values, in the order in which they returned.");
    main.append(element);
    const found = state.comparison.modules;
    body.append(...(found.length ? found.map(step) : [h("p", { class: "note", text: "Nothing differs, so there is no step to look at." })]));
  },
};

function step({ title, summary, decades, layers }) {
  const apart = layers.some((layer) => layer.worst);
  const [low, high] = decades;
  const scale = h("span", {}, `1e${low} to 1e${high}, logarithmic; `, h("span", { class: "tick", "aria-hidden": "true" }), " what is explained");
  return h("div", { class: "module-step" }, h("h3", { text: title }), h("p", { class: "note fact", text: summary }),
    apart ? table(title, ["layer", "module farthest apart", "what", "A", "B", "apart by", "relative", scale], layers.map(layerRow), { class: "gaps" }) : null);
}

function layerRow({ name, worst, gaps }) {
  if (!worst) return h("tr", { class: "same" }, h("td", { text: name }), h("td", { colspan: 7, text: "the same" }));
  const row = gapRow(name, worst);
  if (gaps.length > 1) fold(row, () => gaps.map((gap) => gapRow("", gap)));
  return row;
}

function gapRow(name, gap) {
  const within = !name ? gap.module : gap.module === name ? "itself" : gap.module.slice(name.length + 1);
  return h("tr", { class: `${name ? "" : "inner"} ${gap.beyond ? "beyond" : ""}` },
    h("td", { text: name }), h("td", { text: within }), h("td", { text: gap.quantity }), h("td", { text: gap.a }), h("td", { text: gap.b }),
    h("td", { text: gap.size }), h("td", { text: gap.relative }),
    h("td", { class: "bar-cell" }, h("span", { class: "bar gap", role: "img", "aria-label": `${gap.relative}, ${gap.beyond ? "more than" : "within what"} is explained`, style: { "--share": gap.share, "--allowed": gap.allowed } })));
}
