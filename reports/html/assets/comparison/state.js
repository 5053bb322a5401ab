// Two compared runs, and where their reader is: which rows, and which step of them.

import { openSection } from "../lib/data.js";
import { Tokens } from "../lib/labels.js";
import { PageState, nearestStep } from "../lib/state.js";

const NO_TOKEN = -1;

/** Open the index, the labels and the steps of all rows. */
export async function openComparison() {
  const [{ metadata: index }, { metadata: tokens }] = await Promise.all([openSection("index"), openSection("tokens")]);
  const rows = await Promise.all(index.rows.map(async (entry, place) => new Rows(entry, (await openSection(`rows${place}`)).arrays)));
  return { ...index, rows, tokens: new Tokens(tokens) };
}

/** Two rows that are compared, their steps in columns. */
export class Rows {
  constructor(entry, columns) {
    Object.assign(this, entry);
    this.columns = columns;
    this.steps = columns.number.data;
    this.length = this.steps.length;
    this.places = new Map(Array.from(this.steps, (number, place) => [number, place]));
  }

  /** A figure of a step; NaN where it is not known. */
  figure(name, place) {
    return this.columns[name].data[place];
  }

  /** What run `a` or `b` chose; null where its row had ended. */
  token(side, place) {
    const id = this.figure(`token_${side}`, place);
    return id === NO_TOKEN ? null : id;
  }

  same(place) {
    return this.token("a", place) === this.token("b", place);
  }
}

export class State extends PageState {
  constructor(comparison) {
    super(comparison.tokens, { row: firstToPart(comparison.rows), step: 1 });
    this.comparison = comparison;
  }

  get rows() {
    return this.comparison.rows[this.at.row];
  }

  get steps() {
    return this.rows.steps;
  }

  get places() {
    return this.rows.places;
  }

  /** Go to the first differing token of the rows, else to their first step. */
  toParting() {
    this.go({ step: this.rows.parted ?? 1 });
  }

  nearest(at) {
    const row = Math.min(at.row, this.comparison.rows.length - 1);
    return { row, step: nearestStep(at.step, this.comparison.rows[row]) ?? 1 };
  }
}

/** Index of the rows that part first; 0 where none do. */
function firstToPart(rows) {
  const steps = rows.map((each) => each.parted ?? Infinity);
  return Math.max(steps.indexOf(Math.min(...steps)), 0);
}
