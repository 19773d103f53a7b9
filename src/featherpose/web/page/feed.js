/** A source of the server: its pictures by HTTP, its people by WebSocket, paired by the number of the frame. */

import { Connection } from "./connection.js";
import { parts } from "./multipart.js";
import { Problem } from "./problems.js";

const KEPT = 90; // messages that wait for their picture: some seconds
const PAUSE_MS = 2000;
const QUIET_MS = 4000;

/**
 * Events: `hello`; `message` (detail: each "poses" message, for the record); `people` (detail: {message, bitmap},
 * bitmap null without pictures); `quiet` when nothing has come for some seconds; `end`; `lost` (as of Connection).
 */
export class Feed extends EventTarget {
  #server;
  #name;
  #connection;
  #messages = new Map(); // frame number -> message
  #newest = -1;
  #waiting = null; // the newest picture whose message has not come yet
  #fetching = null;
  #withPictures = true;
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
    if (this.#withPictures) this.#fetchPictures();
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

  /** Skeletons alone need no pictures: they are not even fetched. */
  set withPictures(value) {
    if (value === this.#withPictures) return;
    this.#withPictures = value;
    this.#forget();
    if (!value) this.#fetching?.abort();
    else if (this.#running) this.#fetchPictures();
  }

  #receive(message) {
    if (message.frame <= this.#newest) this.#forget(); // a video began again
    this.#newest = message.frame;
    this.#expect();
    this.#tell("message", message);
    if (!this.#withPictures) {
      this.#tell("people", { message, bitmap: null });
      return;
    }
    this.#messages.set(message.frame, message);
    if (this.#messages.size > KEPT) this.#messages.delete(this.#messages.keys().next().value);
    this.#pair();
  }

  async #fetchPictures() {
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
