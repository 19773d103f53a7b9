/**
 * What can be looked at: a camera, a video, a source of the server, and images (gallery.js). Each mode has `name`, `tracked`
 * (whether people get ids), `tracksHere` (whether for this page alone), `start()`, `stop()`, `settingsChanged(name)`,
 * `renumber()`, `retryNow()` and `again()`, the same anew, and reports to the page:
 *
 *   page.people(mode, {message, capturedAt | latencyMs, bitmap, unrecorded})   to be drawn
 *   page.record(message, latencyMs)                                            to be kept
 *   page.hello(message), page.status(text), page.problem(problem), page.passing(problem), page.lost({problem, inS})
 */

import { cameras } from "./camera.js";
import { LiveVideo } from "./live.js";
import { Feed } from "./server-source.js";
import { Problem } from "./problems.js";
import { PoseStream } from "./stream.js";


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

  again() {
    return new CameraMode(this.page, this.camera);
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

  again() {
    return new VideoMode(this.page, this.file);
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
    // After a seek the previous people are no longer valid.
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

  again() {
    return new SourceMode(this.page, this.name);
  }

  async start() {
    this.page.view.show("frame");
    this.page.status(`Connecting to ${this.name}…`);
    this.feed.withImages = !this.page.controls.skeletonOnly;
    this.feed.start();
  }

  settingsChanged(name) {
    if (name === "skeletonOnly") this.feed.withImages = !this.page.controls.skeletonOnly;
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
