"use strict";
// The numbers of the page: arrays as the file has them, read at labels, and written as CSV.

const DATA = JSON.parse(document.getElementById("data").textContent);
const TYPES = { f4: Float32Array, f8: Float64Array };
const decoded = new WeakMap();

// The numbers of an encoded array; shape is its own.
function numbers(encoded) {
  if (!decoded.has(encoded)) {
    const text = atob(encoded.base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    decoded.set(encoded, new TYPES[encoded.type](bytes.buffer));
  }
  return decoded.get(encoded);
}

// One number; `index` has as many entries as the array has axes.
function at(encoded, index) {
  return numbers(encoded)[index.reduce((flat, i, axis) => flat * encoded.shape[axis] + i, 0)];
}

const variableOf = (name) => DATA.variables.find((one) => one.name === name);
const coordinateOf = (name) => DATA.coordinates.find((one) => one.name === name);
const points = () => DATA.status.map((_, point) => point);

// A quantity is a variable at labels. What adversarial training adds has no phase of its own.
function quantity(name, labels) {
  const variable = variableOf(name);
  const gain = Boolean(variable.gain) && labels.phase === DATA.gain;
  const source = gain ? variable.gain : variable;
  const dims = variable.dims.filter((dim) => !(gain && dim === "phase"));
  const index = dims.map((dim) => DATA.dims[dim].values.indexOf(labels[dim]));
  const place = (point) => [point, ...index];
  const told = gain ? undefined : (variable.predicted || []).find(
    (one) => Object.entries(one.at).every(([dim, label]) => labels[dim] === label));
  const words = variable.dims.map((dim) =>
    dim === "phase" && gain ? DATA.gain : DATA.dims[dim].words[DATA.dims[dim].values.indexOf(labels[dim])]
      + (dim === "relative_radius" ? "τ" : ""));
  return {
    name: variable.label,
    meaning: variable.meaning,
    label: words.length ? `${variable.label} (${words.join(", ")})` : variable.label,
    lines: [variable.label, ...(words.length ? [`(${words.join(", ")})`] : [])],
    prediction: told,
    value: (point) => at(source.mean, place(point)),
    low: (point) => at(source.low, place(point)),
    high: (point) => at(source.high, place(point)),
    each: (point) => DATA.seeds.map((_, seed) => at(source.each, [...place(point), seed])),
    predicted: (point) => (told ? at(told.values, [point]) : NaN),
  };
}

const finished = (point) => DATA.status[point].filter((how) => how === "ok").length;

// "3 of 4 seeds; 1 dead"
function seedsOf(point) {
  const failed = {};
  for (const how of DATA.status[point]) if (how !== "ok") failed[how] = (failed[how] || 0) + 1;
  const said = Object.entries(failed).map(([how, count]) => `${count} ${how}`);
  return `${finished(point)} of ${DATA.seeds.length} finished${said.length ? `; ${said.join(", ")}` : ""}`;
}

// To four digits; the CSV has all of them.
function show(value) {
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return "–";
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

function interval(low, high) {
  return Number.isFinite(low) ? `[${show(low)}, ${show(high)}]` : "none";
}

function sorted(values) {
  return [...new Set(values)].sort((a, b) => (typeof a === "string" ? String(a).localeCompare(b) : a - b));
}

// A coordinate in words: its symbol where it has one, "sparsity k" → "k".
const symbol = (name) => ({ tau: "τ", sigma_x: "σ_x", sigma_0: "σ₀" }[name] || name);
const titleOf = (one) => (one.label === one.name ? symbol(one.name) : one.label);
const placeOf = (point) =>
  DATA.coordinates.map((one) => `${symbol(one.name)} = ${show(one.values[point])}`).join(", ");

// --- files ---------------------------------------------------------------------------------------

function csv({ columns, rows }) {
  const cell = (value) => {
    const text = typeof value === "number" ? (Number.isFinite(value) ? String(value) : "") : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
