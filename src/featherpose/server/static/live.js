/** A playing <video>, camera or file, frame by frame to the stream: the newest whenever there is room. */

import { Problem } from "./problems.js";

const OLDEST_CAPTURE_MS = 2000;
const STILL_LONG_SIDE = 1280;

export class LiveVideo {
  #video;
  #stream;
  #how;
  #shrinker = new Shrinker();
  #running = false;
  #over = false;
  #newestAt = 0;
  #owed = false; // a frame that has no newer one behind it waits for room
  #fits = Infinity; // longest side that stays below the server's limit of bytes

  /**
   * @param {HTMLVideoElement} video
   * @param {PoseStream} stream
   * @param {object} how
   * @param {"media"|"wall"} how.clock Media time for files, wall-clock time for cameras.
   * @param {() => number} how.longSide Longest side to send, pixels.
   * @param {() => boolean} how.inStep Whether each frame is kept, to be shown together with its people.
   */
  constructor(video, stream, how) {
    this.#video = video;
    this.#stream = stream;
    this.#how = how;
  }

  start() {
    if (this.#over) return; // stopped while its camera was being asked for
    this.#running = true;
    this.#stream.addEventListener("room", this.#onRoom);
    this.#stream.start();
    this.#next();
  }

  stop() {
    this.#over = true;
    this.#running = false;
    this.#stream.removeEventListener("room", this.#onRoom);
    this.#stream.stop();
  }

  /** Send what is on screen once more; for a paused video after something changed. */
  again() {
    this.#owed = true;
    if (this.#stream.asleep) this.#stream.start();
    this.#onRoom();
  }

  #onRoom = () => {
    if (this.#owed && this.#stream.hasRoom) this.#offer(performance.now(), this.#video.currentTime);
  };

  #next() {
    const video = this.#video;
    if (video.requestVideoFrameCallback) {
      video.requestVideoFrameCallback((now, frame) => {
        if (!this.#running) return;
        this.#next();
        // Of cameras some browsers know when light fell on the sensor.
        const captured = frame.captureTime ?? now;
        const plausible = captured <= now && now - captured < OLDEST_CAPTURE_MS;
        this.#offer(plausible ? captured : now, frame.mediaTime);
      });
      return;
    }
    let last = -1;
    const look = (now) => {
      if (!this.#running) return;
      if (video.currentTime !== last) this.#offer(now, video.currentTime);
      last = video.currentTime;
      requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }

  #offer(at, mediaTime) {
    const { videoWidth: width, videoHeight: height, readyState, paused } = this.#video;
    if (!this.#running || readyState < HTMLMediaElement.HAVE_CURRENT_DATA || width === 0) return;
    if (this.#stream.asleep) this.#stream.start();
    // A frame is dropped if the server is busy, because a newer one follows; except the last one before a pause.
    const room = this.#stream.hasRoom;
    this.#owed = paused && !room;
    if (!room) return;
    // Where a browser knows the moment of capture of some frames only, their order still holds.
    this.#newestAt = Math.max(this.#newestAt, at);
    const capture = { at, timestampS: this.#how.clock === "media" ? mediaTime : this.#newestAt / 1e3 };
    // Both are taken within this very task, so of the same frame.
    const image = this.#encode([width, height]);
    if (this.#how.inStep()) capture.still = this.#keep([width, height]);
    this.#stream.send(image, capture).catch((problem) => {
      this.#stream.dispatchEvent(new CustomEvent("refused", { detail: problem }));
    });
  }

  async #keep(size) {
    const [resizeWidth, resizeHeight] = shrunk(...size, STILL_LONG_SIDE);
    return createImageBitmap(this.#video, { resizeWidth, resizeHeight });
  }

  async #encode(size) {
    const longSide = Math.min(this.#how.longSide(), this.#fits);
    const image = await this.#shrinker.jpeg(this.#video, size, longSide);
    // The server closes the connection on a message over its limit, so the frame is encoded smaller.
    if (image.size + 8 <= this.#stream.limits.bytes) return image;
    this.#fits = Math.round(longSide * 0.7);
    return this.#encode(size);
  }
}

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
   * Copy the image now and encode it asynchronously.
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
