/** Images on the page: people are found in one after the other; small ones to choose from, and annotated downloads. */

import { drawPeople, visiblePeople } from "./draw.js";
import { Shrinker } from "./live.js";
import { Problem } from "./problems.js";
import { download } from "./session.js";
import { placer } from "./view.js";
import { zip } from "./zip.js";

const IMAGE_LONG_SIDE = 1280; // a single image is worth more pixels than a frame among many
const THUMBNAIL_LONG_SIDE = 240;
const DOWNLOAD_LONG_SIDE = 8192; // canvases have limits, by browser and machine
const ATTEMPTS = 5;

const $ = (id) => document.getElementById(id);

/** One or several image files; has what `modes.js` asks of a mode. */
export class ImagesMode {
  tracked = false;
  tracksHere = false;
  #given = new AbortController();
  #entries = [];
  #chosen = null;
  #shrinker = new Shrinker();

  /** @param {File[]} files */
  constructor(page, files) {
    this.page = page;
    this.files = files;
  }

  get name() {
    return this.#chosen?.file.name ?? this.files[0].name;
  }

  async start() {
    const { page } = this;
    this.#entries = this.files.map((file) => ({ file, address: URL.createObjectURL(file), message: null }));
    $("gallery-list").replaceChildren(...this.#entries.map((entry) => this.#item(entry)));
    $("gallery").hidden = false;
    $("download-image").onclick = () => this.#downloadOne();
    $("download-images").onclick = () => this.#downloadAll();
    let failed = 0;
    for (const [index, entry] of this.#entries.entries()) {
      const count = this.files.length > 1 ? ` ${index + 1} of ${this.files.length}` : "";
      page.status(`Looking for people…${count}`);
      try {
        await this.#find(entry);
      } catch (problem) {
        if (this.#given.signal.aborted) return;
        // For a single image, or if every image would fail, the page shows the problem.
        if (this.files.length === 1 || !(problem instanceof Problem) || problem.retry || problem.wantsToken) throw problem;
        failed += 1;
        this.#fail(entry, problem);
      }
      if (this.#given.signal.aborted) return;
      this.#showButtons();
    }
    const done = this.files.length - failed;
    const which = this.files.length === 1 ? "The image is done." : `${done} images are done.`;
    page.status(failed ? `${which} ${failed} could not be read.` : which);
  }

  async #find(entry) {
    const { page } = this;
    const image = new Image();
    image.src = entry.address;
    try {
      await image.decode();
    } catch {
      throw new Problem(`The browser cannot read ${entry.file.name}.`, {
        hint: "JPEG, PNG, WebP and GIF work everywhere; featherpose predict reads the rest.",
      });
    }
    const size = [image.naturalWidth, image.naturalHeight];
    const longSide = Math.max(IMAGE_LONG_SIDE, page.controls.longSide);
    const jpeg = await this.#shrinker.jpeg(image, size, longSide, 0.9);
    if (this.#chosen === null) {
      page.view.media.image.src = entry.address;
      await page.view.media.image.decode();
      page.view.show("image");
    }
    const startedAt = performance.now();
    const message = await this.#ask(jpeg);
    entry.latencyMs = performance.now() - startedAt;
    // Each person gets a color; the record has no ids, because single images are not tracked.
    entry.message = { ...message, people: message.people.map((person, index) => ({ ...person, id: index })) };
    page.record({ timestamp_s: 0, ...message }, entry.latencyMs, entry.file.name);
    entry.thumbnail = thumbnailOf(image, size);
    this.#draw(entry);
    entry.button.disabled = false;
    if (this.#chosen === null) await this.#choose(entry);
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
        if (!problem.afterS || attempt === ATTEMPTS) throw problem;
        this.page.status(`The server is busy. Trying again in ${Math.ceil(problem.afterS)} s…`);
        await new Promise((resolve) => setTimeout(resolve, 1e3 * problem.afterS));
        if (this.#given.signal.aborted) throw problem;
      }
    }
  }

  // --- the small images ------------------------------------------------------------------------------------------

  #item(entry) {
    const item = document.createElement("li");
    entry.button = document.createElement("button");
    entry.button.type = "button";
    entry.button.className = "small-image";
    entry.button.disabled = true;
    entry.button.setAttribute("aria-pressed", "false");
    entry.canvas = document.createElement("canvas");
    entry.canvas.setAttribute("aria-hidden", "true"); // the words beside it say the same
    const words = document.createElement("span");
    words.className = "small-image-name";
    words.textContent = entry.file.name;
    entry.count = document.createElement("span");
    entry.count.className = "small-image-count";
    entry.count.textContent = "waiting";
    entry.button.append(entry.canvas, words, entry.count);
    entry.button.addEventListener("click", () => this.#choose(entry));
    item.append(entry.button);
    return item;
  }

  #draw(entry) {
    const { canvas, thumbnail, message } = entry;
    [canvas.width, canvas.height] = [thumbnail.width, thumbnail.height];
    const context = canvas.getContext("2d");
    context.drawImage(thumbnail, 0, 0);
    const people = visiblePeople(message, this.page.controls);
    drawOver(context, people, this.page.skeleton, message.size, 1, false);
    entry.count.textContent = people.length === 1 ? "1 person" : `${people.length} people`;
  }

  #fail(entry, problem) {
    entry.count.textContent = "not read";
    entry.button.title = problem.message;
  }

