"use strict";
// The chosen point: its numbers, accuracy against radius, course of training, and weights.

const radiusPanel = new Panel("radius");
const alongPanel = new Panel("along");
const weightsPanel = new Panel("weights");

function drawNumbers() {
  const found = quantity(state.variable, state.labels), point = state.point;
  const place = DATA.coordinates.length ? `Point ${point}: ${placeOf(point)}` : `Run ${DATA.name}`;
  document.getElementById("place").textContent = place;
  const facts = [
    [found.label, `${show(found.value(point))}`],
    ["95 % interval over seeds", interval(found.low(point), found.high(point))],
    ["seeds", seedsOf(point)],
  ];
  if (found.prediction) facts.push([`the theory’s ${found.prediction.formula} ${found.prediction.source}`, show(found.predicted(point))]);
  const list = document.getElementById("facts");
  list.replaceChildren(...facts.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  document.getElementById("meaning").textContent = `${found.name}: ${found.meaning}.`;
  const rows = found.each(point).map((value, seed) => {
    const row = document.createElement("tr");
    const why = DATA.reason[point][seed] ? `: ${DATA.reason[point][seed]}` : "";
    row.append(make("td", DATA.seeds[seed]), make("td", show(value)), make("td", DATA.status[point][seed] + why));
    return row;
  });
  document.getElementById("seeds").replaceChildren(...rows);
}

function make(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

// --- accuracy against radius ---------------------------------------------------------------------

const BOTH = "any perturbation (both sides)";

function radiusChoices() {
  const known = variableOf("robust_accuracy");
  if (!known || !["phase", "attack", "relative_radius"].every((dim) => known.dims.includes(dim))) return [];
  const sides = variableOf("certified_accuracy") && variableOf("attacked_accuracy") ? [BOTH] : [];
  return [...sides, ...DATA.dims.attack.values];
}

function curveRows(name, labels, group, colour) {
  return DATA.dims.relative_radius.values.map((radius) => {
    const found = quantity(name, { ...labels, relative_radius: radius }), point = state.point;
    const row = { group, colour, radius, value: found.value(point), low: found.low(point), high: found.high(point) };
    const tip = { title: group, "radius": `${show(radius)} τ`, accuracy: show(row.value), "95 % interval": interval(row.low, row.high) };
    return { ...row, tip, said: `${group}, ${show(radius)} τ: ${show(row.value)}` };
  }).filter((row) => Number.isFinite(row.value));
}

// The reference: the best network with one neuron per feature, where it was measured.
function reference(attack) {
  const green = DATA.palette.reference;
  if (variableOf("pure_accuracy") && attack === "PGD") return curveRows("pure_accuracy", {}, "best pure network", green);
  const known = variableOf("reference_accuracy");
  if (!known || !DATA.dims.reference_attack.values.includes(attack)) return [];
  const first = DATA.dims.reference.values[0];
  return curveRows("reference_accuracy", { reference: first, reference_attack: attack }, first, green);
}

async function drawRadius() {
  if (!radiusChoices().length) return radiusPanel.empty("No accuracies against radius are kept.");
  const attack = state.attack, sides = attack === BOTH;
  const networks = DATA.dims.phase.values.filter((phase) => phase !== "init");
  const colourOf = (phase) => DATA.palette[phase] || DATA.palette.others[networks.indexOf(phase) % DATA.palette.others.length];
  const style = (phase) => [DATA.dims.phase.words[DATA.dims.phase.values.indexOf(phase)], colourOf(phase)];
  const rows = sides
    ? networks.flatMap((phase) => {
      const [word, colour] = style(phase);
      const above = curveRows("attacked_accuracy", { phase }, `${word}, attacked`, colour);
      const below = curveRows("certified_accuracy", { phase }, `${word}, certified`, colour);
      return [...above, ...below];
    })
    : [...networks.flatMap((phase) => curveRows("robust_accuracy", { phase, attack }, ...style(phase))), ...reference(attack)];
  if (!rows.length) return radiusPanel.empty(`No value at this point: ${seedsOf(state.point)}.`);
  const band = sides ? sidesBand(rows) : rows.filter((row) => Number.isFinite(row.low));
  const x = { field: "radius", type: "quantitative", title: "radius in units of τ" };
  const y = { field: "value", type: "quantitative", title: "accuracy", scale: { domain: [0, 1] } };
  const groups = [...new Set(rows.map((row) => row.group))];
  const legend = { title: null, orient: "bottom", symbolOpacity: 1, columns: narrow() ? 1 : 2 };
  const colours = groups.map((name) => rows.find((row) => row.group === name).colour);
  const color = { field: "group", type: "nominal", legend, scale: { domain: groups, range: colours } };
  const dash = { field: "group", type: "nominal", scale: { domain: groups, range: groups.map((name) => (/certified|network$/.test(name) ? [5, 4] : [1, 0])) }, legend };
  const spec = { width: "container", height: 260, layer: [
    { mark: { type: "area", opacity: 0.2, tooltip: null }, data: { values: band },
      encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color } },
    { mark: { type: "line", tooltip: null }, data: { values: rows }, encoding: { x, y, color, strokeDash: dash } },
    { name: "marks", mark: { type: "circle", size: 60, opacity: 1 }, data: { values: rows }, encoding: { x, y, color, ...TOOLTIP } },
  ] };
  const table = { columns: ["network", "radius / τ", "accuracy", "low", "high"],
    rows: rows.map((row) => [row.group, row.radius, row.value, row.low, row.high]) };
  const note = sides
    ? "Lines: means over seeds. No attack of the run breaks more than the upper line of a network leaves, the lower one is proved; the truth lies in its shade."
    : "Means over seeds; shade: 95 % interval. An attack bounds robust accuracy from above.";
  await radiusPanel.draw(spec, table, note);
}

// Between what is proved and what attacks leave.
function sidesBand(rows) {
  return rows.filter((row) => row.group.endsWith("attacked")).map((above) => {
    const group = above.group.replace("attacked", "certified");
    const below = rows.find((row) => row.group === group && row.radius === above.radius);
    return { ...above, low: below ? below.value : NaN, high: above.value };
  }).filter((row) => Number.isFinite(row.low));
}

// --- along training ------------------------------------------------------------------------------

async function drawAlong() {
  if (DATA.along) return drawCurve();
  const variable = variableOf(state.variable);
  document.getElementById("along-choice").hidden = true;
  if (!variable.dims.includes("phase")) {
    return alongPanel.empty("This sweep keeps three moments of training, and this quantity is one number for all of it: choose one that is measured on a network.");
  }
  const dim = DATA.dims.phase;
  const found = dim.values.map((phase) => quantity(state.variable, { ...state.labels, phase }));
  const rows = found.map((one, n) => ({ n, stage: dim.words[n], value: one.value(state.point), low: one.low(state.point), high: one.high(state.point) }))
    .filter((row) => Number.isFinite(row.value))
    .map((row) => ({ ...row, said: `${row.stage}: ${show(row.value)}`, tip: { title: row.stage, value: show(row.value), "95 % interval": interval(row.low, row.high) } }));
  if (!rows.length) return alongPanel.empty(`No value at this point: ${seedsOf(state.point)}.`);
  const each = found.flatMap((one, n) => one.each(state.point).map((value, seed) => ({ stage: dim.words[n], seed: DATA.seeds[seed], value })))
    .filter((row) => Number.isFinite(row.value));
  const log = isLog(each.map((row) => row.value));
  const x = { field: "stage", type: "ordinal", sort: dim.words, title: null, axis: { labelAngle: narrow() ? -20 : 0 } };
  const y = { field: "value", type: "quantitative", title: found[0].name, scale: valueScale(log) };
  const spec = { width: "container", height: 260, layer: [
    { mark: { type: "line", color: DATA.palette.adversarial, tooltip: null }, data: { values: rows }, encoding: { x, y } },
    { mark: { type: "circle", color: "#6f6f6f", size: 30, tooltip: null }, data: { values: each }, encoding: { x, y } },
    { name: "marks", mark: { type: "circle", color: DATA.palette.adversarial, size: 90, opacity: 1 }, data: { values: rows }, encoding: { x, y, ...TOOLTIP } },
  ] };
  const table = { columns: ["stage", "value", "low", "high"], rows: rows.map((row) => [row.stage, row.value, row.low, row.high]) };
  await alongPanel.draw(spec, table, "This sweep keeps three moments of training, not the course between them: keep = [\"training\"] in its file does. Small dots: seeds.");
}

async function drawCurve() {
  const { phases, phase, step: steps, records, curves } = DATA.along;
  const curve = curves.find((one) => one.name === state.curve);
  const kept = steps.shape[1];
  const rows = Array.from({ length: kept }, (_, record) => {
    const place = [state.point, record];
    return { n: record, phase: phases[phase[record]], step: at(steps, place), value: at(curve.mean, place), low: at(curve.low, place), high: at(curve.high, place) };
  }).filter((row) => Number.isFinite(row.value) && Number.isFinite(row.step));
  if (!rows.length) return alongPanel.empty(`No value at this point: ${seedsOf(state.point)}.`);
  const told = rows.map((row) => ({ ...row, said: `step ${row.step}: ${show(row.value)}`,
    tip: { title: `step ${row.step}, ${row.phase} phase`, [curve.label]: show(row.value), "95 % interval": interval(row.low, row.high) } }));
  const turns = rows.filter((row, n) => n + 1 < rows.length && rows[n + 1].phase !== row.phase).map(({ step: last }) => ({ step: last }));
  const log = isLog(rows.map((row) => row.value));
  const x = { field: "step", type: "quantitative", title: "training step" };
  const y = { field: "value", type: "quantitative", title: curve.label, scale: valueScale(log) };
  const blue = DATA.palette.adversarial;
  const banded = told.filter((row) => Number.isFinite(row.low) && (!log || row.low > 0));
  const spec = { width: "container", height: 260, layer: [
    ...(turns.length ? [{ mark: { type: "rule", color: "#6f6f6f" }, data: { values: turns }, encoding: { x } }] : []),
    { mark: { type: "area", color: blue, opacity: 0.2, clip: true, tooltip: null }, data: { values: banded }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" } } },
    { mark: { type: "line", color: blue, tooltip: null }, data: { values: told }, encoding: { x, y, order: { field: "n" } } },
    { name: "marks", mark: { type: "circle", color: blue, size: 40, opacity: 1 }, data: { values: told }, encoding: { x, y, ...TOOLTIP } },
  ] };
  const table = { columns: ["phase", "step", curve.label, "low", "high"], rows: rows.map((row) => [row.phase, row.step, row.value, row.low, row.high]) };
  await alongPanel.draw(spec, table, `${curve.meaning}; mean over seeds, shade: 95 % interval. Grey line: a phase ends, the next begins.${kept < records ? ` Thinned to ${kept} of ${records} records.` : ""}`);
}

// --- weights -------------------------------------------------------------------------------------

async function drawWeights() {
  const kept = DATA.weights;
  const why = DATA.kind === "study" ? "A study keeps no weights." : "This sweep keeps no weights: keep = [\"weights\"] in its file does. What is measured of them: κ/α, ‖v‖/|α|, carriers, overlaps θ, in the list of quantities.";
  if (!kept) return weightsPanel.empty(why);
  const seed = state.seed, shape = kept.values.shape, values = numbers(kept.values);
  const [, seeds, phases, rowsShown, features] = shape;
  const start = (state.point * seeds + seed) * phases * rowsShown * features;
  const rows = [];
  const relative = [];
  for (let phase = 0; phase < phases; phase += 1) {
    for (let row = 0; row < rowsShown; row += 1) {
      const from = start + (phase * rowsShown + row) * features;
      const own = values.subarray(from, from + features);
      const most = own.reduce((largest, value) => Math.max(largest, Math.abs(value) || 0), 1e-30);
      const neuron = at(kept.neuron, [state.point, seed, row]);
      own.forEach((value, column) => {
        if (!Number.isFinite(value)) return;
        if (phase === 0) relative.push(Math.abs(value) / most);
        rows.push({ phase: kept.phases[phase], row, neuron, feature: kept.feature[column], value, relative: value / most,
          tip: { title: `${kept.phases[phase]}, neuron ${neuron}, feature ${kept.feature[column]}`, "sgn(w*ⱼ) Cᵢⱼ": show(value), "over the row’s largest": show(value / most) } });
      });
    }
  }
  if (!rows.length) return weightsPanel.empty(`No weights at this point: seed ${DATA.seeds[seed]} is ${DATA.status[state.point][seed]}.`);
  relative.sort((a, b) => a - b);
  const limit = Math.min(1, Math.max(0.1, 3 * relative[Math.floor(relative.length / 2)]));
  const columns = sorted(rows.map((row) => row.feature));
  const width = Math.max(200, weightsPanel.chart.clientWidth - 90);
  const spec = { data: { values: rows }, facet: { row: { field: "phase", sort: kept.phases, title: null, header: { labelAngle: 0, labelOrient: "top", labelAnchor: "start" } } },
    spec: { width, height: 190, mark: { type: "rect", tooltip: null },
      encoding: {
        x: { field: "feature", type: "ordinal", sort: columns, title: "feature j", axis: { ticks: false, values: columns.filter((_, n) => n % 8 === 0), labelAngle: 0 } },
        y: { field: "row", type: "ordinal", title: "neuron", axis: { labels: false, ticks: false } },
        color: { field: "relative", type: "quantitative", title: "sgn(w*ⱼ) Cᵢⱼ over the row’s largest",
          scale: { scheme: "redblue", reverse: true, domain: [-limit, limit], clamp: true }, legend: { orient: "bottom", gradientLength: 200 } },
        tooltip: { field: "tip" },
      } },
  };
  const table = { columns: ["network", "neuron", "feature", "signed coordinate"], rows: rows.map((row) => [row.phase, row.neuron, row.feature, row.value]) };
  const thinned = [`the ${rowsShown} of ${kept.neurons[state.point]} neurons with the largest pure coefficient after clean training`];
  if (kept.feature.length < kept.features) thinned.push(`the ${kept.feature.length} of ${kept.features} features with the largest coordinates`);
  await weightsPanel.draw(spec, table,
    `Seed ${DATA.seeds[seed]}; thinned to ${thinned.join(" and ")}. A dense mixture is a background of one colour, a pure neuron one dark cell.`);
}
