// A line of Python in colours.

import { h } from "./dom.js";

const WORDS = "and as assert async await break class continue def del elif else except finally for from global if import in is lambda not or pass raise return try while with yield None True False self";
const KINDS = ["comment", "string", "number", "word"];
const PART = new RegExp(
  [
    "(#.*)", `([rbfu]{0,2}(?:"""|'''|"(?:[^"\\\\]|\\\\.)*"?|'(?:[^'\\\\]|\\\\.)*'?))`,
    "(?<![\\w.])(\\d[\\w.]*)", `(?<![\\w.])(${WORDS.replaceAll(" ", "|")})(?!\\w)`,
  ].join("|"), "g");

/** The parts of a line: texts, and elements of a class for what has a colour. */
export function coloured(line) {
  const parts = [];
  let end = 0;
  for (const found of line.matchAll(PART)) {
    parts.push(line.slice(end, found.index), h("span", { class: `py-${KINDS[found.slice(1).findIndex(Boolean)]}`, text: found[0] }));
    end = found.index + found[0].length;
  }
  return [...parts, line.slice(end)];
}
