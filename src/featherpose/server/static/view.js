/** The stage: the image, and over it a canvas of the screen's own pixels. */

import { drawPeople } from "./draw.js";

export class View {
  #stage;
  #overlay;
  #context;
  #kind = "none";
  #ratio = 1;
  #due = 0;
  #shown = null; // what was drawn last, to draw it again after a change of size or thresholds
  #afterDrawing = [];
  mirrored = false;
  ids = true;
  skeletons = true;

  /** @param {{stage, video, image, frame, overlay}} elements */
  constructor({ stage, video, image, frame, overlay }) {
    this.#stage = stage;
    this.#overlay = overlay;
    this.#context = overlay.getContext("2d");
    this.media = { video, image, frame };
    this.#watchSize();
    for (const type of ["loadedmetadata", "resize"]) video.addEventListener(type, () => this.#fit());
    image.addEventListener("load", () => this.#fit());
  }

  /** Show one medium - video, image, frame - or "none". */
  show(kind) {
    this.#kind = kind;
    this.#stage.dataset.media = kind;
    this.clear();
    this.#fit();
  }

  /** Leave the image out. */
  set skeletonOnly(value) {
    this.#stage.toggleAttribute("data-skeleton-only", value);
  }

  /** The very image that the people to be drawn next were found in, onto the middle layer. */
  paint(bitmap) {
    const { frame } = this.media;
    if (this.#kind === "video") this.#stage.toggleAttribute("data-in-step", true);
    if (frame.width !== bitmap.width || frame.height !== bitmap.height) {
      frame.width = bitmap.width;
      frame.height = bitmap.height;
      this.#fit();
    }
    frame.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
  }

  /**
   * Draw people at the next refresh of the screen.
   * @param {object[]} people Of `visiblePeople`.
   * @param {object} skeleton
   * @param {number[]} size Width and height of the image that their coordinates are of.
   * @param {boolean} tracked Whether people get ids here at all.
   * @returns {Promise<number>} When they were drawn, milliseconds of performance.now().
   */
  draw(people, skeleton, size, tracked) {
    this.#shown = { people, skeleton, size, tracked };
    this.#fit(size);
    if (document.hidden) return Promise.resolve(performance.now()); // a hidden page has no refresh to wait for
    return new Promise((resolve) => {
      this.#afterDrawing.push(resolve);
      this.#schedule();
    });
  }

  /** Show the video itself again instead of the frames painted over it. */
  liveAgain() {
    this.#stage.toggleAttribute("data-in-step", false);
  }

  clear() {
    this.liveAgain();
    this.#shown = null;
    this.#schedule();
  }

  redraw() {
    this.#schedule();
  }

  #schedule() {
    this.#due ||= requestAnimationFrame(() => {
      this.#due = 0;
      this.#paintOverlay();
      const now = performance.now();
      for (const resolve of this.#afterDrawing.splice(0)) resolve(now);
    });
  }

  #paintOverlay() {
    const { width, height } = this.#overlay;
    this.#context.clearRect(0, 0, width, height);
    if (!this.#shown || !this.skeletons) return;
    const { people, skeleton, size, tracked } = this.#shown;
    const area = contain(this.#naturalSize() ?? size, [width, height]);
    const place = placer(size, area, this.mirrored && this.#kind === "video");
    const how = { ratio: this.#ratio, ids: this.ids && tracked, dimUnnumbered: tracked, bounds: [width, height] };
    drawPeople(this.#context, people, skeleton, place, how);
  }

  #naturalSize() {
    const { video, image, frame } = this.media;
    if (this.#kind === "video" && video.videoWidth) return [video.videoWidth, video.videoHeight];
    if (this.#kind === "image" && image.naturalWidth) return [image.naturalWidth, image.naturalHeight];
    return null; // a source is as large as its coordinates say, whatever the size of its JPEG
  }

  /** Give the stage the shape of the image, as far as the window has room for it. */
  #fit(size = null) {
    const { frame } = this.media;
    const [width, height] = this.#naturalSize() ?? size ?? [frame.width, frame.height];
    const shape = this.#kind === "none" ? "" : String(width / height);
    if (this.#stage.style.getPropertyValue("--shape") !== shape) this.#stage.style.setProperty("--shape", shape);
  }

  #watchSize() {
    const apply = ([entry]) => {
      // In the screen's own pixels, which the browser knows best where they are fractions of CSS pixels.
      const [exact] = entry.devicePixelContentBoxSize ?? [];
      const [css] = entry.contentBoxSize;
      const width = screenPixels(css.inlineSize, exact?.inlineSize);
      const height = screenPixels(css.blockSize, exact?.blockSize);
      this.#ratio = css.inlineSize > 0 ? width / css.inlineSize : 1;
      if (this.#overlay.width === width && this.#overlay.height === height) return;
      this.#overlay.width = width;
      this.#overlay.height = height;
      this.#paintOverlay(); // at once: a resized canvas is empty
    };
    const observer = new ResizeObserver(apply);
    try {
      observer.observe(this.#overlay, { box: "device-pixel-content-box" });
    } catch {
      observer.observe(this.#overlay);
    }
  }
}

/** The browser's value, unless it ignores the screen's pixel ratio, as emulated phones do. */
function screenPixels(css, exact) {
  const computed = css * devicePixelRatio;
  return exact !== undefined && Math.abs(exact - computed) <= 1 ? exact : Math.round(computed);
}

/**
 * The rectangle of an image that is fitted whole into a box, as CSS `object-fit: contain` does it.
 * @returns {{left: number, top: number, width: number, height: number}}
 */
export function contain([imageWidth, imageHeight], [boxWidth, boxHeight]) {
  const scale = Math.min(boxWidth / imageWidth, boxHeight / imageHeight);
  const width = imageWidth * scale;
  const height = imageHeight * scale;
  return { left: (boxWidth - width) / 2, top: (boxHeight - height) / 2, width, height };
}

/**
 * A function from keypoint coordinates to the screen. A keypoint names pixel centers by whole numbers, a canvas names
 * pixel corners: half a pixel lies between them.
 * @param {number[]} size Width and height of the image that the coordinates are of.
 * @param {{left: number, top: number, width: number, height: number}} area Where that image is seen.
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
