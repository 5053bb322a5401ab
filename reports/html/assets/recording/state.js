// Where the reader of a recording is: run, step, stop and row, and the token that is followed.

import { PageState, nearestStep } from "../lib/state.js";

export class State extends PageState {
  constructor(recording) {
    super(recording.tokens, { run: recording.runs[0].number, step: 1, stop: "model-call", row: 0 });
    this.recording = recording;
    this.followed = null;
    this.pinned = false;
    this.followListeners = [];
  }

  get run() {
    return this.recording.runs.find((run) => run.number === this.at.run);
  }

  get steps() {
    return this.run.steps;
  }

  get places() {
    return this.run.places;
  }

  /** Go some steps forward or back along the sequence of the row, which may be in other rows there. */
  moveBy(distance) {
    const place = Math.min(Math.max(this.place + distance, 0), this.steps.length - 1);
    if (!this.steps.length) return;
    const row = this.run.beams ? this.run.path(this.place, this.at.row)[place] : this.at.row;
    this.go({ step: this.steps[place], row: row ?? this.at.row });
  }

  /** Whether a step of a run is still to be shown: the reader may have gone on while its data was opened. */
  shows(run, step) {
    return this.run === run && this.at.step === step.number && this.at.row === step.row;
  }

  /** Call `listener(id, pinned)` when another token or none is followed. */
  onFollow(listener) {
    this.followListeners.push(listener);
  }

  /** Follow a token across stages and steps; null follows none. A pinned token stays until another is pinned. */
  follow(id, { pin = false } = {}) {
    if (this.pinned && !pin) return;
    this.pinned = pin && !(this.pinned && this.followed === id);
    this.followed = pin && !this.pinned ? null : id;
    for (const listener of this.followListeners) listener(this.followed, this.pinned);
  }

  nearest(at) {
    const run = this.recording.runs.find((each) => each.number === at.run) ?? this.recording.runs[0];
    return {
      run: run.number,
      step: nearestStep(at.step, run) ?? 0,
      stop: run.stops.some((stop) => stop.name === at.stop) ? at.stop : "model-call",
      row: Math.min(at.row, run.rows - 1),
    };
  }
}
