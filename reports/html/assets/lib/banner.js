// A sentence that a reader has to see.

import { h } from "./dom.js";

const SIGNS = { error: "✕", warning: "!", ok: "✓" };

/** A sentence with the sign of its level: `error`, `warning` or `ok`. */
export function banner({ text, level }) {
  return h("p", { class: `banner ${level}` }, h("span", { class: "sign", "aria-hidden": "true", text: SIGNS[level] ?? "·" }), h("span", { text }));
}
