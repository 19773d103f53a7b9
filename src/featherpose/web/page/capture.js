/** From what is on screen to a JPEG small enough to send. */

import { Problem } from "./problems.js";

/** Size after shrinking the longer side to `longSide`; never enlarges. */
export function shrunk(width, height, longSide) {
  const scale = Math.min(1, longSide / Math.max(width, height));
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

export class Shrinker {
  #canvas = document.createElement("canvas");
  // No alpha: JPEG has none, and the browser need not blend.
  #context = this.#canvas.getContext("2d", { alpha: false });

  /**
   * Freeze the picture now and encode it meanwhile.
   * @param {CanvasImageSource} source Video, image or bitmap.
   * @param {number[]} size Its width and height in pixels.
   * @param {number} longSide Longest side to send, pixels.
   * @param {number} [quality] 0 to 1.
   * @returns {Promise<Blob>}
   */
  jpeg(source, size, longSide, quality = 0.85) {
    const [width, height] = shrunk(...size, longSide);
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    this.#context.imageSmoothingQuality = "medium";
    this.#context.drawImage(source, 0, 0, width, height);
    return new Promise((resolve, reject) => {
      const done = (blob) => (blob ? resolve(blob) : reject(new Problem("The browser cannot encode a JPEG.")));
      this.#canvas.toBlob(done, "image/jpeg", quality);
    });
  }
}
