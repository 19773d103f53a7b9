/** Who is to be seen in a message, by the thresholds of the sliders. */

/**
 * @param {object} message {"people": [{"id", "score", "keypoints": [[x, y, score] or null, …]}, …]}
 * @param {{keypointScore: number, personScore: number}} thresholds
 * @returns {{id: ?number, score: number, keypoints: (number[]|null)[]}[]} Keypoints in pixels of message.size.
 */
export function visiblePeople(message, { keypointScore, personScore }) {
  return message.people
    .filter((person) => person.score >= personScore)
    .map(({ id, score, keypoints }) => ({
      id,
      score,
      keypoints: keypoints.map((point) =>
        point && point[0] !== null && point[1] !== null && point[2] >= keypointScore ? point : null,
      ),
    }))
    .filter((person) => person.keypoints.some(Boolean));
}
