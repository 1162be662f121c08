"use strict";
// Charts: a panel shows one Vega-Lite picture and hands out its table and its SVG.

const CONFIG = {
  background: "white",
  font: "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
  axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: 500, gridColor: "#e6e6e6" },
  legend: { labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, labelLimit: 0, titleLimit: 0 },
  header: { labelFontSize: 13, labelFontWeight: 500, titleFontSize: 12 },
  view: { stroke: "#999" },
};
const narrow = () => window.innerWidth < 620;

class Panel {
  constructor(id) {
    this.root = document.getElementById(id);
    this.chart = this.root.querySelector(".chart");
    this.note = this.root.querySelector(".note");
    this.turn = 0;
    this.root.querySelector(".csv").addEventListener("click", () =>
      download(`${DATA.name}-${id}.csv`, csv(this.table), "text/csv"));
    this.root.querySelector(".svg").addEventListener("click", async () =>
      download(`${DATA.name}-${id}.svg`, await this.view.toSVG(), "image/svg+xml"));
  }

  // Draw; of drawings that overlap in time the last one stays. The view, or nothing if it is late.
  async draw(spec, table, note = "") {
    this.turn += 1;
    const turn = this.turn;
    this.table = table;
    this.note.textContent = note;
    this.busy(true);
    const place = document.createElement("div");
    place.className = "picture";
    const before = this.view;
    this.chart.replaceChildren(place);
    const options = { renderer: "svg", actions: false, config: CONFIG, tooltip: { theme: "light" } };
    const { view } = await vegaEmbed(place, spec, options);
    if (before) before.finalize();
    if (turn !== this.turn) {
      view.finalize();
      return undefined;
    }
    this.view = view;
    this.busy(false);
    return view;
  }

  // Say why there is no picture.
  empty(note) {
    this.turn += 1;
    this.chart.replaceChildren();
    this.note.textContent = note;
    this.table = { columns: [], rows: [] };
    for (const button of this.root.querySelectorAll("button")) button.disabled = true;
  }

  busy(waiting) {
    this.root.setAttribute("aria-busy", String(waiting));
    for (const button of this.root.querySelectorAll("button")) button.disabled = waiting;
  }
}

// --- scales --------------------------------------------------------------------------------------

// As in the report: logarithmic over more than this ratio of positive values.
const WIDE = 5;

function isLog(values) {
  const known = values.filter(Number.isFinite);
  return known.length > 0 && Math.min(...known) > 0 && Math.max(...known) > WIDE * Math.min(...known);
}

// Borders of cells around rising centres, half-way between them on the scale.
function edges(centres, log) {
  const to = log ? Math.log : (v) => v;
  const back = log ? Math.exp : (v) => v;
  const places = centres.map(to);
  const middle = places.slice(1).map((v, i) => (v + places[i]) / 2);
  const ends = [2 * places[0] - middle[0], 2 * places.at(-1) - middle.at(-1)];
  return [ends[0], ...middle, ends[1]].map(back);
}

// The frame around values that are drawn as dots.
function frame(values, log) {
  const to = log ? Math.log : (v) => v;
  const back = log ? Math.exp : (v) => v;
  const low = to(Math.min(...values)), high = to(Math.max(...values));
  const room = (high - low) * 0.08 || Math.abs(low) * 0.1 || 1;
  return [back(low - room), back(high + room)];
}

// Of values that need not start at 0.
const valueScale = (log) => (log ? { type: "log" } : { type: "linear", zero: false });

// Of places in a frame, which is kept.
const placeScale = (log, domain) => ({ ...valueScale(log), domain, nice: false });

function colourScale(values) {
  const known = values.filter(Number.isFinite);
  const low = Math.min(...known), high = Math.max(...known);
  if (low < 0 && high > 0) {
    const most = Math.max(-low, high);
    return { scheme: "blueorange", domain: [-most, most] };
  }
  return { ...valueScale(isLog(known)), scheme: "viridis", domain: [low, high] };
}

// Ticks at the values that were swept, while they are few.
function axis(values, title) {
  const ticks = sorted(values);
  return { title, format: ".3~g", labelOverlap: true, ...(ticks.length <= 14 ? { values: ticks } : {}) };
}
