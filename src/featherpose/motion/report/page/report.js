"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const video = $("video"), overlay = $("overlay");
const people = data.report.people;
const JOINTS = ["hip", "knee", "ankle", "shoulder", "elbow", "neck", "trunk_lean"];
const COLORS = ["#ffd166", "#06d6a0", "#ef476f", "#8ecae6", "#f78c6b", "#cdb4db"];
const last = data.times.length - 1;
const hasVideo = data.clip !== null && video.getAttribute("src") !== "";
let row = 0, chosen = 0, playing = false, cursors = [], marks = [];

const element = (name, text, attributes = {}) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const shape = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const words = (name) => name.replaceAll("_", " ");

function show(measure) {
  if (!measure || measure.value === null) return "unknown";
  const unit = measure.unit ? ` ${measure.unit}` : "";
  if (measure.uncertainty === null) return `${+measure.value.toPrecision(4)}${unit}`;
  const digits = measure.uncertainty >= 1 ? 1 : Math.min(3, Math.max(1, Math.ceil(1 - Math.log10(measure.uncertainty || 0.01))));
  return `${measure.value.toFixed(digits)} ± ${measure.uncertainty.toFixed(digits)}${unit}`;
}

// A number of a repetition, named with its unit, and its uncertainty.
function showOf(repetition, name) {
  if (repetition[name] === null) return "–";
  const unit = name.endsWith("_deg") ? "deg" : "s";
  return show({ value: repetition[name], unit, uncertainty: repetition.uncertainty[name] });
}

// The row at a time: the last one that is not after it.
function rowAt(time) {
  let low = 0, high = last;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (data.times[middle] <= time + 1e-6) low = middle; else high = middle - 1;
  }
  return low;
}

function goTo(wanted, seek = true) {
  row = Math.max(0, Math.min(last, wanted));
  $("seek").value = row;
  $("now").textContent = `frame ${data.frames[row]}, ${data.times[row].toFixed(2)} s`;
  document.body.dataset.row = row;
  if (seek && hasVideo && data.clip.rows[row] >= 0) video.currentTime = (data.clip.rows[row] + 0.5) / data.clip.fps;
  const x = position(data.times[row]);
  for (const { line, label, name } of cursors) {
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    label.textContent = ["left", "right", ""].map((side) => {
      const value = (data.angles[chosen][side ? `${side}_${name}` : name] || [])[row];
      return value === undefined || value === null ? "" : `${side} ${value.toFixed(0)}°`;
    }).join("  ");
  }
  for (const line of document.querySelectorAll("tr[data-row]")) {
    line.classList.toggle("current", +line.dataset.row <= row && row <= +line.dataset.end);
  }
  draw();
}

const position = (time) => {
  const lasts = data.times[last] - data.times[0];
  return lasts > 0 ? 1000 * (time - data.times[0]) / lasts : 0;
};

function draw() {
  const context = overlay.getContext("2d");
  const scale = overlay.width / data.size[0];
  context.clearRect(0, 0, overlay.width, overlay.height);
  data.keypoints.forEach((rows, person) => {
    const points = rows[row];
    context.strokeStyle = context.fillStyle = COLORS[person % COLORS.length];
    context.lineWidth = person === chosen ? 4 : 2;
    context.globalAlpha = person === chosen ? 1 : 0.6;
    for (const [a, b] of data.limbs) {
      if (points[2 * a] === null || points[2 * b] === null) continue;
      context.beginPath();
      context.moveTo(points[2 * a] * scale, points[2 * a + 1] * scale);
      context.lineTo(points[2 * b] * scale, points[2 * b + 1] * scale);
      context.stroke();
    }
    const top = highest(points);
    if (top !== null) {
      context.font = "16px system-ui";
      context.fillText(`${people[person].id}`, top[0] * scale + 6, top[1] * scale - 6);
    }
  });
  context.globalAlpha = 1;
  context.fillStyle = "#fff";
  for (const [x, y] of marks) context.fillRect(x * scale - 4, y * scale - 4, 8, 8);
}

function highest(points) {
  let best = null;
  for (let k = 0; k < points.length; k += 2) {
    if (points[k] !== null && (best === null || points[k + 1] < best[1])) best = [points[k], points[k + 1]];
  }
  return best;
}

function nearest(x, y) {
  let best = null, least = Infinity;
  data.keypoints.forEach((rows, person) => {
    const points = rows[row];
    for (let k = 0; k < points.length; k += 2) {
      if (points[k] === null) continue;
      const apart = Math.hypot(points[k] - x, points[k + 1] - y);
      if (apart < least) [least, best] = [apart, person];
    }
  });
  return best;
}

function curve(values) {
  let path = "", pen = false;
  values.forEach((value, i) => {
    if (value === null) { pen = false; return; }
    path += `${pen ? "L" : "M"}${position(data.times[i]).toFixed(1)} ${value}`;
    pen = true;
  });
  return path;
}

