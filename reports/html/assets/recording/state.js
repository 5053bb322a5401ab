// What is being looked at, and the address that says so.

/** Where the reader is; views are told about every change. */
export class State {
  constructor(recording) {
    this.recording = recording;
    this.listeners = [];
    this.at = { run: recording.runs[0].number, step: 1, stop: "model-call", row: 0 };
    this.followed = null;
    this.pinned = false;
    this.whatToFollow = [];
  }

  get run() {
    return this.recording.runs.find((run) => run.number === this.at.run);
  }

  /** Place of the step among the run's steps. */
  get place() {
    return this.run.places.get(this.at.step) ?? 0;
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  onFollow(listener) {
    this.whatToFollow.push(listener);
  }

  /** Go somewhere; what is not named stays. Impossible places become the nearest possible ones. */
  go(to) {
    this.at = this.possible({ ...this.at, ...to });
    showAddress(address(this.at));
    for (const listener of this.listeners) listener(this);
  }

  /** Follow a token across stages and steps; null follows none. A pinned token stays until another is pinned. */
  follow(id, { pin = false } = {}) {
    if (this.pinned && !pin) return;
    this.pinned = pin && !(this.pinned && this.followed === id);
    this.followed = pin && !this.pinned ? null : id;
    for (const listener of this.whatToFollow) listener(this.followed, this.pinned);
  }

  /** Go where the address says. */
  read(hash) {
    const given = new URLSearchParams(hash.replace(/^#/, ""));
    const to = {};
    for (const name of ["run", "step", "row"]) if (/^\d+$/.test(given.get(name) ?? "")) to[name] = Number(given.get(name));
    if (given.get("stop")) to.stop = given.get("stop");
    if (Object.keys(to).length) this.go(to);
  }

  possible(at) {
    const run = this.recording.runs.find((each) => each.number === at.run) ?? this.recording.runs[0];
    const last = run.steps.length - 1;
    const nearest = run.places.has(at.step) ? at.step : run.steps[at.step > (run.steps[last] ?? 0) ? last : 0];
    return {
      run: run.number,
      step: nearest ?? 0,
      stop: run.stops.some((stop) => stop.name === at.stop) ? at.stop : "model-call",
      row: Math.min(at.row, run.rows - 1),
    };
  }
}

export function address({ run, step, stop, row }) {
  return `#run=${run}&step=${step}&stop=${stop}&row=${row}`;
}

function showAddress(hash) {
  try {
    history.replaceState(null, "", hash);
  } catch {
    // Inside a notebook's frame the address is not ours to change.
  }
}
