/** People on a canvas: who is shown by the thresholds, their colors, and their skeletons. */

const EDGE = "rgb(16 20 20 / 85%)";
const JOINT = "#fff";
const WIDTH_OF_SIZE = 0.0135;

/**
 * @param {CanvasRenderingContext2D} context
 * @param {ReturnType<typeof visiblePeople>} people
 * @param {{limbs: number[][]}} skeleton
 * @param {(point: number[]) => number[]} place From the image to canvas pixels.
 * @param {{ratio: number, ids: boolean, dimUnnumbered: boolean, bounds: number[]}} how `ratio` is canvas pixels per
 *   CSS pixel, `bounds` width and height of the canvas; with `dimUnnumbered` people whom the tracker has not confirmed
 *   yet are faint.
 */
export function drawPeople(context, people, skeleton, place, how) {
  const figures = people.map((person) => figure(person, skeleton.limbs, place)).filter((one) => one.lines.length > 0);
  // Small (far) people first, so that near people are drawn over them.
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
  context.strokeStyle = personColor(person.id);
  context.lineWidth = width;
  context.stroke(path);
  disks(context, joints, radius, JOINT);
}

function disks(context, points, radius, color) {
  context.fillStyle = color;
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
  const text = person.motion
    ? `${person.id}: ${person.motion.count} (${Math.round(person.motion.angle_deg)}°)`
    : String(person.id);
  const width = context.measureText(text).width + 2 * pad;
  const height = size + pad;
  // Above the head, and inside the canvas where the head is not.
  const left = clamp((box[0] + box[2] - width) / 2, 0, bounds[0] - width);
  const top = clamp(box[1] - height - 6 * ratio, 0, bounds[1] - height);
  context.fillStyle = personColor(person.id);
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

/**
 * @param {object} message {"people": [{"id", "score", "keypoints": [[x, y, score] or null, …]}, …]}
 * @param {{keypointCertainty: number, personCertainty: number}} thresholds 0..1.
 * @returns {{id: ?number, score: number, motion: ?{exercise: string, count: number, angle_deg: number},
 *   keypoints: (number[]|null)[]}[]} Keypoints in pixels of message.size.
 */
export function visiblePeople(message, { keypointCertainty, personCertainty }) {
  return message.people
    .filter((person) => certainty(person.keypoints) >= personCertainty)
    .map(({ id, score, keypoints, motion }) => ({
      id,
      score,
      motion,
      keypoints: keypoints.map((point) => (isFound(point) && point[2] >= keypointCertainty ? point : null)),
    }))
    .filter((person) => person.keypoints.some(Boolean));
}

/**
 * How sure a person is, 0..1: the mean score of the found keypoints times the root of their share, as the tracker
 * judges. Unlike the person's score it means the same for every model.
 */
export function certainty(keypoints) {
  const found = keypoints.filter(isFound);
  const sum = found.reduce((total, [, , score]) => total + score, 0);
  return found.length === 0 ? 0 : sum / Math.sqrt(found.length * keypoints.length);
}

function isFound(point) {
  return point !== null && point[0] !== null && point[1] !== null;
}

// The golden ratio keeps consecutive numbers far apart on the color wheel.
const GOLDEN = 0.618034;

/** Hue of a person or track in degrees. */
export function hue(id) {
  return 360 * ((0.08 + id * GOLDEN) % 1);
}

/** HSV (hue, 0.68, 1), which CSS writes as HSL; gray for somebody without id. */
export function personColor(id) {
  return id === null ? "hsl(0 0% 82%)" : `hsl(${hue(id).toFixed(1)} 100% 66%)`;
}

/** Ink that reads well on that color: by luma (ITU-R BT.601) dark or white. */
export function inkOn(id) {
  return id === null || luma(hue(id)) > 0.55 ? "#12201f" : "#ffffff";
}

function luma(degrees) {
  // One channel of HSV with full value: 1 around its own hue, 1 - saturation far from it.
  const channel = (n) => {
    const k = (n + degrees / 60) % 6;
    return 1 - 0.68 * Math.max(0, Math.min(k, 4 - k, 1));
  };
  return 0.299 * channel(5) + 0.587 * channel(3) + 0.114 * channel(1);
}