function drawCurves() {
  const place = $("curves");
  place.replaceChildren();
  cursors = [];
  const person = people[chosen], angles = data.angles[chosen];
  for (const joint of JOINTS) {
    const names = [`left_${joint}`, `right_${joint}`, joint].filter((name) => name in angles);
    const known = names.flatMap((name) => angles[name]).filter((value) => value !== null);
    if (!known.length) continue;
    const low = Math.min(...known) - 5, high = Math.max(...known) + 5;
    const svg = shape("svg", { viewBox: `0 ${-high} 1000 ${high - low}`, preserveAspectRatio: "none", "data-joint": joint });
    const upside = shape("g", { transform: "scale(1 -1)" });
    for (const jump of person.jumps) {
      upside.append(shape("rect", { class: "air", x: position(jump.takeoff_s), y: low, height: high - low,
        width: position(jump.landing_s) - position(jump.takeoff_s) }));
    }
    for (const r of person.repetitions?.each ?? []) {
      upside.append(shape("rect", { class: "span", x: position(r.start_s), y: low, height: high - low,
        width: position(r.end_s) - position(r.start_s) }));
    }
    const events = person.gait.events.map((event) => [event.time_s, `${event.side} ${event.kind}`]);
    for (const repetition of person.repetitions?.each ?? []) events.push([repetition.turn_s, "repetition"]);
    for (const [time, kind] of events) {
      const x = position(time);
      upside.append(shape("line", { class: `event ${kind}`, x1: x, x2: x, y1: low, y2: high }));
    }
    for (const name of names) {
      const side = name.startsWith("left_") ? "left" : name.startsWith("right_") ? "right" : "middle";
      if (data.raw_angles) upside.append(shape("path", { class: `raw ${side}`, d: curve(data.raw_angles[chosen][name]) }));
      upside.append(shape("path", { class: side, d: curve(angles[name]) }));
    }
    const line = shape("line", { class: "cursor", x1: 0, x2: 0, y1: low, y2: high });
    upside.append(line);
    svg.append(upside);
    const figure = element("figure"), caption = element("figcaption");
    const label = element("span");
    caption.append(element("span", `${words(joint)}, degrees (${low.toFixed(0)} to ${high.toFixed(0)})`), label);
    figure.append(caption, svg);
    place.append(figure);
    cursors.push({ line, label, name: joint });
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      stop();
      goTo(rowAt(data.times[0] + share * (data.times[last] - data.times[0])));
    });
  }
  const axis = element("div", undefined, { id: "axis" });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    axis.append(element("span", `${(data.times[0] + share * (data.times[last] - data.times[0])).toFixed(2)} s`));
  }
  if (cursors.length) place.append(axis);
}

function table(title, head, rows) {
  if (!rows.length) return;
  const block = element("div"), made = element("table"), line = element("tr");
  for (const cell of head) line.append(element("th", cell, { scope: "col" }));
  made.append(line);
  for (const { cells, from, to } of rows) {
    const entry = element("tr");
    for (const cell of cells) entry.append(element("td", cell));
    if (from !== undefined) {
      entry.dataset.row = data.frames.indexOf(from);
      entry.dataset.end = data.frames.indexOf(to);
      entry.addEventListener("click", () => { stop(); goTo(+entry.dataset.row); });
    }
    made.append(entry);
  }
  block.append(element("h2", title), made);
  $("tables").append(block);
}

function drawTables() {
  const person = people[chosen];
  $("tables").replaceChildren();
  const reps = person.repetitions;
  if (reps) {
    table(`${words(reps.exercise)}: ${reps.count} repetitions${reps.guessed ? " (guessed)" : ""}`,
      ["", "turn, frame", "depth", "movement", "out", "back", "left", "right"],
      reps.each.map((r, i) => ({ from: r.start_frame, to: r.end_frame, cells: [`${i + 1}`, `${r.turn_frame}`,
        ...["depth_deg", "range_deg", "out_s", "back_s", "left_deg", "right_deg"].map((name) => showOf(r, name))] })));
  }
  table(`Gait (${words(person.gait.method)})`, ["measure", "value"],
    Object.entries(person.gait.measures).map(([name, measure]) => ({ cells: [words(name), show(measure)] })));
  table("Jumps", ["takeoff", "flight", "height by flight", "rise of the hips", "landing"],
    person.jumps.map((jump) => ({ from: jump.takeoff_frame, to: jump.landing_frame,
      cells: [`${jump.takeoff_s.toFixed(2)} s`, show(jump.flight), show(jump.height), show(jump.rise),
        jump.level.value ? `${show(jump.level)} higher` : "same level"] })));
  table("Angles", ["joint", "least", "greatest", "range of motion"],
    Object.entries(person.angles).map(([name, a]) => ({ cells: [words(name), show(a.min), show(a.max), show(a.range)] })));
  table("Symmetry of ranges (left more is positive)", ["joint", "index"],
    Object.entries(person.symmetry).map(([name, measure]) => ({ cells: [words(name), show(measure)] })));
  table("Travel", ["measure", "value"],
    Object.entries(person.travel).map(([name, measure]) => ({ cells: [words(name), show(measure)] })));
  table("Splits", ["distance", "time"],
    Object.entries(person.splits_s).map(([name, measure]) => ({ cells: [name, show(measure)] })));
  table("On the field", ["person", "distance", "mean speed", "top speed"],
    data.report.field.map((t) => ({ cells: [`${t.id}`, show(t.distance), show(t.mean_speed), show(t.top_speed)] })));
}

