/** The page: what the user does to it, and what it shows. */

import { Camera } from "./camera.js";
import { Controls } from "./settings.js";
import { takeDroppedFiles } from "./drag-and-drop.js";
import { Figures, Meter } from "./figures.js";
import { ImagesMode } from "./gallery.js";
import { CameraMode, SourceMode, VideoMode } from "./modes.js";
import { visiblePeople } from "./draw.js";
import { Problem } from "./problems.js";
import { Server } from "./server.js";
import { Session, download } from "./session.js";
import { Transport } from "./transport.js";
import { View } from "./view.js";

const FIGURES_EVERY_MS = 250;

const $ = (id) => document.getElementById(id);

class Page {
  server = new Server();
  controls = new Controls();
  view = new View({
    stage: $("stage"), video: $("video"), image: $("image"), frame: $("frame"), overlay: $("overlay"),
  });
  transport = new Transport($("video"), { bar: $("transport"), play: $("play"), seek: $("seek"), time: $("time") });
  session = new Session();
  #figures = new Figures();
  #meter = new Meter();
  #camera = new Camera();
  #mode = null;
  #skeleton = null;
  #last = null; // the newest message, to be judged again when a slider moves
  #people = [];
  #lastLatencyMs = null;
  #retry = null;
  #problemPasses = false;
  #covered = false; // the server has drawn a scene into the images: skeletons would lie over it

  // --- what is looked at -----------------------------------------------------------------------------------------

  startCamera() {
    return this.#look(new CameraMode(this, this.#camera));
  }

  /** One video, or any number of images. */
  async openFiles(files) {
    const videos = files.filter(({ type }) => type.startsWith("video/"));
    const images = files.filter((file) => !videos.includes(file));
    await this.#look(images.length > 0 ? new ImagesMode(this, images) : new VideoMode(this, videos[0]));
    const left = images.length > 0 ? videos : videos.slice(1);
    if (left.length > 0 && $("problem").hidden) {
      this.problem(new Problem(`${left[0].name} was left out.`, { hint: "Videos are opened one at a time." }));
    }
  }

  get skeleton() {
    return this.#skeleton;
  }

  openSource(name) {
    return this.#look(new SourceMode(this, name));
  }

