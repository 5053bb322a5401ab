// How a page starts, and the keys and addresses that it listens to.

import { focusStepField } from "./controls.js";
import { h } from "./dom.js";

/** Run a page's start function; if it fails, the page says so. `what` names the page. */
export function startPage(start, what) {
  start().catch((error) => {
    document.getElementById("main").replaceChildren(h("p", { class: "banner error", text: `${what} cannot be opened: ${error.message}` }));
  });
}

/** Follow the address, and act on keys: `keys[event.key](state)`. */
export function listen(state, keys) {
  addEventListener("hashchange", () => state.read(location.hash));
  addEventListener("keydown", (event) => pressed(event, state, keys));
  document.documentElement.dataset.ready = "true";
}

function pressed(event, state, keys) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest?.("input, select, textarea")) return;
  const act = event.key === "g" ? focusStepField : keys[event.key];
  if (!act || (event.shiftKey && event.key !== "/")) return; // some keyboards have the slash on a shifted key
  event.preventDefault();
  act(state);
}
