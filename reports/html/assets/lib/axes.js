// The axes of a heat map: a few labelled places, and what the lines and columns are.

import { h } from "./dom.js";

const MOST = 8;

/** An axis along `side`, "x" or "y". */
export function axis(side) {
  const name = h("span", { class: "name" });
  const places = h("span", { class: "places" });
  return {
    element: h("div", { class: `axis ${side}`, "aria-hidden": "true" }, name, places),
    /** Label some of `size` places: `what` says what they are, `of(place)` names one, only every `every`-th has a name. */
    draw(size, { what, of, every = 1 }) {
      name.textContent = what;
      const step = every * nice(size / every);
      const shown = Array.from({ length: Math.ceil(size / step) }, (_, index) => index * step);
      places.replaceChildren(...shown.map((place) => h("span", { text: of(place), style: { "--at": (place + every / 2) / size } })));
      this.element.style.setProperty("--longest", Math.max(0, ...shown.map((place) => of(place).length)));
    },
  };
}

/** Distance of the labelled places: 1, 2, 5, 10, …, so that there are few. */
function nice(size) {
  for (let step = 1; ; step *= 10) {
    for (const factor of [1, 2, 5]) if (size / (step * factor) <= MOST) return step * factor;
  }
}
