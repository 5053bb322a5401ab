// Where the reader is, and the address that says so.

/**
 * The place of the reader in a page; views are notified of every change.
 *
 * The state of a page adds `steps` (numbers of the steps), `places` (their indices by number) and `nearest(at)`.
 */
export class PageState {
  /** `tokens` are the labels of the page's tokens, `at` is the place to start from, in the order of the address. */
  constructor(tokens, at) {
    this.tokens = tokens;
    this.at = at;
    this.listeners = [];
  }

  /** Index of the current step among the steps. */
  get place() {
    return this.places.get(this.at.step) ?? 0;
  }

  /** Call `listener(state)` after every change. */
  onChange(listener) {
    this.listeners.push(listener);
  }

  /** Go somewhere; what is not named stays. Impossible places become the nearest possible ones. */
  go(to) {
    this.at = this.nearest({ ...this.at, ...to });
    showAddress(`#${new URLSearchParams(this.at)}`);
    for (const listener of this.listeners) listener(this);
  }

  /** Go some steps forward or back, at most to the first or the last one. */
  moveBy(distance) {
    const place = Math.min(Math.max(this.place + distance, 0), this.steps.length - 1);
    if (this.steps.length) this.go({ step: this.steps[place] });
  }

  /** Go where the address says. */
  read(hash) {
    const given = new URLSearchParams(hash.replace(/^#/, ""));
    const to = {};
    for (const [name, now] of Object.entries(this.at)) {
      const wanted = given.get(name) ?? "";
      if (typeof now === "string" && wanted) to[name] = wanted;
      if (typeof now === "number" && /^\d+$/.test(wanted)) to[name] = Number(wanted);
    }
    if (Object.keys(to).length) this.go(to);
  }
}

/** The step itself where there is one, else the last one before it or the first; undefined without steps. */
export function nearestStep(step, { steps, places }) {
  if (places.has(step)) return step;
  const last = steps.length - 1;
  return steps[step > (steps[last] ?? 0) ? last : 0];
}

function showAddress(hash) {
  try {
    history.replaceState(null, "", hash);
  } catch {
    // Inside a notebook's frame the address is not ours to change.
  }
}
