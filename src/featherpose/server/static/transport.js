/** Play, pause and seek: a video file's own controls would lie under the skeletons. */

export class Transport {
  #video;
  #elements;

  /** @param {{bar, play, seek, time}} elements */
  constructor(video, elements) {
    this.#video = video;
    this.#elements = elements;
    const { play, seek } = elements;
    play.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
    seek.addEventListener("input", () => {
      video.currentTime = seek.valueAsNumber;
    });
    for (const type of ["play", "pause", "timeupdate", "durationchange", "seeked"]) {
      video.addEventListener(type, () => this.#show());
    }
  }

  set visible(value) {
    this.#elements.bar.hidden = !value;
    if (value) this.#show();
  }

  #show() {
    const { play, seek, time } = this.#elements;
    const { paused, currentTime, duration } = this.#video;
    play.textContent = paused ? "Play" : "Pause";
    // A recording of the browser's own may not know its length.
    seek.disabled = !Number.isFinite(duration);
    seek.max = seek.disabled ? 0 : duration;
    if (!seek.matches(":active")) seek.value = currentTime;
    const text = seek.disabled ? clock(currentTime) : `${clock(currentTime)} / ${clock(duration)}`;
    time.textContent = text;
    seek.setAttribute("aria-valuetext", text);
  }
}

/** 75.3 -> "1:15". */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
