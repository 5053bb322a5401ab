// Elements are made here and nowhere else: text goes in as text, never as markup.

/** An element. Attributes: `class`, `text`, `on: {event: handler}`, `style: {property: value}`, any other. */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") element.textContent = value;
    else if (key === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (key === "style") for (const [property, to] of Object.entries(value)) element.style.setProperty(property, to);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A table with a caption that only a screen reader reads, and cells that are texts or elements. */
export function table(caption, columns, rows, attributes = {}) {
  const cell = (kind, content) =>
    content instanceof Node ? (content.matches?.("td, th") ? content : h(kind, {}, content)) : h(kind, { text: content ?? "" });
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    h("table", attributes,
      h("caption", { class: "unseen", text: caption }),
      h("thead", {}, h("tr", {}, columns.map((column) => withScope(cell("th", column), "col")))),
      h("tbody", {}, rows.map((row) => (row instanceof Node ? row : h("tr", {}, row.map((each) => cell("td", each))))))));
}

function withScope(element, scope) {
  element.setAttribute("scope", scope);
  return element;
}

/** A titled text of several lines: a prompt or an answer; null where it is not recorded. */
export function passage(title, text, kind) {
  return h("div", { class: kind }, h("h2", { text: title }),
    h("pre", { tabindex: "0", "aria-label": title, text: text ?? "The text is not in this report." }));
}

/** A section of the page with its heading; `body` is what a view fills. */
export function section(id, title, hint) {
  const body = h("div", { class: "body" });
  const element = h("section", { id, "aria-labelledby": `${id}-title`, tabindex: "-1" },
    h("div", { class: "heading" }, h("h2", { id: `${id}-title`, text: title }), hint ? h("p", { class: "hint", text: hint }) : null),
    body);
  return { element, body };
}

/** Scroll a box so that an item in it is in sight, without moving the page. */
export function reveal(box, item) {
  const outside = box.getBoundingClientRect(), inside = item.getBoundingClientRect();
  box.scrollLeft += outOfSight(inside.left - outside.left, inside.right - outside.right);
  box.scrollTop += outOfSight(inside.top - outside.top, inside.bottom - outside.bottom);
}

/** By how much something is to move, of which so much is hidden before (negative) or behind (positive). */
function outOfSight(before, behind) {
  return before < 0 ? before : Math.max(0, behind);
}
