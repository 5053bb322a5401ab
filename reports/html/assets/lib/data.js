// The page's data: inert blocks of base64, inflated when they are asked for (reports/html/pack.py).

const KINDS = { f4: Float32Array, i4: Int32Array, u1: Uint8Array };
const opened = new Map();

/** Whether the page has a section of this name. */
export function hasSection(name) {
  return block(name) !== null;
}

/** A section: `{metadata, arrays}`, each array `{shape, data}`. */
export function openSection(name) {
  if (!opened.has(name)) opened.set(name, inflated(block(name).textContent).then(unpacked));
  return opened.get(name);
}

function block(name) {
  return document.querySelector(`script[data-section="${CSS.escape(name)}"]`);
}

async function inflated(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function unpacked(bytes) {
  const size = new DataView(bytes.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  let offset = 4 + size;
  const arrays = {};
  for (const [name, kind, shape, axis] of head.arrays) {
    const length = shape.reduce((a, b) => a * b, 1);
    const width = KINDS[kind].BYTES_PER_ELEMENT;
    const words = joined(bytes.subarray(offset, offset + length * width), length, width);
    if (axis >= 0) undoDifferences(words, shape, axis);
    arrays[name] = { shape, data: new KINDS[kind](words.buffer) };
    offset += length * width;
  }
  return { metadata: head.metadata, arrays };
}

function joined(planes, length, width) {
  const words = new (width === 4 ? Uint32Array : Uint8Array)(length);
  for (let plane = 0; plane < width; plane++) {
    const start = plane * length;
    const shift = 8 * plane;
    for (let i = 0; i < length; i++) words[i] |= planes[start + i] << shift;
  }
  return words;
}

function undoDifferences(words, shape, axis) {
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const lines = shape[axis];
  for (let start = 0; start < words.length; start += lines * inner) {
    for (let i = start + inner; i < start + lines * inner; i++) words[i] ^= words[i - inner];
  }
}
