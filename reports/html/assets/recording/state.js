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
