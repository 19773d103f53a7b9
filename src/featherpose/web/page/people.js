/** Who is to be seen in a message, by the thresholds of the sliders. */

/**
 * @param {object} message {"people": [{"id", "score", "keypoints": [[x, y, score] or null, …]}, …]}
 * @param {{keypointCertainty: number, personCertainty: number}} thresholds 0..1.
 * @returns {{id: ?number, score: number, keypoints: (number[]|null)[]}[]} Keypoints in pixels of message.size.
 */
export function visiblePeople(message, { keypointCertainty, personCertainty }) {
  return message.people
    .filter((person) => certainty(person.keypoints) >= personCertainty)
    .map(({ id, score, keypoints }) => ({
      id,
      score,
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
