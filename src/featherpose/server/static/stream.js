/** Sends frames and receives people; the number of unanswered frames is limited by the server. */

import { Connection } from "./connection.js";
import { frameProblem } from "./problems.js";

const SILENT_AFTER_MS = 15_000;
const IDLE_AFTER_MS = 20_000;

/**
 * Events: `hello` (detail: the message), `people` (detail: {message, capture}), `refused` (detail: a Problem about one
 * frame), `room` (a frame may be sent), `lost` (as of Connection).
 *
 * A capture is {at, timestampS, still}: when the frame was taken, in milliseconds of performance.now(); its time on the
 * source's own clock; and, where wanted, a promise of the image itself to be shown with its answer.
 */
export class PoseStream extends EventTarget {
  #connection;
  #sent = 0; // binary messages of this connection: the number of the next frame
  #unanswered = new Map(); // frame number -> capture
  #order = Promise.resolve(); // settled when the frame before is sent
  #encoding = 0;
  #limit = 0;
  #epoch = 0; // of the connection: a frame encoded for a lost one is not sent on the next
  #watch = 0;
  #lastSentAt = 0;
  #options = {};
  limits = { bytes: Infinity, pixels: Infinity };

  constructor(server) {
    super();
    this.#connection = new Connection(server, "v1/stream");
    this.#connection.addEventListener("hello", ({ detail }) => this.#greet(detail));
    this.#connection.addEventListener("poses", ({ detail }) => this.#answer(detail));
    this.#connection.addEventListener("dropped", ({ detail }) => forgetStill(this.#free(detail.frame)));
    this.#connection.addEventListener("error", ({ detail }) => {
      if (detail.frame !== null) forgetStill(this.#free(detail.frame));
      this.#tell("refused", frameProblem(detail.error));
    });
    this.#connection.addEventListener("lost", ({ detail }) => {
      this.#forget();
      // The server ends idle sessions, such as that of a paused video; this is no error until it plays again.
      const quietMs = this.#lastSentAt > 0 ? performance.now() - this.#lastSentAt : 0;
      this.asleep = detail.inS === null && !detail.problem.wantsToken && quietMs > IDLE_AFTER_MS;
      if (!this.asleep) this.#tell("lost", detail);
    });
  }

  /** Whether the connection ended because no frames were sent; `start` opens it again. */
  asleep = false;

  start() {
    this.asleep = false;
    this.#connection.start();
  }

  stop() {
    this.#connection.stop();
    this.#forget();
  }

  retryNow() {
    this.#connection.retryNow();
  }

  /** Whether a frame may be sent now. */
  get hasRoom() {
    return this.#connection.open && this.#unanswered.size + this.#encoding < this.#limit;
  }

  /**
   * Send one frame, if there is room.
   * @param {Promise<Blob>} image Being encoded; it takes up room already.
   * @param {{at: number, timestampS: number, still?: Promise<ImageBitmap>}} capture
   */
  send(image, capture) {
    const epoch = this.#epoch;
    this.#encoding += 1;
    const packet = image.then((blob) => withTimestamp(blob, capture.timestampS));
    // Frames are encoded side by side, but sent in the order in which they were taken.
    const sent = Promise.allSettled([packet, this.#order]).then(() => this.#sendPacket(packet, capture, epoch));
    this.#order = sent;
    return sent;
  }

  async #sendPacket(encoded, capture, epoch) {
    let packet;
    try {
      packet = await encoded;
    } catch (error) {
      forgetStill(capture);
      throw error;
    } finally {
      if (epoch === this.#epoch) this.#encoding -= 1;
    }
    if (epoch !== this.#epoch || !this.#connection.open) {
      forgetStill(capture);
      return;
    }
    this.#unanswered.set(this.#sent++, capture);
    this.#lastSentAt = performance.now();
    this.#connection.send(packet);
    this.#expectAnswer();
  }

  /** Thresholds and smoothing, now and after every reconnection. */
  setOptions(options) {
    this.#options = options;
    this.#connection.send(JSON.stringify({ type: "options", ...options }));
  }

  /** Number people anew. */
  reset() {
    this.#connection.send(JSON.stringify({ type: "reset" }));
  }

  #greet(hello) {
    this.#forget();
    this.#limit = hello.max_in_flight;
    this.limits = { ...this.limits, ...hello.limits };
    this.setOptions(this.#options);
    this.#tell("hello", hello);
    this.#tell("room");
  }

  #answer(message) {
    const capture = this.#free(message.frame);
    if (capture) this.#tell("people", { message, capture });
  }

  #free(frame) {
    const capture = this.#unanswered.get(frame);
    this.#unanswered.delete(frame);
    this.#expectAnswer();
    this.#tell("room");
    return capture;
  }

  #forget() {
    this.#epoch += 1;
    this.#sent = 0;
    this.#encoding = 0;
    this.#order = Promise.resolve();
    this.#limit = 0;
    this.#unanswered.forEach(forgetStill);
    this.#unanswered.clear();
    clearTimeout(this.#watch);
  }

  /** A connection can be lost without a close event. */
  #expectAnswer() {
    clearTimeout(this.#watch);
    if (this.#unanswered.size > 0) this.#watch = setTimeout(() => this.#connection.restart(), SILENT_AFTER_MS);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** A bitmap that is not shown must be closed, to free its pixels. */
function forgetStill(capture) {
  capture?.still?.then(
    (bitmap) => bitmap.close(),
    () => {},
  );
}

/** 8 bytes little-endian float64, then the image. */
export async function withTimestamp(image, timestampS) {
  const packet = new Uint8Array(8 + image.size);
  new DataView(packet.buffer).setFloat64(0, timestampS, true);
  packet.set(new Uint8Array(await image.arrayBuffer()), 8);
  return packet;
}
