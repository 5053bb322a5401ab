// Logits processors of transformers on one row, in float32, and what is known of unrecorded tokens.
//
// A row is `{scores, bound, estimate}`: scores of the recorded tokens (-Infinity once removed), the most that any
// other token can score (-Infinity where none is left), and why the result is an estimate ("" where it is exact).
// The rules are those of tracer/analysis/processors/.

const f = Math.fround;
const UNIT = 2 ** -24;
const TINY = 1e-37;

/** Order in which generate() puts what the controls stand for. */
export const KNOBS = {
  repetition_penalty: { kind: "RepetitionPenaltyLogitsProcessor", field: "penalty", off: 1, role: "processor" },
  temperature: { kind: "TemperatureLogitsWarper", field: "temperature", off: 1, role: "warper" },
  top_k: { kind: "TopKLogitsWarper", field: "top_k", off: 0, role: "warper" },
  top_p: { kind: "TopPLogitsWarper", field: "top_p", off: 1, role: "warper" },
  min_p: { kind: "MinPLogitsWarper", field: "min_p", off: 0, role: "warper" },
};
const PROCESSORS = [
  "UnbatchedClassifierFreeGuidanceLogitsProcessor", "SequenceBiasLogitsProcessor", "HammingDiversityLogitsProcessor",
  "EncoderRepetitionPenaltyLogitsProcessor", "RepetitionPenaltyLogitsProcessor",
];
const WARPERS = [
  "TemperatureLogitsWarper", "TopHLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper", "MinPLogitsWarper",
  "TypicalLogitsWarper", "EpsilonLogitsWarper", "EtaLogitsWarper", "LogitNormalization",
];

/** The settings in force among recorded processors. */
export function settingsOf(processors) {
  return Object.fromEntries(Object.entries(KNOBS).map(([name, { kind, field, off }]) =>
    [name, processors.find((each) => each.name === kind)?.numbers[field] ?? off]));
}

/** The processors that generate() would have made with other settings; each has the stage it was recorded at, or 0. */
export function changedProcessors(processors, settings) {
  let found = processors.map((each, index) => ({ ...each, stage: index + 1 }));
  for (const [name, { kind, field, off, role }] of Object.entries(KNOBS)) {
    const value = settings[name];
    const place = found.findIndex((each) => each.name === kind);
    if (place >= 0) {
      const changed = { ...found[place], numbers: { ...found[place].numbers, [field]: value } };
      found = value === off ? found.filter((_, index) => index !== place) : found.map((each, index) => (index === place ? changed : each));
    } else if (value !== off) {
      found.splice(placeOf(found, kind, role), 0, { name: kind, role, numbers: { [field]: value }, known: true, stage: 0 });
    }
  }
  return found;
}

function placeOf(found, kind, role) {
  const order = role === "warper" ? WARPERS : PROCESSORS;
  const earlier = order.slice(0, order.indexOf(kind));
  let start = 0;
  for (const [place, each] of found.entries()) {
    if (each.role === role && !earlier.includes(each.name)) return place;
    if (each.role === role || each.role === "processor") start = place + 1;
  }
  return start;
}

/** The raw row of a step; the recorded tokens hold its `cap` highest logits. */
export function rawRow(scores, cap) {
  const raw = Float32Array.from(scores.scores[0]);
  const known = raw.filter((value) => value > -Infinity).length;
  const bound = known >= scores.kept[0] ? -Infinity : highest(raw, cap);
  return { scores: raw, bound, estimate: scores.chosenScores.some(Number.isNaN) ? "some logits are NaN" : "" };
}

/** The row after all processors. `history` are the ids in the text of row `number`; `recorded` the step's scores. */
export function applied(processors, row, { tokens, history, number, recorded }) {
  let found = row;
  for (const processor of processors) {
    const act = ACTS[processor.name];
    found = act && processor.known ? act(found, processor.numbers, { tokens, history, number }) : replayed(found, processor, recorded);
  }
  return found;
}

const ACTS = {
  RepetitionPenaltyLogitsProcessor: (row, { penalty, prompt_ignore_length: ignored = [] }, { tokens, history, number }) => {
    const seen = new Set(history.slice(Math.max(0, ignored[Math.min(number, ignored.length - 1)] ?? 0)));
    const worse = (score) => (score < 0 ? f(score * f(penalty)) : f(score / f(penalty)));
    return { ...row, scores: row.scores.map((score, column) => (seen.has(tokens[column]) ? worse(score) : score)), bound: Math.max(row.bound, worse(row.bound)) };
  },
  TemperatureLogitsWarper: (row, { temperature }) => ({
    ...row, scores: row.scores.map((score) => f(score / f(temperature))), bound: f(row.bound / f(temperature)),
  }),
  TopKLogitsWarper: (row, { top_k: count }) => {
    const line = highest(row.scores, count);
    const all = line > row.bound;
    return cut(row, (score) => score < line, { bound: all ? -Infinity : row.bound, blind: !all && row.bound > -Infinity });
  },
  TopPLogitsWarper: (row, { top_p: mass, min_tokens_to_keep: least = 1 }) => topP(row, mass, least),
  MinPLogitsWarper: (row, { min_p: share, min_tokens_to_keep: least = 1 }) => minP(row, share, least),
};

