// The run over its steps.

import { chart } from "../lib/chart.js";
import { h, section } from "../lib/dom.js";
import { bits, count, duration, probability } from "../lib/format.js";

export const overview = {
  id: "overview",
  mount(main, state) {
    const { element, body } = section("overview", "Overview", "The run over its steps; a click goes to a step.");
    main.append(element);
    const grid = h("div", { class: "charts" });
    body.append(grid);
    let drawn = null;
    let charts = [];
    return {
      update(step) {
        if (drawn !== `${state.run.number}/${step.row}`) {
          drawn = `${state.run.number}/${step.row}`;
          charts = FIGURES.map(([title, name, format, from]) => chart({
            title, format, from, pick: (place) => state.go({ step: state.run.steps[place] }),
            values: Float64Array.from(state.run.steps, (_, place) => (name !== "seconds" && state.run.figure("finished", place, step.row) ? NaN : state.run.figure(name, place, step.row))),
          }));
          grid.replaceChildren(...charts.map((each) => each.element));
        }
        for (const each of charts) each.at(step.place);
      },
    };
  },
};

const FIGURES = [
  ["Probability of the chosen token", "probability", probability, 0],
  ["Entropy of what was chosen from", "entropy", bits, 0],
  ["Candidates kept", "candidates", count, 0],
  ["Time of the step", "seconds", duration, 0],
];
