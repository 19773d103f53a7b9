/** A playing <video>, camera or file, frame by frame to the stream: the newest whenever there is room. */

import { Shrinker, shrunk } from "./capture.js";

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
   * @param {"media"|"wall"} how.clock A file has a time of its own, a camera that of the wall.
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
    // A frame that finds no room is forgotten: the next is newer. The last one before a pause has no next.
    const room = this.#stream.hasRoom;
    this.#owed = paused && !room;
    if (!room) return;
    // Where a browser knows the moment of capture of some frames only, their order still holds.
    this.#newestAt = Math.max(this.#newestAt, at);
    const capture = { at, timestampS: this.#how.clock === "media" ? mediaTime : this.#newestAt / 1e3 };
    // Both are taken within this very task, so of the same frame.
    const picture = this.#encode([width, height]);
    if (this.#how.inStep()) capture.still = this.#keep([width, height]);
    this.#stream.send(picture, capture).catch((problem) => {
      this.#stream.dispatchEvent(new CustomEvent("refused", { detail: problem }));
    });
  }

  async #keep(size) {
    const [resizeWidth, resizeHeight] = shrunk(...size, STILL_LONG_SIDE);
    return createImageBitmap(this.#video, { resizeWidth, resizeHeight });
  }

  async #encode(size) {
    const longSide = Math.min(this.#how.longSide(), this.#fits);
    const picture = await this.#shrinker.jpeg(this.#video, size, longSide);
    // The server hangs up on a message over its limit; a smaller one is better than none.
    if (picture.size + 8 <= this.#stream.limits.bytes) return picture;
    this.#fits = Math.round(longSide * 0.7);
    return this.#encode(size);
  }
}
