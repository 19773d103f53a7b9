/** A playing <video>, camera or file, frame by frame to the stream: the newest whenever there is room. */

import { Shrinker } from "./capture.js";

const OLDEST_CAPTURE_MS = 2000;

export class LiveVideo {
  #video;
  #stream;
  #shrinker = new Shrinker();
  #clock;
  #longSide;
  #running = false;
  #owed = false; // a still frame waits for room
  #cap = Infinity;

  /**
   * @param {HTMLVideoElement} video
   * @param {PoseStream} stream
   * @param {object} how
   * @param {"media"|"wall"} how.clock A file has a time of its own, a camera that of the wall.
   * @param {() => number} how.longSide Longest side to send, pixels.
   */
  constructor(video, stream, { clock, longSide }) {
    this.#video = video;
    this.#stream = stream;
    this.#clock = clock;
    this.#longSide = longSide;
  }

  start() {
    this.#running = true;
    this.#stream.addEventListener("room", this.#onRoom);
    this.#stream.start();
    this.#next();
  }

  stop() {
    this.#running = false;
    this.#stream.removeEventListener("room", this.#onRoom);
    this.#stream.stop();
  }

  /** Send what is on screen once more; for a paused video after something changed. */
  again() {
    this.#owed = true;
    this.#onRoom();
  }

  #onRoom = () => {
    if (!this.#running || !this.#owed || !this.#stream.hasRoom) return;
    this.#offer(performance.now(), this.#video.currentTime);
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

  #offer(capturedAt, mediaTime) {
    const { videoWidth: width, videoHeight: height, readyState } = this.#video;
    if (readyState < HTMLMediaElement.HAVE_CURRENT_DATA || width === 0) return;
    // A frame that finds no room is forgotten: the next is newer. The last one before a pause has no next.
    this.#owed = this.#video.paused && !this.#stream.hasRoom;
    if (!this.#stream.hasRoom) return;
    const timestampS = this.#clock === "media" ? mediaTime : capturedAt / 1e3;
    this.#stream.send(() => this.#encode(width, height), timestampS, capturedAt).catch((problem) => {
      this.#stream.dispatchEvent(new CustomEvent("refused", { detail: problem }));
    });
  }

  async #encode(width, height) {
    const longSide = Math.min(this.#longSide(), this.#cap);
    const picture = await this.#shrinker.jpeg(this.#video, [width, height], longSide);
    // The server hangs up on a message over its limit; a smaller one is better than none.
    if (picture.size + 8 > this.#stream.limits.bytes) {
      this.#cap = Math.round(longSide * 0.7);
      return this.#encode(width, height);
    }
    return picture;
  }
}
