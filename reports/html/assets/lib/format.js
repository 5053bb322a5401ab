// Figures as every report writes them (reports/view/figures.py).

/** A probability with four digits; what would round to an untrue 0 or 1 is said to be near it. */
export function probability(value) {
  if (value > 0 && value < 0.00005) return "<0.0001";
  if (value >= 0.99995 && value < 1) return ">0.9999";
  return number(value, 4);
}

/** A logit or score with four digits. */
export function score(value) {
  return number(value, 4);
}

export function bits(value) {
  return `${number(value, 4)} bits`;
}

export function percent(value) {
  if (value > 0 && value < 0.0005) return "<0.1 %";
  if (value >= 0.9995 && value < 1) return ">99.9 %";
  return `${number(value * 100, 1)} %`;
}

export function count(value) {
  return value.toLocaleString("en-US");
}

export function plural(value, noun, many = `${noun}s`) {
  return `${count(value)} ${value === 1 ? noun : many}`;
}

/** A statistic with three significant digits. */
export function statistic(value) {
  if (!Number.isFinite(value)) return number(value, 0);
  const size = Math.abs(value);
  if (size >= 1000 && size < 999500) return String(Number(value.toPrecision(3)));
  if (size !== 0 && (size < 1e-4 || size >= 1000)) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(3)));
}

export function byteSize(value) {
  let size = value;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (size < 1024) return unit === "B" ? `${size} B` : `${size.toFixed(1)} ${unit}`;
    size /= 1024;
  }
  return `${size.toFixed(1)} TiB`;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "unknown";
  if (seconds < 0.9995) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 120) return `${seconds.toFixed(2)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

function number(value, digits) {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  return value.toFixed(digits);
}

/** A short name of a processor class: `TopKLogitsWarper` is `TopK`. */
export function shortName(name) {
  return name.replace(/Logits(Warper|Processor)$|LogitsProcessor$/, "") || name;
}
