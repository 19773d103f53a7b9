/** The numbers under the image: people and their ids, rate, latency, and what the session holds. */

import { inkOn, personColor } from "./draw.js";

const ANNOUNCE_EVERY_MS = 5000;

const $ = (id) => document.getElementById(id);

export class Figures {
  #announced = { count: null, at: -Infinity };

  /**
   * @param {object} figures
   * @param {?object[]} figures.people Those that count; null where nothing was looked at yet.
   * @param {boolean} figures.tracked Whether they have ids that last.
   * @param {?number} figures.fps
   * @param {?number} figures.latencyMs
   */
  show({ people, tracked, fps, latencyMs }) {
    setText("people", people ? String(people.length) : "–");
    setText("fps", fps === null ? "–" : fps.toFixed(fps < 9.95 ? 1 : 0));
    setText("latency", latencyMs === null ? "–" : latencyMs.toFixed(0));
    this.#showRoster(tracked && people ? people : []);
    if (people) this.#announce(people.length);
  }

  /** @param {import("./session.js").Session} session */
  showSession({ length, dropped, size }) {
    const count = length === 1 ? "1 frame" : `${length.toLocaleString("en")} frames`;
    const kept = length === 0 ? "No frames yet." : `${count}, ${megabytes(size)}.`;
    const gone = dropped > 0 ? ` The oldest ${dropped.toLocaleString("en")} were dropped to bound the memory.` : "";
    setText("session-summary", kept + gone);
    $("download").disabled = $("clear").disabled = length === 0;
  }

  #showRoster(people) {
    const roster = $("roster");
    const ids = people.map((person) => person.id).sort((a, b) => a - b);
    if (roster.dataset.ids === ids.join(" ")) return;
    roster.dataset.ids = ids.join(" ");
    roster.replaceChildren(
      ...ids.map((id) => {
        const item = document.createElement("li");
        item.style.setProperty("--person", personColor(id));
        item.style.setProperty("--on-person", inkOn(id));
        item.textContent = String(id);
        return item;
      }),
    );
  }

  /** Announce the number of people to screen readers when it changes, at a limited rate. */
  #announce(count) {
    const now = performance.now();
    if (count === this.#announced.count || now - this.#announced.at < ANNOUNCE_EVERY_MS) return;
    this.#announced = { count, at: now };
    setText("announcer", count === 1 ? "1 person in view" : `${count} people in view`);
  }
}

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function megabytes(bytes) {
  return bytes < 1e5 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const WINDOW_MS = 2000;

export class Meter {
  #marks = []; // {at, latencyMs}

  /** A result was drawn at `at` (milliseconds of performance.now()). */
  mark(at, latencyMs) {
    this.#marks.push({ at, latencyMs });
    this.#trim(at);
  }

  reset() {
    this.#marks = [];
  }

  /** {fps, latencyMs}, null where nothing is known. */
  read(now = performance.now()) {
    this.#trim(now);
    const count = this.#marks.length;
    if (count < 2) return { fps: null, latencyMs: this.#marks[0]?.latencyMs ?? null };
    const seconds = (this.#marks[count - 1].at - this.#marks[0].at) / 1e3;
    const latencies = this.#marks.map((mark) => mark.latencyMs).sort((a, b) => a - b);
    return { fps: seconds > 0 ? (count - 1) / seconds : null, latencyMs: latencies[count >> 1] };
  }

  #trim(now) {
    while (this.#marks.length > 0 && now - this.#marks[0].at > WINDOW_MS) this.#marks.shift();
  }
}
