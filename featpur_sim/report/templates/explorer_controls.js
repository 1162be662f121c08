"use strict";
// What is chosen, and the drop-downs and sliders that choose it.

const state = { labels: {}, sliders: {}, seed: 0 };

const byId = (id) => document.getElementById(id);

function option(value, text) {
  const found = document.createElement("option");
  found.value = value;
  found.textContent = text;
  return found;
}

// A drop-down with its label; `pick` is told the value.
function dropDown(id, title, choices, value, pick) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  select.id = id;
  select.append(...choices.map(([key, text]) => option(key, text)));
  select.value = value;
  select.addEventListener("change", () => pick(select.value));
  label.append(`${title} `, select);
  return label;
}

function slider(id, title, values, value, pick) {
  const label = document.createElement("label");
  const range = document.createElement("input");
  const told = document.createElement("output");
  Object.assign(range, { id, type: "range", min: 0, max: values.length - 1, step: 1 });
  const say = () => {
    told.textContent = show(values[range.value]);
    range.setAttribute("aria-valuetext", told.textContent);
  };
  range.value = values.indexOf(value);
  say();
  range.addEventListener("input", () => { say(); pick(values[range.value]); });
  label.append(`${title} `, range, " ", told);
  return label;
}

function begin() {
  const names = DATA.variables.map((one) => one.name);
  state.variable = names.includes("robust_accuracy") ? "robust_accuracy" : names[0];
  const liked = { phase: "adversarial", attack: "PGD", critical_attack: "PGD", relative_radius: 1 };
  for (const [dim, { values }] of Object.entries(DATA.dims)) {
    state.labels[dim] = values.includes(liked[dim]) ? liked[dim] : dim === "phase" ? values.at(-1) : values[0];
  }
  const numeric = DATA.coordinates.filter((one) => one.numeric);
  const axes = [...numeric.filter((one) => one.axis), ...numeric.filter((one) => !one.axis)].map((one) => one.name);
  const both = axes.includes("d") && axes.includes("k");
  [state.x, state.y] = both ? ["d", "k"] : [axes[0], axes[1] || ""];
  for (const one of DATA.coordinates) {
    const values = sorted(one.values);
    state.sliders[one.name] = values[Math.floor((values.length - 1) / 2)];
  }
  state.attack = radiusChoices().includes(BOTH) ? BOTH : state.labels.attack;
  state.curve = DATA.along ? (DATA.along.curves.find((one) => /kappa_over_alpha$|accuracy$/.test(one.name)) || DATA.along.curves[0]).name : "";
  const shown = chosenPoints().filter((point) => finished(point));
  state.point = shown[Math.floor(shown.length / 2)] ?? chosenPoints()[0];
}

function drawQuantity() {
  const place = byId("quantity");
  const variables = DATA.variables.map((one) => [one.name, one.label]);
  const redraw = () => { drawQuantity(); drawAll(); };
  const labels = variableOf(state.variable).dims.map((dim) => {
    const { title, values, words } = DATA.dims[dim];
    const extra = dim === "phase" && variableOf(state.variable).gain ? [[DATA.gain, DATA.gainWords]] : [];
    const texts = words.map((word, n) => [String(values[n]), word]);
    const back = (text) => (text === DATA.gain ? text : values[values.map(String).indexOf(text)]);
    return dropDown(`label-${dim}`, title, [...texts, ...extra], String(state.labels[dim]), (text) => { state.labels[dim] = back(text); redraw(); });
  });
  const focus = document.activeElement && document.activeElement.id;
  place.replaceChildren(dropDown("variable", "quantity", variables, state.variable, (name) => {
    state.variable = name;
    if (state.labels.phase === DATA.gain && !variableOf(name).gain) state.labels.phase = "adversarial";
    redraw();
  }), ...labels);
  if (focus && byId(focus)) byId(focus).focus();
}

function drawPlane() {
  if (!DATA.coordinates.length) return;
  const numeric = DATA.coordinates.filter((one) => one.numeric).map((one) => [one.name, titleOf(one)]);
  const pick = (which) => (name) => {
    const other = which === "x" ? "y" : "x";
    if (state[other] === name) state[other] = state[which];
    state[which] = name;
    drawPlane();
    moved();
  };
  const focus = document.activeElement && document.activeElement.id;
  const axes = diagram ? [
    dropDown("axis-x", "across", numeric, state.x, pick("x")),
    dropDown("axis-y", "up", [...numeric, ["", "the quantity itself"]], state.y, pick("y")),
  ] : [];
  byId("plane").replaceChildren(
    ...axes,
    ...slidersNeeded().map((name) => slider(`slider-${name}`, titleOf(coordinateOf(name)), sorted(coordinateOf(name).values),
      state.sliders[name], (value) => { state.sliders[name] = value; moved(); })));
  if (focus && byId(focus)) byId(focus).focus();
}

// Other points are shown: the chosen one is the nearest among them in what is drawn.
function moved() {
  const shown = chosenPoints();
  if (!shown.includes(state.point)) {
    const same = (point) => [state.x, state.y].filter(Boolean)
      .filter((name) => coordinateOf(name).values[point] === coordinateOf(name).values[state.point]).length;
    state.point = shown.reduce((best, point) => (same(point) > same(best) ? point : best), shown[0]);
  }
  drawAll();
}

function drawChoices() {
  const attacks = radiusChoices().map((name) => [name, name]);
  if (attacks.length) byId("radius-choice").replaceChildren(dropDown("attack", "attack", attacks, state.attack, (name) => { state.attack = name; drawRadius(); }));
  if (DATA.along) {
    byId("along-choice").replaceChildren(dropDown("curve", "curve", DATA.along.curves.map((one) => [one.name, one.label]), state.curve,
      (name) => { state.curve = name; drawAlong(); }));
  }
  if (DATA.weights && DATA.weights.values.shape[1] > 1) {
    const seeds = DATA.seeds.slice(0, DATA.weights.values.shape[1]);
    byId("weights-choice").replaceChildren(slider("slider-seed", "seed", seeds, seeds[state.seed], (seed) => { state.seed = seeds.indexOf(seed); drawWeights(); }));
  }
}

function drawPoint() {
  drawNumbers();
  return Promise.all([drawRadius(), drawAlong(), drawWeights()]);
}

function drawAll() {
  return Promise.all([diagram ? drawDiagram() : undefined, drawPoint()]);
}

function choose(point) {
  state.point = point;
  markChosen();
  drawPoint();
}

begin();
drawQuantity();
drawPlane();
drawChoices();
if (diagram) {
  diagram.chart.addEventListener("keydown", (event) => {
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    step(event.key);
  });
}
drawAll().then(() => document.body.setAttribute("data-drawn", "true"));
