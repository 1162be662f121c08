"use strict";
// The phase diagram: one colour per point in a plane of two parameters, or a quantity against one.

// None where no parameter is a number.
const diagram = DATA.coordinates.some((one) => one.numeric) ? new Panel("diagram") : undefined;

// The other axes that need a choice, so that every place of the plane has one point: as few as can be.
function slidersNeeded() {
  const plane = [state.x, state.y].filter(Boolean);
  const others = DATA.coordinates.filter((one) => one.axis && !plane.includes(one.name)).map((one) => one.name);
  const subsets = others.reduce((all, name) => [...all, ...all.map((one) => [...one, name])], [[]]);
  subsets.sort((a, b) => a.length - b.length);
  const unique = (names) => {
    const keys = points().map((p) => names.map((name) => coordinateOf(name).values[p]).join("|"));
    return new Set(keys).size === keys.length;
  };
  return subsets.find((some) => unique([...plane, ...some])) || others;
}

function chosenPoints() {
  const needed = slidersNeeded();
  return points().filter((point) =>
    needed.every((name) => coordinateOf(name).values[point] === state.sliders[name]));
}

function diagramRows(shown, found) {
  return shown.map((point) => ({
    point,
    x: coordinateOf(state.x).values[point],
    y: state.y ? coordinateOf(state.y).values[point] : found.value(point),
    value: found.value(point),
    low: found.low(point),
    high: found.high(point),
    ...hover(point, found),
  }));
}

function hover(point, found) {
  const value = show(found.value(point));
  const described = found.prediction ? { "the theory’s": show(found.predicted(point)) } : {};
  return {
    said: `${placeOf(point)}: ${found.label} ${value}`,
    tip: {
      title: placeOf(point),
      [found.label]: value,
      "95 % interval": interval(found.low(point), found.high(point)),
      ...described,
      seeds: seedsOf(point),
    },
  };
}

function diagramTable(rows, found) {
  const names = DATA.coordinates.map((one) => one.name);
  return {
    columns: ["point", ...names, found.label, "low", "high", "finished", "failed"],
    rows: rows.map((row) => [
      row.point, ...names.map((name) => coordinateOf(name).values[row.point]),
      row.value, row.low, row.high, finished(row.point), DATA.seeds.length - finished(row.point)]),
  };
}

async function drawDiagram() {
  const found = quantity(state.variable, state.labels);
  const shown = chosenPoints();
  const rows = diagramRows(shown, found);
  const known = rows.filter((row) => Number.isFinite(row.value));
  const places = new Set(rows.map((row) => `${row.x}|${state.y ? row.y : ""}`));
  const notes = [];
  if (places.size < rows.length) notes.push("Some points share a place; the last of them is on top.");
  if (known.length < rows.length) notes.push("×: no value there, because no seed finished or the quantity is not defined.");
  const layers = state.y ? planeLayers(rows, known, found) : againstLayers(rows, known, found);
  const spec = {
    width: "container", height: narrow() ? 300 : 380,
    datasets: { chosen: rows.filter((row) => row.point === state.point) },
    layer: layers,
    resolve: { scale: { strokeDash: "independent" } },
  };
  const view = await diagram.draw(spec, diagramTable(rows, found), notes.join(" "));
  if (!view) return;
  view.addEventListener("click", (_, item) => {
    if (item && item.datum && item.datum.point !== undefined) choose(item.datum.point);
  });
  // Another may have been chosen in the meantime.
  await markChosen();
}

// Only the mark around the chosen point moves.
async function markChosen() {
  if (!diagram || !diagram.view) return;
  const rows = diagramRows(chosenPoints(), quantity(state.variable, state.labels));
  await diagram.view.data("chosen", rows.filter((row) => row.point === state.point)).runAsync();
}

const TOOLTIP = { tooltip: { field: "tip" }, description: { field: "said" } };

function planeLayers(rows, known, found) {
  const xs = coordinateOf(state.x), ys = coordinateOf(state.y);
  const log = { x: isLog(xs.values), y: isLog(ys.values) };
  const x = sorted(rows.map((row) => row.x)), y = sorted(rows.map((row) => row.y));
  const grid = rows.length === x.length * y.length && Math.min(x.length, y.length) > 1;
  const ends = grid ? { x: edges(x, log.x), y: edges(y, log.y) } : undefined;
  const frames = grid ? { x: [ends.x[0], ends.x.at(-1)], y: [ends.y[0], ends.y.at(-1)] }
    : { x: frame(x, log.x), y: frame(y, log.y) };
  const place = (row) => {
    if (!grid) return row;
    const i = x.indexOf(row.x), j = y.indexOf(row.y);
    return { ...row, x0: ends.x[i], x1: ends.x[i + 1], y0: ends.y[j], y1: ends.y[j + 1] };
  };
  const channel = (of, field, coordinate) =>
    ({ field, type: "quantitative", scale: placeScale(log[of], frames[of]), axis: axis(coordinate.values, titleOf(coordinate)) });
  const cells = { x: channel("x", "x0", xs), x2: { field: "x1" }, y: channel("y", "y0", ys), y2: { field: "y1" } };
  const dots = { x: channel("x", "x", xs), y: channel("y", "y", ys) };
  const colour = {
    field: "value", type: "quantitative", scale: colourScale(known.map((row) => row.value)),
    legend: { title: narrow() ? found.lines : found.label, orient: "top", gradientLength: narrow() ? 180 : 260, format: ".3~g" },
  };
  const mark = grid ? { type: "rect", stroke: "white", strokeWidth: 0.5 } : { type: "circle", size: 220, opacity: 1 };
  const around = grid ? { type: "rect", fill: null, stroke: DATA.palette.chosen, strokeWidth: 4 }
    : { type: "point", filled: false, size: 380, stroke: DATA.palette.chosen, strokeWidth: 4 };
  return [
    { name: "points", mark: { ...mark, cursor: "pointer" }, data: { values: known.map(place) },
      encoding: { ...(grid ? cells : dots), ...(known.length ? { color: colour } : {}), ...TOOLTIP } },
    { name: "blanks", mark: { type: "point", shape: "M-1,-1L1,1M1,-1L-1,1", size: 40, stroke: DATA.palette.aside, strokeWidth: 2, cursor: "pointer" },
      data: { values: rows.filter((row) => !known.includes(row)) }, encoding: { ...dots, ...TOOLTIP } },
    ...theoryLayers(frames, dots),
    { name: "around", mark: { ...around, clip: false }, data: { name: "chosen" },
      transform: grid ? bounds(x, y, ends) : [], encoding: grid ? cells : dots },
  ];
}

