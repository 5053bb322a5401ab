// The recording: runs, token labels, and the steps with their figures.

import { hasSection, openSection } from "../lib/data.js";
import { Tokens } from "../lib/labels.js";

const NO_TOKEN = -1;

/** Open the index, the labels and the overview of every run. */
export async function openRecording() {
  const [{ metadata: index }, { metadata: tokens }] = await Promise.all([openSection("index"), openSection("tokens")]);
  const runs = await Promise.all(index.runs.map(openRun));
  return { ...index, runs, tokens: new Tokens(tokens) };
}

async function openRun(entry) {
  const { arrays } = await openSection(`run${entry.number}-overview`);
  return new Run(entry, arrays);
}

/** One run: its entry in the index, its overview in columns, and its steps on demand. */
export class Run {
  constructor(entry, overview) {
    Object.assign(this, entry);
    this.overview = overview;
    this.steps = overview.steps.data;
    this.rows = entry.prompts.length;
    this.places = new Map(Array.from(this.steps, (number, place) => [number, place]));
  }

  /** One figure of the overview. */
  figure(name, place, row = 0) {
    const { data, shape } = this.overview[name];
    return data[shape.length > 1 ? place * shape[1] + row : place];
  }

  /** The step at a place, seen for one row. */
  async step(place, row) {
    const chunk = Math.floor(place / this.chunk);
    const name = `run${this.number}-steps${chunk}`;
    const { metadata, arrays } = await openSection(name);
    const index = place - chunk * this.chunk;
    return new Step(metadata[index], arrays, index, row, place);
  }

  /** Ids of a row up to a step by position, the prompt and its padding included; rows may have moved on the way. */
  history(place, row) {
    const rows = place ? this.path(place - 1, row).slice(0, place) : [];
    const first = place ? this.figure("parents", 0, rows[0]) : row;
    return [...Array(this.leading).fill(NO_TOKEN), ...this.prompts[first].ids, ...rows.flatMap((at, step) => this.appended?.[step] ?? [this.figure("chosen", step, at)])];
  }

  /** The rows, one after each step, of the sequence that is in a row after the step at a place; null once nothing continues it. */
  path(place, row) {
    const rows = Array(this.steps.length).fill(null);
    for (let step = place, at = row; step >= 0; at = this.figure("parents", step, at), step--) rows[step] = at;
    for (let step = place + 1, at = row; step < this.steps.length; step++) {
      const before = at;
      at = Array.from({ length: this.rows }, (_, each) => each).find((each) => this.figure("parents", step, each) === before);
      if (at === undefined) break;
      rows[step] = at;
    }
    return rows;
  }

  /** A section of the run's data; null where the run has none of this name. */
  section(name) {
    return hasSection(`run${this.number}-${name}`) ? openSection(`run${this.number}-${name}`) : null;
  }
}

/** One step, seen for one row of the batch. */
export class Step {
  constructor(entry, arrays, index, row, place) {
    Object.assign(this, entry);
    this.row = row;
    this.place = place;
    this.cards = entry.rows[row];
    this.scores = arrays.recorded.data[index] ? new Scores(arrays, index, row, entry.stages) : null;
  }
}

/** The score pipeline of one row: `scores[stage][column]`, columns in the order of final probability. */
export class Scores {
  constructor(arrays, index, row, stages) {
    const line = (name, ...at) => slice(arrays[name], index, ...at);
    const all = line("tokens", row);
    const width = all.indexOf(NO_TOKEN) < 0 ? all.length : all.indexOf(NO_TOKEN);
    const perStage = (name) => Array.from({ length: stages }, (_, stage) => line(name, stage, row));
    this.stages = stages;
    this.tokens = all.subarray(0, width);
    this.scores = perStage("scores").map((found) => found.subarray(0, width));
    this.probabilities = line("probabilities", row).subarray(0, width);
    this.removedTokens = perStage("removed_tokens").map((ids) => ids.filter((id) => id !== NO_TOKEN));
    for (const [name, as] of PER_STAGE) this[as] = perStage(name).map((found) => found[0]);
    for (const [name, as] of PER_ROW) this[as] = line(name, row)[0];
    this.column = new Map(Array.from(this.tokens, (id, column) => [id, column]));
  }

  /** The stage that removed a recorded token, 0 if none did. */
  remover(column) {
    for (let stage = 1; stage < this.stages; stage++) {
      if (this.scores[stage][column] === -Infinity && this.scores[stage - 1][column] > -Infinity) return stage;
    }
    return 0;
  }
}

const PER_STAGE = [
  ["kept", "kept"], ["changed", "changed"], ["removed", "removed"], ["mass_removed", "massRemoved"],
  ["entropy", "entropy"], ["chosen_rank", "chosenRank"], ["chosen_scores", "chosenScores"],
];
const PER_ROW = [
  ["candidates", "candidates"], ["chosen", "chosen"], ["chosen_probability", "chosenProbability"], ["finished", "finished"],
];

function slice({ shape, data }, ...at) {
  let size = data.length;
  let start = 0;
  at.forEach((index, axis) => {
    size /= shape[axis];
    start += index * size;
  });
  return data.subarray(start, start + size);
}