  #showButtons() {
    const found = this.#entries.filter(({ message }) => message !== null).length;
    $("download-image").disabled = this.#chosen === null;
    $("download-images").disabled = found === 0;
    $("download-images").hidden = this.files.length < 2;
  }

  async #choose(entry) {
    if (entry.message === null) return;
    const { image } = this.page.view.media;
    this.#chosen = entry;
    for (const other of this.#entries) other.button.setAttribute("aria-pressed", String(other === entry));
    if (image.src !== entry.address) {
      image.src = entry.address;
      await image.decode().catch(() => {}); // another one was chosen meanwhile
      if (this.#chosen !== entry) return;
    }
    this.page.view.show("image");
    await this.page.people(this, { message: entry.message, latencyMs: entry.latencyMs, unrecorded: true });
  }

  // --- downloads -------------------------------------------------------------------------------------------------

  async #downloadOne() {
    const entry = this.#chosen;
    download(await this.#annotated(entry), annotatedNames([entry.file.name])[0]);
  }

  async #downloadAll() {
    const entries = this.#entries.filter(({ message }) => message !== null);
    const names = annotatedNames(entries.map(({ file }) => file.name));
    const files = [];
    for (const [index, entry] of entries.entries()) {
      this.page.status(`Drawing ${index + 1} of ${entries.length}…`);
      files.push({ name: names[index], blob: await this.#annotated(entry) });
      if (this.#given.signal.aborted) return;
    }
    download(await zip(files), "featherpose-images.zip");
    this.page.status(`${entries.length} annotated images are in featherpose-images.zip.`);
  }

  /** The image in its own size, with the people that are shown, as JPEG. */
  async #annotated({ file, message }) {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, DOWNLOAD_LONG_SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    const context = canvas.getContext("2d", { alpha: false });
    context.fillStyle = this.page.controls.skeletonOnly ? "#000" : "#fff"; // transparent pixels lie over white
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.page.controls.skeletonOnly) context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    const ratio = Math.max(1, Math.max(canvas.width, canvas.height) / 1000);
    drawOver(context, visiblePeople(message, this.page.controls), this.page.skeleton, message.size, ratio, false);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  }

  // --- as every mode ---------------------------------------------------------------------------------------------

  /** Repeat the request. */
  again() {
    return new ImagesMode(this.page, this.files);
  }

  /** The server sent everyone; the sliders act on what is here. */
  settingsChanged() {
    for (const entry of this.#entries) if (entry.message) this.#draw(entry);
  }

  renumber() {}
  retryNow() {}

  stop() {
    this.#given.abort();
    this.page.view.media.image.removeAttribute("src");
    $("gallery").hidden = true;
    $("gallery-list").replaceChildren();
    for (const { address } of this.#entries) URL.revokeObjectURL(address);
  }
}

function drawOver(context, people, skeleton, size, ratio, ids) {
  const { width, height } = context.canvas;
  const place = placer(size, { left: 0, top: 0, width, height });
  drawPeople(context, people, skeleton, place, { ratio, ids, dimUnnumbered: false, bounds: [width, height] });
}

function thumbnailOf(image, [width, height]) {
  const scale = Math.min(1, THUMBNAIL_LONG_SIDE / Math.max(width, height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Names of the annotated files, each once: `photo.poses.jpg`. */
export function annotatedNames(names) {
  const taken = new Set();
  return names.map((name) => {
    const stem = name.replace(/\.[^.]+$/, "");
    let free = `${stem}.poses.jpg`;
    for (let number = 2; taken.has(free.toLowerCase()); number += 1) free = `${stem}-${number}.poses.jpg`;
    taken.add(free.toLowerCase());
    return free;
  });
}