// The borders of the chosen cell, looked up by its centre, so that the data can change alone.
function bounds(x, y, ends) {
  const nearest = (of, list, shift) =>
    `[${ends[of].slice(shift, shift + list.length).join(",")}][indexof([${list.join(",")}], datum.${of})]`;
  return [["x0", "x", x, 0], ["x1", "x", x, 1], ["y0", "y", y, 0], ["y1", "y", y, 1]].map(
    ([as, of, list, shift]) => ({ calculate: nearest(of, list, shift), as }));
}

// Lines of the theory that belong to this plane, and to the value of d that is shown.
function theoryLayers(frames, channels) {
  const d = state.sliders.d !== undefined && slidersNeeded().includes("d") ? state.sliders.d : DATA.fixed.d;
  const values = [];
  for (const line of DATA.lines) {
    if (line.at !== null && line.at !== d) continue;
    const [first, second] = line.axes;
    let ends;
    if (!second && first === state.x && !(state.y === "d")) ends = frames.y.map((y) => [line.value, y]);
    else if (!second && first === state.y && !(state.x === "d")) ends = frames.x.map((x) => [x, line.value]);
    else if (first === state.x && second === state.y) ends = line.points;
    else if (first === state.y && second === state.x) ends = line.points.map(([x, y]) => [y, x]);
    else continue;
    ends.forEach(([x, y], n) => values.push({ x, y, n, line: `${line.label} ${line.source}` }));
  }
  if (!values.length) return [];
  const labels = [...new Set(values.map((row) => row.line))];
  const dash = { field: "line", sort: labels, scale: { domain: labels, range: [[6, 4], [1, 0], [2, 3], [10, 3, 2, 3]] } };
  const base = { x: channels.x, y: channels.y, order: { field: "n" }, detail: { field: "line" } };
  const legend = { title: "theory: exponents, not constants", orient: "bottom", direction: "vertical", columns: 1,
    symbolStrokeColor: "black", symbolSize: 400 };
  return [
    { mark: { type: "line", clip: true, color: "white", strokeWidth: 4, tooltip: null }, data: { values }, encoding: base },
    { name: "theory", mark: { type: "line", clip: true, color: "black", strokeWidth: 1.5, tooltip: null },
      data: { values }, encoding: { ...base, strokeDash: { ...dash, type: "nominal", legend } } },
  ];
}

function againstLayers(rows, known, found) {
  const xs = coordinateOf(state.x);
  const log = isLog(xs.values);
  const all = known.flatMap((row) => [row.value, row.low, row.high]).filter(Number.isFinite);
  const x = { field: "x", type: "quantitative", axis: axis(xs.values, titleOf(xs)),
    scale: placeScale(log, frame(xs.values, log)) };
  const y = { field: "value", type: "quantitative", title: found.label,
    scale: valueScale(isLog(all)) };
  const blue = DATA.palette.adversarial;
  return [
    { mark: { type: "rule", color: blue, strokeWidth: 1.5 }, data: { values: known.filter((row) => Number.isFinite(row.low)) },
      encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" } } },
    { name: "points", mark: { type: "circle", color: blue, size: 120, opacity: 1, cursor: "pointer" }, data: { values: known },
      encoding: { x, y, ...TOOLTIP } },
    { name: "around", mark: { type: "point", size: 300, stroke: DATA.palette.chosen, strokeWidth: 3 },
      data: { name: "chosen" }, encoding: { x, y } },
  ];
}

// Arrow keys go to the nearest point in their direction.
function step(key) {
  const found = quantity(state.variable, state.labels);
  const rows = diagramRows(chosenPoints(), found);
  const here = rows.find((row) => row.point === state.point) || rows[0];
  const [along, across, sign] = { ArrowRight: ["x", "y", 1], ArrowLeft: ["x", "y", -1], ArrowUp: ["y", "x", 1], ArrowDown: ["y", "x", -1] }[key];
  const rank = (name, value) => sorted(rows.map((row) => row[name])).indexOf(value);
  const ahead = rows.filter((row) => sign * (rank(along, row[along]) - rank(along, here[along])) > 0);
  const cost = (row) => Math.abs(rank(along, row[along]) - rank(along, here[along]))
    + 100 * (state.y ? Math.abs(rank(across, row[across]) - rank(across, here[across])) : 0);
  ahead.sort((a, b) => cost(a) - cost(b));
  if (ahead.length) choose(ahead[0].point);
}
