/** The numbers under the picture: people and their ids, rate, latency, and what the session holds. */

import { inkOn, personColour } from "./colours.js";

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
        item.style.setProperty("--person", personColour(id));
        item.style.setProperty("--on-person", inkOn(id));
        item.textContent = String(id);
        return item;
      }),
    );
  }

  /** For those who cannot see the canvas: the number of people when it changes, not more often than they can hear. */
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
