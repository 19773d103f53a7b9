/** Skeletons on a canvas: a dark edge that shows on any background, the person's colour, white joints, the id. */

import { inkOn, personColour } from "./colours.js";

const EDGE = "rgb(16 20 20 / 85%)";
const JOINT = "#fff";
const WIDTH_OF_SIZE = 0.0135;

/**
 * @param {CanvasRenderingContext2D} context
 * @param {ReturnType<typeof import("./people.js").visiblePeople>} people
 * @param {{limbs: number[][]}} skeleton
 * @param {(point: number[]) => number[]} place From the picture to canvas pixels.
 * @param {{ratio: number, ids: boolean, dimUnnumbered: boolean, bounds: number[]}} how `ratio` is canvas pixels per
 *   CSS pixel, `bounds` width and height of the canvas; with `dimUnnumbered` people whom the tracker has not confirmed
 *   yet are faint.
 */
export function drawPeople(context, people, skeleton, place, how) {
  const figures = people.map((person) => figure(person, skeleton.limbs, place)).filter((one) => one.lines.length > 0);
  // Small, that is far, people first: near ones stand before them.
  figures.sort((a, b) => a.extent - b.extent);
  context.lineCap = "round";
  context.lineJoin = "round";
  for (const one of figures) {
    context.globalAlpha = how.dimUnnumbered && one.person.id === null ? 0.45 : 1;
    drawFigure(context, one, how.ratio);
  }
  context.globalAlpha = 1;
  if (!how.ids) return;
  for (const one of figures) {
    if (one.person.id !== null) drawLabel(context, one, how);
  }
}

function figure(person, limbs, place) {
  const points = person.keypoints.map((point) => point && place(point));
  const whole = limbs.filter(([a, b]) => points[a] && points[b]);
  const used = new Set(whole.flat()); // a joint without a limb is a stray dot
  const joints = points.filter((point, index) => point && used.has(index));
  const xs = joints.map(([x]) => x);
  const ys = joints.map(([, y]) => y);
  const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  return {
    person,
    lines: whole.map(([a, b]) => [points[a], points[b]]),
    joints,
    box,
    extent: joints.length > 0 ? Math.max(box[2] - box[0], box[3] - box[1]) : 0,
  };
}

function drawFigure(context, { person, lines, joints, extent }, ratio) {
  const width = Math.min(Math.max(extent * WIDTH_OF_SIZE, 1.5 * ratio), 9 * ratio);
  const edge = Math.max(1.5 * ratio, width * 0.35);
  const radius = width * 0.72;
  const path = new Path2D();
  for (const [[x1, y1], [x2, y2]] of lines) {
    path.moveTo(x1, y1);
    path.lineTo(x2, y2);
  }
  context.strokeStyle = EDGE;
  context.lineWidth = width + 2 * edge;
  context.stroke(path);
  disks(context, joints, radius + edge, EDGE);
  context.strokeStyle = personColour(person.id);
  context.lineWidth = width;
  context.stroke(path);
  disks(context, joints, radius, JOINT);
}

function disks(context, points, radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  for (const [x, y] of points) {
    context.moveTo(x + radius, y);
    context.arc(x, y, radius, 0, 2 * Math.PI);
  }
  context.fill();
}

function drawLabel(context, { person, box }, { ratio, bounds }) {
  const size = 13 * ratio;
  const pad = 5 * ratio;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const text = String(person.id);
  const width = context.measureText(text).width + 2 * pad;
  const height = size + pad;
  // Above the head, and inside the canvas where the head is not.
  const left = clamp((box[0] + box[2] - width) / 2, 0, bounds[0] - width);
  const top = clamp(box[1] - height - 6 * ratio, 0, bounds[1] - height);
  context.fillStyle = personColour(person.id);
  context.strokeStyle = EDGE;
  context.lineWidth = 1.5 * ratio;
  context.beginPath();
  context.roundRect(left, top, width, height, height / 2);
  context.stroke();
  context.fill();
  context.fillStyle = inkOn(person.id);
  context.fillText(text, left + pad, top + height / 2 + 0.5 * ratio);
}

function clamp(value, low, high) {
  return Math.max(low, Math.min(value, high));
}
