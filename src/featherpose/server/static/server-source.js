/** A source of the server: its images by HTTP, its people by WebSocket, paired by the number of the frame. */

import { Connection } from "./connection.js";
import { Problem } from "./problems.js";

const KEPT = 90; // messages that wait for their image: some seconds
const PAUSE_MS = 2000;
const QUIET_MS = 4000;

/**
 * Events: `hello`; `message` (detail: each "poses" message, for the record); `people` (detail: {message, bitmap},
 * bitmap null without images); `quiet` when nothing has come for some seconds; `end`; `lost` (as of Connection).
 */
export class Feed extends EventTarget {
  #server;
  #name;
  #connection;
  #messages = new Map(); // frame number -> message
  #newest = -1;
  #waiting = null; // the newest image whose message has not come yet
  #fetching = null;
  #withImages = true;
  #running = false;
  #watch = 0;

  constructor(server, name) {
    super();
    this.#server = server;
    this.#name = encodeURIComponent(name);
    this.#connection = new Connection(server, `v1/sources/${this.#name}/poses`);
    this.#connection.addEventListener("hello", ({ detail }) => {
      this.#forget(); // a server that was started again counts anew
      this.#expect();
      this.#tell("hello", detail);
    });
    this.#connection.addEventListener("poses", ({ detail }) => this.#receive(detail));
    this.#connection.addEventListener("lost", ({ detail }) => {
      clearTimeout(this.#watch);
      if (detail.inS === null) this.stop();
      this.#tell("lost", detail);
    });
    this.#connection.addEventListener("end", () => {
      this.stop();
      this.#tell("end");
    });
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    this.#connection.start();
    if (this.#withImages) this.#fetchImages();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#watch);
    this.#connection.stop();
    this.#fetching?.abort();
    this.#forget();
  }

  retryNow() {
    this.#connection.retryNow();
  }

  /** Without images only the skeletons are fetched. */
  set withImages(value) {
    if (value === this.#withImages) return;
    this.#withImages = value;
    this.#forget();
    if (!value) this.#fetching?.abort();
    else if (this.#running) this.#fetchImages();
  }

  #receive(message) {
    if (message.frame <= this.#newest) this.#forget(); // a video began again
    this.#newest = message.frame;
    this.#expect();
    this.#tell("message", message);
    if (!this.#withImages) {
      this.#tell("people", { message, bitmap: null });
      return;
    }
    this.#messages.set(message.frame, message);
    if (this.#messages.size > KEPT) this.#messages.delete(this.#messages.keys().next().value);
    this.#pair();
  }

  async #fetchImages() {
    const fetching = new AbortController();
    this.#fetching = fetching;
    while (this.#running && !fetching.signal.aborted) {
      try {
        const path = `v1/sources/${this.#name}/view?annotated=false`;
        const response = await this.#server.fetch(path, { signal: fetching.signal });
        for await (const { headers, body } of parts(response)) {
          if (fetching.signal.aborted) return;
          const bitmap = await createImageBitmap(new Blob([body], { type: "image/jpeg" }));
          this.#waiting?.bitmap.close();
          this.#waiting = { frame: Number(headers.get("x-frame")), bitmap };
          this.#pair();
        }
      } catch (error) {
        if (fetching.signal.aborted) return;
        // A lost connection is told by the WebSocket, with the attempts to come; what it cannot know is told here.
        if (error instanceof Problem && !error.retry) {
          this.stop();
          this.#tell("lost", { problem: error, inS: null });
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  #expect() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#tell("quiet"), QUIET_MS);
  }

  #pair() {
    if (!this.#waiting) return;
    const { frame, bitmap } = this.#waiting;
    const message = this.#messages.get(frame);
    if (!message) return;
    this.#waiting = null;
    for (const number of this.#messages.keys()) {
      if (number <= frame) this.#messages.delete(number);
    }
    this.#tell("people", { message, bitmap });
    bitmap.close();
  }

  #forget() {
    this.#newest = -1;
    this.#messages.clear();
    this.#waiting?.bitmap.close();
    this.#waiting = null;
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

const CRLF2 = [13, 10, 13, 10];
const LONGEST_HEAD = 16_384;

/**
 * @param {Response} response
 * @yields {{headers: Map<string, string>, body: Uint8Array}} Header names in lower case.
 */
export async function* parts(response) {
  const reader = response.body.getReader();
  let bytes = new Uint8Array(0);
  const more = async () => {
    const { done, value } = await reader.read();
    if (done) return false;
    const joined = new Uint8Array(bytes.length + value.length);
    joined.set(bytes);
    joined.set(value, bytes.length);
    bytes = joined;
    return true;
  };
  try {
    for (;;) {
      let end;
      while ((end = indexOf(bytes, CRLF2)) < 0) {
        if (bytes.length > LONGEST_HEAD) throw new Error("this is no multipart stream");
        if (!(await more())) return;
      }
      // The boundary line stands before the headers; it has no colon and so leaves no entry.
      const lines = new TextDecoder("latin1").decode(bytes.subarray(0, end)).split("\r\n");
      const headers = new Map(lines.map((line) => line.match(/^([^:]+):\s*(.*)$/)).filter(Boolean).map(entry));
      const length = Number(headers.get("content-length"));
      if (!Number.isInteger(length) || length < 0) throw new Error("a part of the stream does not say its length");
      const start = end + CRLF2.length;
      while (bytes.length < start + length) {
        if (!(await more())) return;
      }
      const body = bytes.slice(start, start + length);
      bytes = bytes.slice(start + length);
      yield { headers, body };
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function entry([, name, value]) {
  return [name.trim().toLowerCase(), value.trim()];
}

function indexOf(bytes, pattern) {
  for (let i = bytes.indexOf(pattern[0]); i >= 0; i = bytes.indexOf(pattern[0], i + 1)) {
    if (i + pattern.length > bytes.length) return -1;
    if (pattern.every((byte, k) => bytes[i + k] === byte)) return i;
  }
  return -1;
}
