// Texts of the tokens that a page mentions.

/** Labels of the tokens. */
export class Tokens {
  constructor({ ids, labels, special, bytes }) {
    this.labels = new Map(ids.map((id, i) => [id, labels[i]]));
    this.specials = new Set(special);
    this.bytes = new Map(Object.entries(bytes).map(([id, text]) => [Number(id), text.match(/../g).map((pair) => parseInt(pair, 16))]));
  }

  /** The token's text with everything invisible made visible; its number where the text is not known. */
  label(id) {
    if (id < 0) return "–"; // none was chosen
    return this.labels.get(id) || `#${id}`;
  }

  /** The label of a token in a sequence, with the character that it completes together with the tokens `before` it. */
  joined(id, before) {
    const found = this.bytes.get(id);
    let open = [];
    if (found) for (const each of before.slice(-3)) open = this.bytes.has(each) ? unfinished([...open, ...this.bytes.get(each)]) : [];
    if (!open.length) return this.label(id);
    const whole = [...open, ...found];
    const text = decoded(whole.slice(0, whole.length - unfinished(whole).length));
    return text ? `${this.label(id)}→${text}` : this.label(id);
  }

  special(id) {
    return this.specials.has(id);
  }

  /** Ids whose number or text matches, the closest first; among equally close ones those of an earlier group. */
  find(text, groups) {
    const found = new Map();
    groups.forEach((ids, group) => {
      for (const id of ids) {
        const label = this.label(id);
        const distance = found.has(id) ? Infinity : distanceOf(text, id, label);
        if (distance < Infinity) found.set(id, [distance, group, label.length, id]);
      }
    });
    return Array.from(found.values()).sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2] || a[3] - b[3]).map((each) => each[3]);
  }
}

/** How far a token is from what was asked for: itself, but for spaces, but for case, at its beginning, inside it; Infinity for another. */
function distanceOf(text, id, label) {
  const wanted = text.replaceAll(" ", "␣");
  const bare = label.replaceAll("␣", "");
  if (String(id) === text || label === wanted) return 0;
  if (bare === wanted) return 1;
  const small = wanted.toLowerCase();
  const forms = [label, bare].map((form) => form.toLowerCase());
  if (forms.includes(small)) return 2;
  if (forms.some((form) => form.startsWith(small))) return 3;
  return forms[0].includes(small) ? 4 : Infinity;
}

/** The bytes at the end that begin a character and do not end it. */
function unfinished(bytes) {
  for (let size = Math.min(3, bytes.length); size > 0; size--) {
    const first = bytes[bytes.length - size];
    const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
    if (length > size && first < 0xf5) return bytes.slice(-size);
  }
  return [];
}

/** The text of bytes; none if they are not UTF-8, or a character that a page must not hold as it is. */
function decoded(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(new Uint8Array(bytes));
    return /[\p{C}\p{Z}]/u.test(text) ? "" : text;
  } catch {
    return "";
  }
}
