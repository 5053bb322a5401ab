// The KV cache: norms of keys and values by layer, head and position, and how it grows.

import { chart } from "../lib/chart.js";
import { h, section, table } from "../lib/dom.js";
import { byteSize, count, plural, statistic } from "../lib/format.js";
import { heatMap } from "../lib/heat.js";

export const cache = {
  id: "cache",
  mount(main, state) {
    const { element, body } = section("cache", "KV cache", "Euclidean norms of the cached keys or values, one line a layer and KV head, one column a position.");
    main.append(element);
    let which = "key";
    let shown = null;
    const facts = h("p", { class: "note fact" });
    const choose = h("select", { "aria-label": "Keys or values", on: { change: (event) => { which = event.target.value; draw(); } } },
      h("option", { value: "key", text: "Keys" }), h("option", { value: "value", text: "Values" }));
    const map = heatMap({ label: "KV cache", outlined: "new in this step", describe: (line, column) => describe(state, shown, which, line, column) });
    const growth = h("div", { class: "charts" });
    const details = h("details", {}, h("summary", { text: "Norms of the newest slot as a table" }));
    body.append(h("div", { class: "row" }, choose, facts), map.element, growth, details);
    let drawn = null;
    let line = null;
    const draw = async () => {
      const step = shown.step;
      const found = await state.run.section("cache");
      if (shown.step !== step) return;
      shown.data = found;
      map.element.hidden = choose.hidden = details.hidden = !found;
      facts.textContent = summary(state, step, found);
      if (found) paint(map, details, state, shown, which);
    };
    return {
      update(step) {
        shown = { step };
        if (drawn !== state.run.number) {
          drawn = state.run.number;
          line = chart({ title: "Memory of the cache", format: byteSize, from: 0, values: Float64Array.from(state.run.steps, (_, place) => state.run.figure("cache_bytes", place)), pick: (place) => state.go({ step: state.run.steps[place] }) });
          growth.replaceChildren(line.element);
        }
        line.at(step.place);
        return draw();
      },
    };
  },
};

function paint(map, details, state, { step, data }, which) {
  const { slots, [which]: norms } = data.arrays;
  const [, layers, rows, heads] = norms.shape;
  const used = slots.data.findIndex((slot) => slot >= step.new[1]);
  const columns = used < 0 ? slots.data.length : used;
  const at = (slot, layer, head) => norms.data[((slot * layers + layer) * rows + step.row) * heads + head];
  map.draw(layers * heads, columns, (line, column) => at(column, Math.floor(line / heads), line % heads), { name: `${which} norm` });
  const first = slots.data.findIndex((slot) => slot >= step.new[0]);
  map.mark(first < 0 ? columns : first, columns - 1, `${which} norms of ${layers} layers with ${plural(heads, "KV head")} at ${plural(columns, "position")}; the new ones are outlined`);
  details.querySelector(".scroll")?.remove();
  const recorded = first >= 0 && first < columns;
  if (recorded) details.append(table("Norms of the newest slot", ["layer", ...Array.from({ length: heads }, (_, head) => `${which} head ${head}`)], Array.from({ length: layers }, (_, layer) =>
    [layer, ...Array.from({ length: heads }, (_, head) => statistic(at(columns - 1, layer, head)))])));
}

function describe(state, { step, data }, which, line, column) {
  const norms = data.arrays[which];
  const [, layers, rows, heads] = norms.shape;
  const slot = data.arrays.slots.data[column];
  const id = state.run.history(step.place, step.row)[slot];
  const value = norms.data[((column * layers + Math.floor(line / heads)) * rows + step.row) * heads + (line % heads)];
  return `position ${slot} ${id === undefined ? "" : state.recording.tokens.label(id)} · layer ${Math.floor(line / heads)}, KV head ${line % heads} · ${which} norm ${statistic(value)}`;
}

function summary(state, step, found) {
  const { run } = state;
  const [from, to] = step.new;
  const size = `${plural(run.figure("slots", step.place), "slot")} a layer, ${byteSize(run.figure("cache_bytes", step.place))} in all after this step`;
  const written = `cache_position ${to - from === 1 ? from : `${from}–${to - 1}`} is written`;
  const thinned = found && found.facts.stride > 1 ? `; to keep the page small, it holds the norms of one position in ${count(found.facts.stride)} only` : "";
  return `${size}; ${written}${found ? thinned : "; no norms were recorded"}`;
}
