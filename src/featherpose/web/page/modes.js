/**
 * What can be looked at: a camera, a video, a picture, a source of the server. Each mode has `name`, `tracked`
 * (whether people get ids), `tracksHere` (whether for this page alone), `start()`, `stop()`, `settingsChanged(name)`,
 * `renumber()` and `retryNow()`, and reports to the page:
 *
 *   page.people(mode, {message, capturedAt | latencyMs, bitmap, unrecorded})   to be drawn
 *   page.record(message, latencyMs)                                            to be kept
 *   page.hello(message), page.status(text), page.problem(problem), page.passing(problem), page.lost({problem, inS})
 */

import { cameras } from "./camera.js";
import { Shrinker } from "./capture.js";
import { Feed } from "./feed.js";
import { LiveVideo } from "./live.js";
import { Problem } from "./problems.js";
import { PoseStream } from "./stream.js";

const PICTURE_LONG_SIDE = 1280; // a single picture is worth more pixels than a frame among many
const PICTURE_ATTEMPTS = 5;

/** Shared by camera and video: the <video> element's frames through a stream. */
class StreamMode {
  tracked = true;
  tracksHere = true;

  constructor(page, clock) {
    this.page = page;
    this.video = page.view.media.video;
    this.stream = new PoseStream(page.server);
    this.live = new LiveVideo(this.video, this.stream, {
      clock,
      longSide: () => page.controls.longSide,
      inStep: () => page.controls.inStep && !page.controls.skeletonOnly,
    });
    this.stream.setOptions(page.controls.forServer);
    this.stream.addEventListener("hello", ({ detail }) => {
      page.hello(detail);
      page.status(this.runningText);
    });
    this.stream.addEventListener("people", ({ detail }) => this.#show(detail));
    this.stream.addEventListener("refused", ({ detail }) => page.passing(detail));
    this.stream.addEventListener("lost", ({ detail }) => page.lost(detail));
  }

  async #show({ message, capture }) {
    const bitmap = await capture.still?.catch(() => null); // the frame may have gone with its camera
    await this.page.people(this, { message, capturedAt: capture.at, bitmap });
    bitmap?.close();
  }

  settingsChanged(name) {
    if (name === "inStep") this.page.view.liveAgain();
    if (name !== "smoothing") return; // the sliders act on what is here
    this.stream.setOptions(this.page.controls.forServer);
    if (this.video.paused) this.live.again();
  }

  renumber() {
    this.stream.reset();
    if (this.video.paused) this.live.again();
  }

  retryNow() {
    this.stream.start(); // only if it had given up
    this.stream.retryNow();
  }

  stop() {
    this.live.stop();
    this.video.pause();
  }
}

export class CameraMode extends StreamMode {
  name = "camera";
  runningText = "The camera is running.";

  constructor(page, camera) {
    super(page, "wall");
    this.camera = camera;
  }

  async start() {
    this.page.status("Waiting for the camera…");
    await this.#use(this.camera.open());
    this.hasOthers = (await cameras()).length > 1;
    this.page.status("Connecting to the server…");
    this.live.start();
  }

  async switch() {
    await this.#use(this.camera.openOther());
    this.stream.reset();
  }

  async #use(opening) {
    const { video, page } = this;
    const stream = await opening;
    this.camera.onended = () => {
      page.stop();
      page.problem(new Problem("The camera was disconnected."), () => page.startCamera());
    };
    video.loop = false;
    video.muted = true;
    video.srcObject = stream;
    page.view.show("video");
    page.mirrorable(this.camera.facesUser);
    await video.play();
  }

  stop() {
    super.stop();
    this.camera.onended = null;
    this.camera.close();
    this.video.srcObject = null;
  }
}

export class VideoMode extends StreamMode {
  runningText = "The video is playing.";

  constructor(page, file) {
    super(page, "media");
    this.file = file;
    this.name = file.name;
  }

