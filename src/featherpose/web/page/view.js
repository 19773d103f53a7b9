/** The stage: the picture, and over it a canvas of the screen's own pixels. */

import { contain, placer } from "./place.js";
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

  /** @param {{stage, video, picture, frame, overlay}} elements */
  constructor({ stage, video, picture, frame, overlay }) {
    this.#stage = stage;
    this.#overlay = overlay;
    this.#context = overlay.getContext("2d");
    this.media = { video, picture, frame };
    this.#watchSize();
    for (const type of ["loadedmetadata", "resize"]) video.addEventListener(type, () => this.#fit());
    picture.addEventListener("load", () => this.#fit());
  }

  /** Show one medium - video, picture, frame - or "none". */
  show(kind) {
    this.#kind = kind;
    this.#stage.dataset.media = kind;
    this.clear();
    this.#fit();
  }

  /** Leave the picture out. */
  set skeletonOnly(value) {
    this.#stage.toggleAttribute("data-skeleton-only", value);
  }

  /** The very picture that the people to be drawn next were found in, onto the middle layer. */
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
   * @param {number[]} size Width and height of the picture that their coordinates are of.
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
    if (!this.#shown) return;
    const { people, skeleton, size, tracked } = this.#shown;
    const area = contain(this.#naturalSize() ?? size, [width, height]);
    const place = placer(size, area, this.mirrored && this.#kind === "video");
    const how = { ratio: this.#ratio, ids: this.ids && tracked, dimUnnumbered: tracked, bounds: [width, height] };
    drawPeople(this.#context, people, skeleton, place, how);
  }

  #naturalSize() {
    const { video, picture, frame } = this.media;
    if (this.#kind === "video" && video.videoWidth) return [video.videoWidth, video.videoHeight];
    if (this.#kind === "picture" && picture.naturalWidth) return [picture.naturalWidth, picture.naturalHeight];
    return null; // a source is as large as its coordinates say, whatever the size of its JPEG
  }

  /** Give the stage the shape of the picture, as far as the window has room for it. */
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

/** What the browser says, unless it forgets the screen's ratio, as emulated phones do. */
function screenPixels(css, exact) {
  const computed = css * devicePixelRatio;
  return exact !== undefined && Math.abs(exact - computed) <= 1 ? exact : Math.round(computed);
}
