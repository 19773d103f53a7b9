/** Every frame's record of this session, for download; the oldest are dropped when there are too many. */

const LIMIT = 64e6; // characters of JSON, a byte each: about three quarters of an hour of three people

export class Session {
  #limit;
  #records = []; // JSON texts
  #first = 0; // index of the oldest that is kept; moving it is cheaper than shifting a long array
  #characters = 0;
  #dropped = 0;
  #started = null;
  #skeleton = null;
  #model = null;

  constructor(limit = LIMIT) {
    this.#limit = limit;
  }

  /** What the keypoints are; told by the server's hello. */
  describe({ model, skeleton }) {
    this.#model = model;
    this.#skeleton = skeleton;
  }

  /**
   * @param {string} source Where the frame came from: "camera", or the name of a file or source.
   * @param {object} message As the server sent it.
   * @param {?number} latencyMs From capture to screen.
   */
  add(source, { timestamp_s, size, people, times_ms }, latencyMs = null) {
    this.#started ??= new Date();
    const record = { frame: this.#dropped + this.length, source, timestamp_s, size, people, times_ms };
    if (latencyMs !== null) record.latency_ms = Math.round(latencyMs);
    const text = JSON.stringify(record);
    this.#records.push(text);
    this.#characters += text.length;
    while (this.#characters > this.#limit && this.length > 1) this.#dropOldest();
  }

  #dropOldest() {
    this.#characters -= this.#records[this.#first].length;
    this.#records[this.#first++] = "";
    this.#dropped += 1;
    if (this.#first > 4096 && this.#first > this.#records.length / 2) {
      this.#records.splice(0, this.#first);
      this.#first = 0;
    }
  }

  get length() {
    return this.#records.length - this.#first;
  }

  /** Number of frames dropped. */
  get dropped() {
    return this.#dropped;
  }

  /** Size in bytes, nearly. */
  get size() {
    return this.#characters;
  }

  clear() {
    this.#records = [];
    this.#first = this.#characters = this.#dropped = 0;
    this.#started = null;
  }

  /** The whole session as one JSON file: a head, then one frame a line. */
  blob() {
    const head = JSON.stringify({
      featherpose: 1,
      started: (this.#started ?? new Date()).toISOString(),
      model: this.#model,
      skeleton: this.#skeleton,
      dropped_oldest: this.#dropped,
    });
    const texts = [`${head.slice(0, -1)},"frames":[`];
    for (let i = this.#first; i < this.#records.length; i += 1) {
      texts.push(i > this.#first ? ",\n" : "\n", this.#records[i]);
    }
    texts.push("\n]}\n");
    return new Blob(texts, { type: "application/json" });
  }
}

/** Hand a blob to the browser's downloads. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // Revoked later, because some browsers have not started the download yet.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