  async start() {
    const { video, page } = this;
    video.loop = video.muted = true;
    this.address = URL.createObjectURL(this.file);
    video.src = this.address;
    await new Promise((resolve, reject) => {
      video.onloadeddata = resolve;
      video.onerror = () => reject(new Problem(`The browser cannot play ${this.name}.`, {
        hint: "MP4 with H.264 and WebM play everywhere; featherpose predict reads the rest.",
      }));
    });
    if (video.videoWidth === 0) throw new Problem(`${this.name} has sound only.`);
    video.onerror = null;
    // After a jump nobody is where they were.
    video.onseeked = () => this.stream.reset();
    page.view.show("video");
    page.transport.visible = true;
    page.status("Connecting to the server…");
    this.live.start();
    await video.play();
  }

  stop() {
    super.stop();
    const { video } = this;
    video.onseeked = video.onloadeddata = video.onerror = null;
    this.page.transport.visible = false;
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(this.address);
  }
}

export class PictureMode {
  tracked = false;
  tracksHere = false;
  #given = new AbortController();

  constructor(page, file) {
    this.page = page;
    this.file = file;
    this.name = file.name;
  }

  async start() {
    const { page } = this;
    const { picture } = page.view.media;
    this.address = URL.createObjectURL(this.file);
    picture.src = this.address;
    try {
      await picture.decode();
    } catch {
      throw new Problem(`The browser cannot read ${this.name}.`, {
        hint: "JPEG, PNG, WebP and GIF work everywhere; featherpose predict reads the rest.",
      });
    }
    page.view.show("picture");
    const size = [picture.naturalWidth, picture.naturalHeight];
    const jpeg = await new Shrinker().jpeg(picture, size, Math.max(PICTURE_LONG_SIDE, page.controls.longSide), 0.9);
    page.status("Looking for people…");
    const startedAt = performance.now();
    const message = await this.#ask(jpeg);
    // Everyone gets a colour of their own; in the record they stay without id, as nobody follows them.
    const coloured = { ...message, people: message.people.map((person, index) => ({ ...person, id: index })) };
    const latencyMs = performance.now() - startedAt;
    await page.people(this, { message: coloured, latencyMs, unrecorded: true });
    page.record({ timestamp_s: 0, ...message }, latencyMs);
    page.status("The picture is done.");
  }

  async #ask(jpeg) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.page.server.json("v1/poses", {
          method: "POST",
          headers: { "Content-Type": "image/jpeg" },
          body: jpeg,
          signal: this.#given.signal,
        });
      } catch (problem) {
        if (!problem.afterS || attempt === PICTURE_ATTEMPTS) throw problem;
        this.page.status(`The server is busy. Trying again in ${Math.ceil(problem.afterS)} s…`);
        await new Promise((resolve) => setTimeout(resolve, 1e3 * problem.afterS));
        if (this.#given.signal.aborted) throw problem;
      }
    }
  }

  settingsChanged() {} // the server sent everyone; the sliders act on what is here
  renumber() {}
  retryNow() {}

  stop() {
    this.#given.abort();
    this.page.view.media.picture.removeAttribute("src");
    URL.revokeObjectURL(this.address);
  }
}

export class SourceMode {
  tracked = true;
  tracksHere = false;

  constructor(page, name) {
    this.page = page;
    this.name = name;
    this.feed = new Feed(page.server, name);
    this.feed.addEventListener("hello", ({ detail }) => page.hello(detail));
    this.feed.addEventListener("message", ({ detail }) => {
      page.status(`${name} is running.`);
      page.record(detail, detail.times_ms?.total ?? null);
    });
    this.feed.addEventListener("people", ({ detail: { message, bitmap } }) => {
      page.people(this, { message, bitmap, latencyMs: message.times_ms?.total ?? null, unrecorded: true });
    });
    this.feed.addEventListener("quiet", () => page.status(`Waiting for ${name}…`));
    this.feed.addEventListener("end", () => page.status(`${name} has ended.`));
    this.feed.addEventListener("lost", ({ detail }) => page.lost(detail));
  }

  async start() {
    this.page.view.show("frame");
    this.page.status(`Connecting to ${this.name}…`);
    this.feed.withPictures = !this.page.controls.skeletonOnly;
    this.feed.start();
  }

  settingsChanged(name) {
    if (name === "skeletonOnly") this.feed.withPictures = !this.page.controls.skeletonOnly;
  }

  renumber() {}

  retryNow() {
    this.feed.start();
    this.feed.retryNow();
  }

  stop() {
    this.feed.stop();
  }
}
