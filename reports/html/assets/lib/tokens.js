// A token on the screen: a button that can be followed.

import { h } from "./dom.js";

/** A token's text; hover or focus follows it, a click keeps following it. */
export function tokenButton(state, id, extra = "") {
  const { tokens } = state;
  return h("button", {
    type: "button",
    class: `token ${tokens.special(id) ? "special" : ""} ${extra}`,
    "data-token": id,
    title: `token ${id}`,
    text: tokens.label(id),
    on: {
      mouseenter: () => state.follow(id),
      mouseleave: () => state.follow(null),
      focus: () => state.follow(id),
      blur: () => state.follow(null),
      click: () => state.follow(id, { pin: true }),
    },
  });
}

/** A token's text with its number, to read only; `before` are the tokens that it follows, where they are known. */
export function tokenText(state, id, before = []) {
  const { tokens } = state;
  return h("span", { class: tokens.special(id) ? "token special" : "token", "data-token": id, title: `token ${id}`, text: tokens.joined(id, before) });
}