function answer(person) {
  const said = [];
  const reps = person.repetitions;
  if (reps && reps.count) {
    const deep = reps.each.map((r) => r.depth_deg);
    said.push(`${reps.count} ${words(reps.exercise)} repetitions, ${Math.min(...deep).toFixed(0)} to ${Math.max(...deep).toFixed(0)}° deep`);
    if (reps.tempo_s) said.push(`one every ${show({ value: reps.tempo_s, unit: "s", uncertainty: reps.tempo_uncertainty_s })}`);
  }
  if (person.gait.steps) said.push(`${person.gait.steps} steps at ${show(person.gait.measures.cadence)}`);
  if (person.gait.measures.speed) said.push(show(person.gait.measures.speed));
  if (person.jumps.length) {
    const heights = person.jumps.map((jump) => jump.height.value).filter((height) => height !== null);
    said.push(`${person.jumps.length} jumps${heights.length ? `, best ${Math.max(...heights).toFixed(2)} m` : ""}`);
  }
  const sides = ["left", "right"].map((side) => (reps?.each ?? []).map((r) => r[`${side}_deg`]).filter((v) => v !== null));
  if (sides.every((side) => side.length)) {
    const [left, right] = sides.map((side) => side.reduce((a, b) => a + b, 0) / side.length);
    said.push(`left ${left.toFixed(0)}°, right ${right.toFixed(0)}° at the turn`);
    return said.join("; ");
  }
  const uneven = Object.entries(person.symmetry).sort((a, b) => Math.abs(b[1].value) - Math.abs(a[1].value))[0];
  if (uneven) said.push(`least symmetric: ${words(uneven[0])}, ${show(uneven[1])}`);
  return said.join("; ");
}

function choose(person) {
  chosen = person;
  const one = people[person];
  $("person").value = person;
  $("person-option").textContent = `--person ${one.id}`;
  $("answer").textContent = answer(one);
  $("limits").replaceChildren(...one.limits.map((limit) => element("li", limit)));
  drawCurves();
  drawTables();
  goTo(row);
}

function stop() {
  playing = false;
  if (hasVideo) video.pause();
  $("play").textContent = "Play";
}

function tick(started, from) {
  if (!playing) return;
  if (hasVideo) {
    const frame = Math.floor(video.currentTime * data.clip.fps + 1e-6);
    const at = data.clip.rows.indexOf(frame);
    if (at >= 0) goTo(at, false);
    if (video.ended) { stop(); return; }
  } else {
    goTo(rowAt(data.times[from] + (performance.now() - started) / 1000), false);
    if (row >= last) { stop(); return; }
  }
  requestAnimationFrame(() => tick(started, from));
}

function play() {
  if (playing) { stop(); return; }
  if (row >= last) goTo(0);
  playing = true;
  $("play").textContent = "Pause";
  if (hasVideo) video.play();
  tick(performance.now(), row);
}

overlay.width = 960;
overlay.height = Math.round(960 * data.size[1] / data.size[0]);
if (!hasVideo) video.hidden = true;
const rate = data.report.rate_hz;
$("facts").textContent = `${data.report.frames} frames, ${data.report.duration_s.toFixed(2)} s` +
  (rate ? `, ${+rate.toFixed(2)} frames a second` : "") + `, lengths in ${data.report.unit}` +
  (data.report.scale ? ` (${data.report.scale.source}, ±${(100 * data.report.scale.uncertainty_share).toFixed(0)} %)` : "");
people.forEach((person, i) => $("person").append(element("option", `${person.id} (${(100 * person.seen_share).toFixed(0)} % seen)`, { value: i })));
for (const step of data.report.steps) $("steps").append(element("li", step.text));
$("seek").max = last;
$("seek").addEventListener("input", () => { stop(); goTo(+$("seek").value); });
$("person").addEventListener("change", () => choose(+$("person").value));
$("play").addEventListener("click", play);
$("back").addEventListener("click", () => { stop(); goTo(row - 1); });
$("forth").addEventListener("click", () => { stop(); goTo(row + 1); });
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select")) return;
  if (event.key === "ArrowLeft") { stop(); goTo(row - 1); }
  if (event.key === "ArrowRight") { stop(); goTo(row + 1); }
  if (event.key === " " && event.target.tagName !== "BUTTON") { event.preventDefault(); play(); }
});
overlay.addEventListener("click", (event) => {
  const box = overlay.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width * data.size[0], y = (event.clientY - box.top) / box.height * data.size[1];
  if ($("marking").checked) {
    marks.push([Math.round(x), Math.round(y)]);
    $("field-option").textContent = `--field '${marks.map(([u, v]) => `${u},${v}=X,Y`).join(" ")}'`;
    draw();
    return;
  }
  const person = nearest(x, y);
  if (person !== null) choose(person);
});
$("marking").addEventListener("change", () => {
  if (!$("marking").checked) { marks = []; $("field-option").textContent = ""; draw(); }
});
if (people.length) choose(0);