function topP(row, mass, least) {
  const order = rising(row.scores).filter((column) => row.scores[column] > -Infinity);
  const shares = softmax(row.scores);
  const line = f(1 - mass);
  const margin = UNIT * (8 + 2 * Math.sqrt(order.length));
  const gone = new Set();
  let sum = 0;
  let doubt = false;
  order.forEach((column, index) => {
    sum += shares[column];
    if (index >= order.length - least) return;
    const total = f(sum);
    if (total <= line) gone.add(column);
    if (Math.abs(total - line) <= margin * Math.max(total, line) + TINY) doubt = true;
  });
  const edge = gone.size;
  if (edge > 0 && edge < order.length && row.scores[order[edge - 1]] === row.scores[order[edge]]) doubt = true;
  return cut(row, (_, column) => gone.has(column), { bound: row.bound, blind: row.bound > -Infinity, doubt });
}

function minP(row, share, least) {
  const shares = softmax(row.scores);
  const top = row.scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const line = f(f(share) * shares.reduce((a, b) => Math.max(a, b), 0));
  const spared = new Set(rising(row.scores).slice(-least));
  const doubt = shares.some((value, column) => row.scores[column] < top && !spared.has(column) && Math.abs(value - line) <= 16 * UNIT * line + TINY && share > 0);
  const all = share > 0 && row.bound - top < Math.log(share) - 1e-4 && row.bound < highest(row.scores, least);
  const blind = !all && row.bound > -Infinity && !(least === 1 && row.bound <= top);
  return cut(row, (_, column) => shares[column] < line && !spared.has(column), { bound: all ? -Infinity : row.bound, blind, doubt });
}

function cut(row, removes, { bound, blind, doubt }) {
  const estimate = row.estimate || (blind ? "tokens that were not recorded affect which are left" : doubt ? "rounding decides about a token at the line" : "");
  return { scores: row.scores.map((score, column) => (removes(score, column) ? -Infinity : score)), bound, estimate };
}

/** A processor that the page cannot repeat: what it was recorded to do, done again. */
function replayed(row, { name, stage, bans }, recorded) {
  const [before, after] = [recorded.scores[stage - 1], recorded.scores[stage]];
  if (!recorded.changed[stage]) return bans ? row : { ...row, estimate: row.estimate || `${name} did nothing in the recording and is taken to do nothing here` };
  const scores = row.scores.map((score, column) => (after[column] === -Infinity && before[column] > -Infinity ? -Infinity : f(score + moved(before[column], after[column]))));
  return { scores, bound: bans ? row.bound : Infinity, estimate: row.estimate || (bans ? "" : `${name} cannot be repeated in a page; its recorded changes are used`) };
}

function moved(before, after) {
  return Number.isFinite(after - before) ? after - before : 0;
}

/** Softmax in float32, exponentials and sum in float64. */
export function softmax(scores) {
  const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = Array.from(scores, (score) => Math.exp(f(score - top)));
  const total = weights.reduce((a, b) => a + b, 0);
  return Float32Array.from(weights, (weight) => weight / total);
}

/** Entropy of the softmax in bits. */
export function entropy(scores) {
  return softmax(scores).reduce((sum, share) => (share > 0 ? sum - share * Math.log2(share) : sum), 0);
}

/** Columns in rising order of score, equal ones in their order. */
function rising(scores) {
  return Array.from(scores.keys()).sort((a, b) => scores[a] - scores[b] || a - b);
}

function highest(scores, count) {
  const sorted = Float32Array.from(scores).sort();
  return count > sorted.length ? -Infinity : sorted[sorted.length - count];
}

/** In words: whether a final row is exact, and if not, why. */
export function verdict(row, unknown) {
  if (row.estimate) return { exact: false, text: `An estimate: ${row.estimate}.` };
  if (row.bound === -Infinity) return { exact: true, text: "Exact: no token that was not recorded can be left." };
  const top = row.scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const total = row.scores.reduce((sum, score) => sum + Math.exp(score - top), 0);
  const most = unknown * Math.exp(row.bound - top);
  const share = Number.isFinite(most) ? most / (most + total) : 1;
  return { exact: false, share, text: "An estimate: tokens that were not recorded are left too; the probabilities are those among the recorded ones." };
}
