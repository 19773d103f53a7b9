/** Frames a second and the usual latency over the last seconds. */

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
