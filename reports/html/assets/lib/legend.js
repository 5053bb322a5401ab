// Scales of colour, and the legend that makes one readable.

import { h } from "./dom.js";
import { count, statistic } from "./format.js";

/** From 0 to 1 by square root, so that small shares can be told apart. */
export const SHARES = { share: (value) => Math.sqrt(Math.min(Math.max(value, 0), 1)), ticks: [[0, "0"], [0.01, "0.01"], [0.1, "0.1"], [0.3, "0.3"], [0.6, "0.6"], [1, "1"]] };

/** Ranks by their logarithm, rank 1 the strongest. */
export function ranks(last) {
  const share = (rank) => (last > 1 ? 1 - Math.log(Math.min(Math.max(rank, 1), last)) / Math.log(last) : 1);
  const ticks = [];
  for (let rank = 1; rank <= last; rank *= 10) ticks.unshift([rank, count(rank)]);
  return { share, ticks };
}

/** The usual range of some values: a few extreme ones must not wash out all others. `all` are drawn, and may lie outside. */
export function usual(values, { format = statistic, all = values } = {}) {
  const sorted = Float64Array.from(values).filter(Number.isFinite).sort();
  if (!sorted.length) return { share: () => 0, ticks: [] };
  const [least, most] = [sorted[Math.floor(sorted.length * 0.02)], sorted[Math.ceil(sorted.length * 0.98) - 1]];
  if (!(most > least)) return { share: () => 0.5, ticks: [[least, format(least)]] };
  const below = all.some((value) => Number.isFinite(value) && value < least) ? "≤ " : "";
  const above = all.some((value) => Number.isFinite(value) && value > most) ? "≥ " : "";
  return {
    share: (value) => Math.min(Math.max((value - least) / (most - least), 0), 1),
    ticks: [[least, below + format(least)], [(least + most) / 2, format((least + most) / 2)], [most, above + format(most)]],
  };
}

/** Shares of a range that differs from column to column. */
export const OWN = { share: (value) => Math.min(Math.max(value, 0), 1), ticks: [[0, "lowest"], [1, "highest"]] };

/** The legend of a heat map; `outlined` says what its outline marks. */
export function legend(outlined) {
  const what = h("span", { class: "what" });
  const ticks = h("span", { class: "ticks" });
  const ramp = h("span", { class: "scale" }, h("span", { class: "ramp", "aria-hidden": "true" }), ticks);
  const keys = { bad: key("bad", "not finite"), hole: key("hole", "no value"), mark: key("mark", outlined) };
  return {
    element: h("p", { class: "colours", role: "group", "aria-label": "Colour scale" }, what, ramp, Object.values(keys)),
    /** Say what the colours mean, and which other signs there are. */
    draw(name, { share, ticks: values }, { bad, hole }) {
      what.textContent = name;
      ramp.hidden = !values.length;
      ticks.replaceChildren(...values.map(([value, text]) => h("span", { text, style: { "--at": share(value) } })));
      keys.bad.hidden = !bad;
      keys.hole.hidden = !hole;
    },
    marked(any) { keys.mark.hidden = !any; },
  };
}

function key(kind, text) {
  return h("span", { class: "key", hidden: true }, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), h("span", { text }));
}
