// Texts of the tokens that a page mentions.

/** Labels of the tokens. */
export class Tokens {
  constructor({ ids, labels, special }) {
    this.labels = new Map(ids.map((id, i) => [id, labels[i]]));
    this.specials = new Set(special);
  }

  /** The token's text with everything invisible made visible; its number where the text is not known. */
  label(id) {
    if (id < 0) return "–"; // none was chosen
    return this.labels.get(id) || `#${id}`;
  }

  special(id) {
    return this.specials.has(id);
  }

  /** Ids whose number or text matches, exact matches first. */
  find(text, among) {
    const wanted = text.toLowerCase().replaceAll(" ", "␣");
    const found = [];
    for (const id of among) {
      const label = this.label(id).toLowerCase();
      const bare = label.replaceAll("␣", "");
      const place = String(id) === text || label === wanted || bare === wanted ? 0 : label.includes(wanted) ? 1 : 2;
      if (place < 2) found.push([place, label.length, id]);
    }
    return found.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]).map((each) => each[2]);
  }
}