  async #look(mode) {
    this.stop();
    this.#clearProblem();
    this.#mode = mode;
    this.#showMode();
    try {
      await mode.start();
    } catch (error) {
      if (this.#mode !== mode) return; // something else was chosen meanwhile
      this.stop();
      this.problem(asProblem(error), () => this.#look(mode.again()));
      return;
    }
    if (this.#mode === mode) this.#showMode();
  }

  stop() {
    this.#mode?.stop();
    this.#mode = null;
    this.#last = null;
    this.#people = [];
    this.#cover(false);
    this.#meter.reset();
    this.view.show("none");
    this.mirrorable(false);
    this.status("Nothing is running.");
    this.#showMode();
    this.#showFigures();
  }

  async switchCamera() {
    try {
      await this.#mode?.switch();
    } catch (error) {
      this.stop();
      this.problem(asProblem(error), () => this.startCamera());
    }
  }

  // --- what modes report -----------------------------------------------------------------------------------------

  hello(message) {
    this.#skeleton = message.skeleton;
    this.#cover(Boolean(message.scene) && this.#mode instanceof SourceMode);
    this.session.describe(message);
    this.#serverState("ok", message.model);
    // A lost source counts as reconnected when its first people arrive.
    if (this.#mode?.tracksHere) this.#clearProblem();
  }

  async people(mode, { message, capturedAt = null, latencyMs = null, bitmap = null, unrecorded = false }) {
    if (mode !== this.#mode || !this.#skeleton) return; // it was stopped meanwhile
    if (this.#problemPasses) this.#clearProblem();
    if (bitmap) this.view.paint(bitmap);
    this.#last = message;
    const drawnAt = await this.#drawLast();
    if (mode !== this.#mode) return;
    latencyMs ??= capturedAt === null ? null : drawnAt - capturedAt;
    this.#lastLatencyMs = latencyMs;
    this.#meter.mark(drawnAt, latencyMs);
    if (!unrecorded) this.record(message, latencyMs);
  }

  record(message, latencyMs, name = this.#mode?.name) {
    if (this.#mode) this.session.add(name, message, latencyMs);
  }

  status(text) {
    if ($("status").textContent !== text) $("status").textContent = text;
  }

  /** Show a problem until it is over, closed or tried again. */
  problem(problem, retry = null) {
    this.#problemPasses = false;
    this.#retry = problem.wantsToken ? (retry ?? (() => this.begin())) : retry;
    $("problem-what").textContent = problem.message;
    $("problem-hint").textContent = problem.hint ?? "";
    $("token-form").hidden = !problem.wantsToken;
    $("retry").hidden = !this.#retry || Boolean(problem.wantsToken);
    $("problem").hidden = false;
    if (problem.wantsToken) {
      this.#serverState("bad", "Token needed");
      $("token").focus();
    }
  }

  /** Show a problem that is over with the next good frame. */
  passing(problem) {
    this.problem(problem);
    this.#problemPasses = true;
  }

  /** A connection broke. */
  lost({ problem, inS }) {
    const mode = this.#mode;
    if (!mode) return;
    this.view.clear();
    this.#last = null;
    this.#people = [];
    const words = inS === null ? problem.hint : `Trying again in about ${Math.max(1, Math.round(inS))} s.`;
    const shown = new Problem(problem.message, { ...problem, hint: words });
    this.problem(shown, () => {
      this.#clearProblem();
      mode.retryNow();
    });
    this.#problemPasses = true;
    this.status(inS === null ? "Stopped." : "Connection lost.");
    if (!problem.wantsToken) this.#serverState("bad", "Not connected");
  }

  /** Whether a mirror makes sense for what is shown. */
  mirrorable(value) {
    $("mirror-row").hidden = !value;
    this.#mirror();
  }

  // --- what is shown ---------------------------------------------------------------------------------------------

  #drawLast() {
    this.#people = visiblePeople(this.#last, this.controls);
    return this.view.draw(this.#people, this.#skeleton, this.#last.size, this.#mode.tracked);
  }

  #mirror() {
    this.view.mirrored = !$("mirror-row").hidden && this.controls.mirror;
    $("stage").toggleAttribute("data-mirrored", this.view.mirrored);
    this.view.redraw();
  }

  #showMode() {
    const mode = this.#mode;
    const camera = mode instanceof CameraMode;
    $("welcome").hidden = Boolean(mode);
    $("stop").hidden = !mode;
    $("other-camera").hidden = !(camera && mode.hasOthers);
    $("camera").setAttribute("aria-pressed", String(camera));
    for (const button of $("sources").children) {
      const here = mode instanceof SourceMode && mode.name === button.dataset.name;
      button.setAttribute("aria-pressed", String(here));
    }
    // A source is tracked and smoothed by the server for everyone who watches it.
    const ours = !mode || mode.tracksHere;
    $("smoothing").disabled = !ours;
    // Its images are sent by the server, each with its people.
    $("in-step").disabled = $("long-side").disabled = mode instanceof SourceMode;
    $("new-ids").disabled = !(mode && mode.tracksHere);
  }

  #showFigures() {
    const tracked = this.#mode?.tracked ?? false;
    const numbered = tracked ? this.#people.filter((person) => person.id !== null) : this.#people;
    this.#figures.show({
      people: this.#last ? numbered : null,
      tracked,
      ...this.#meter.read(),
      // A single image keeps its figure; that of a stream is over after some seconds.
      ...(tracked ? {} : { fps: null, latencyMs: this.#last && this.#lastLatencyMs }),
    });
    this.#figures.showSession(this.session);
  }

  #serverState(state, text) {
    $("server").dataset.state = state;
    $("server").textContent = text;
  }

  #clearProblem() {
    $("problem").hidden = true;
    this.#retry = null;
    this.#problemPasses = false;
  }

  // --- what the user does ----------------------------------------------------------------------------------------

  /** Load model, skeleton and sources from the server, then apply the address. */
  async begin() {
    this.#clearProblem();
    try {
      const { skeleton, model } = loadedModel(await this.server.json("v1/models"));
      this.#skeleton = skeleton;
      this.session.describe({ model, skeleton });
      this.#serverState("ok", model);
      this.#listSources(await this.server.json("v1/sources"));
    } catch (error) {
      const problem = asProblem(error);
      this.#serverState("bad", problem.wantsToken ? "Token needed" : "Not connected");
      this.problem(problem, () => this.begin());
      return;
    }
    const wanted = this.#readAddress();
    if (wanted) await this.openSource(wanted);
  }

  /** `#source=NAME&token=TOKEN`; the token disappears from the address at once. */
  #readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const token = asked.get("token");
    if (token !== null) {
      this.server.useToken(token);
      asked.delete("token");
      const rest = asked.toString();
      history.replaceState(null, "", location.pathname + location.search + (rest && `#${rest}`));
    }
    return asked.get("source");
  }

  #listSources(sources) {
    $("sources-group").hidden = sources.length === 0;
    $("sources").replaceChildren(
      ...sources.map(({ name }) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "button";
        button.textContent = button.dataset.name = name;
        button.addEventListener("click", () => this.openSource(name));
        return button;
      }),
    );
  }

  listen() {
    this.#readAddress(); // the token, before the first request
    for (const button of document.querySelectorAll("[data-action=camera]")) {
      button.addEventListener("click", () => this.startCamera());
    }
    document.querySelector("[data-action=choose]").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", ({ target }) => {
      const files = [...target.files];
      target.value = ""; // the same file may be chosen again
      if (files.length > 0) this.openFiles(files);
    });
    $("other-camera").addEventListener("click", () => this.switchCamera());
    $("stop").addEventListener("click", () => this.stop());
    $("new-ids").addEventListener("click", () => this.#mode?.renumber());
    $("dismiss").addEventListener("click", () => this.#clearProblem());
    $("retry").addEventListener("click", () => this.#retry?.());
    $("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.server.useToken($("token").value.trim());
      $("token").value = "";
      this.#retry?.();
    });
    $("download").addEventListener("click", () => {
      const stamp = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
      download(this.session.blob(), `featherpose-${stamp}.json`);
    });
    $("clear").addEventListener("click", () => {
      this.session.clear();
      this.#showFigures();
    });
    this.controls.addEventListener("change", ({ detail }) => this.#settingChanged(detail));
    this.#settingChanged("all");
    window.addEventListener("hashchange", () => {
      if (this.#readAddress()) this.begin();
    });
    takeDroppedFiles(
      (files) => this.openFiles(files),
      (problem) => this.problem(problem),
    );
    setInterval(() => this.#showFigures(), FIGURES_EVERY_MS);
  }

  /** Leave skeletons out where the server draws into the images, until the user asks for them. */
  #cover(value) {
    this.#covered = value;
    this.view.skeletons = this.controls.skeletons && !value;
  }

  #settingChanged(name) {
    if (name === "skeletons") this.#covered = false;
    this.view.skeletonOnly = this.controls.skeletonOnly;
    this.view.ids = this.controls.ids;
    this.view.skeletons = this.controls.skeletons && !this.#covered;
    this.#mirror();
    if (this.#mode && this.#last) this.#drawLast();
    this.#mode?.settingsChanged(name);
  }
}

/** Unexpected errors are shown with their own message. */
function asProblem(error) {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem("Something went wrong on this page.", { hint: String(error.message ?? error) });
}

function loadedModel(models) {
  const { name, skeleton } = models.find((model) => model.loaded) ?? models[0];
  return { model: name, skeleton };
}

const page = new Page();
page.listen();
page.begin();
