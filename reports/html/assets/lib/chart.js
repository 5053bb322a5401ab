// A line over the steps, drawn as SVG; a click goes to the step.

import { h, svg } from "./dom.js";
import { range } from "./heat.js";

const [WIDTH, HEIGHT] = [600, 90];

/** A chart of one figure over the steps; with `second` of the same figure of another run, as a dashed line. */
export function chart({ title, values, second, format, pick, from }) {
  const series = second ? [values, second] : [values];
  const finite = series.flatMap((each) => Array.from(each)).filter(Number.isFinite);
  const [least, most] = finite.length ? range(finite) : [0, 1];
  const low = from ?? least;
  const x = (index) => (values.length > 1 ? (index / (values.length - 1)) * WIDTH : WIDTH / 2);
  const y = (value) => HEIGHT - 4 - ((value - low) / (most - low || 1)) * (HEIGHT - 8);
  const cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT });
  const dot = svg("circle", { class: "dot", r: 3.5 });
  const now = h("output", { class: "now" });
  const summary = finite.length ? `from ${format(least)} to ${format(most)} over ${values.length} steps` : "not recorded";
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${summary}` },
    series.map((each, index) => svg("path", { class: index ? "curve second" : "curve", d: path(each, x, y) })), cursor, dot);
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    pick(Math.round(((event.clientX - box.left) / box.width) * (values.length - 1)));
  });
  return {
    element: h("figure", { class: "chart" }, h("figcaption", {}, h("span", { class: "name", text: title }), now, h("span", { class: "span", text: summary })), picture),
    /** Show where the reader is. */
    at(place) {
      const value = values[place];
      for (const side of ["x1", "x2"]) cursor.setAttribute(side, x(place));
      dot.setAttribute("cx", x(place));
      dot.setAttribute("cy", Number.isFinite(value) ? y(value) : -10);
      now.textContent = series.map((each) => (Number.isFinite(each[place]) ? format(each[place]) : "not recorded")).join(" / ");
    },
  };
}

/** A line through the finite values; it breaks where there is none. */
function path(values, x, y) {
  let line = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (!Number.isFinite(value)) { pen = "M"; return; }
    line += `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  return line;
}
