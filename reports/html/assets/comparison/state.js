// The two runs, which rows and which step of them are looked at, and the address that says so.

import { openSection } from "../lib/data.js";
import { Tokens } from "../lib/labels.js";

const NO_TOKEN = -1;

/** Open the index, the labels and the steps of all rows. */
export async function openComparison() {
  const [{ facts: index }, { facts: tokens }] = await Promise.all([openSection("index"), openSection("tokens")]);
  const rows = await Promise.all(index.rows.map(async (facts, place) => new Rows(facts, (await openSection(`rows${place}`)).arrays)));
  return { ...index, rows, tokens: new Tokens(tokens) };
}

/** Two rows that are compared, their steps in columns. */
export class Rows {
  constructor(facts, columns) {
    Object.assign(this, facts);
    this.columns = columns;
    this.length = columns.number.data.length;
    this.places = new Map(Array.from(columns.number.data, (number, place) => [number, place]));
  }

  number(place) {
    return this.columns.number.data[place];
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

/** Where the reader is; views are told about every change. */
export class State {
  constructor(comparison) {
    this.comparison = comparison;
    this.recording = comparison; // what shows a token looks for its labels here
    this.listeners = [];
    this.at = { row: firstToPart(comparison.rows), step: 1 };
  }

  get rows() {
    return this.comparison.rows[this.at.row];
  }

  /** Place of the step among the steps of the rows. */
  get place() {
    return this.rows.places.get(this.at.step) ?? 0;
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  /** Go somewhere; what is not named stays. Impossible places become the nearest possible ones. */
  go(to) {
    const wanted = { ...this.at, ...to };
    const row = Math.min(wanted.row, this.comparison.rows.length - 1);
    const { columns, places, length } = this.comparison.rows[row];
    const last = columns.number.data[length - 1] ?? 1;
    this.at = { row, step: places.has(wanted.step) ? wanted.step : wanted.step > last ? last : columns.number.data[0] ?? 1 };
    showAddress(`#row=${this.at.row}&step=${this.at.step}`);
    for (const listener of this.listeners) listener(this);
  }

  /** Go to the first differing token of the rows, else to their first step. */
  toParting() {
    this.go({ step: this.rows.parted ?? 1 });
  }

  /** Go where the address says. */
  read(hash) {
    const given = new URLSearchParams(hash.replace(/^#/, ""));
    const to = {};
    for (const name of ["row", "step"]) if (/^\d+$/.test(given.get(name) ?? "")) to[name] = Number(given.get(name));
    if (Object.keys(to).length) this.go(to);
  }
}

/** The rows that part first; the first ones where none do. */
function firstToPart(rows) {
  const steps = rows.map((each) => each.parted ?? Infinity);
  return Math.max(steps.indexOf(Math.min(...steps)), 0);
}

function showAddress(hash) {
  try {
    history.replaceState(null, "", hash);
  } catch {
    // Inside a notebook's frame the address is not ours to change.
  }
}
