/** Where a pixel of the picture is on the screen. */

/**
 * The rectangle of a picture that is fitted whole into a box, as CSS `object-fit: contain` does it.
 * @returns {{left: number, top: number, width: number, height: number}}
 */
export function contain([pictureWidth, pictureHeight], [boxWidth, boxHeight]) {
  const scale = Math.min(boxWidth / pictureWidth, boxHeight / pictureHeight);
  const width = pictureWidth * scale;
  const height = pictureHeight * scale;
  return { left: (boxWidth - width) / 2, top: (boxHeight - height) / 2, width, height };
}

/**
 * A function from keypoint coordinates to the screen. A keypoint names pixel centres by whole numbers, a canvas names
 * pixel corners: half a pixel lies between them.
 * @param {number[]} size Width and height of the picture that the coordinates are of.
 * @param {{left: number, top: number, width: number, height: number}} area Where that picture is seen.
 * @param {boolean} mirrored Left and right exchanged.
 */
export function placer([width, height], area, mirrored = false) {
  return ([x, y]) => {
    const across = ((x + 0.5) / width) * area.width;
    return [
      area.left + (mirrored ? area.width - across : across),
      area.top + ((y + 0.5) / height) * area.height,
    ];
  };
}
