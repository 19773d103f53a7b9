/** Sliders, switches and the choice of size: one object of settings, remembered by this browser. */

const STORED = "featherpose.settings";

// Element id -> name of the setting and how it is read.
const CONTROLS = {
  "keypoint-certainty": ["keypointCertainty", "valueAsNumber"],
  "person-certainty": ["personCertainty", "valueAsNumber"],
  "skeleton-only": ["skeletonOnly", "checked"],
  skeletons: ["skeletons", "checked"],
  ids: ["ids", "checked"],
  mirror: ["mirror", "checked"],
  smoothing: ["smoothing", "checked"],
  "in-step": ["inStep", "checked"],
  "long-side": ["longSide", "value"],
};

/** Event: `change` (detail: name of the setting). */
export class Controls extends EventTarget {
  constructor(root = document) {
    super();
    const stored = remembered();
    for (const [id, [name, property]] of Object.entries(CONTROLS)) {
      const element = root.getElementById(id);
      const read = () => (property === "value" ? Number(element.value) : element[property]);
      const apply = () => {
        this[name] = read();
        const output = root.getElementById(`${id}-value`);
        if (!output) return;
        output.textContent = `${Math.round(100 * element.valueAsNumber)} % sure`;
        element.setAttribute("aria-valuetext", output.textContent);
      };
      if (typeof stored[name] === typeof read()) {
        const before = element[property];
        element[property] = property === "value" ? String(stored[name]) : stored[name];
        if (property === "value" && element.selectedIndex < 0) element.value = before;
      }
      apply();
      element.addEventListener("input", () => {
        apply();
        this.#remember();
        this.dispatchEvent(new CustomEvent("change", { detail: name }));
      });
    }
  }

  /** Settings that the server needs. It sends all people; the sliders filter them in the page. */
  get forServer() {
    return { min_keypoint_score: 0, min_person_score: 0, smoothing: this.smoothing };
  }

  #remember() {
    const values = Object.fromEntries(Object.values(CONTROLS).map(([name]) => [name, this[name]]));
    remember("localStorage", STORED, JSON.stringify(values));
  }
}

function remembered() {
  try {
    return JSON.parse(recall("localStorage", STORED)) ?? {};
  } catch {
    return {}; // not what this page wrote
  }
}

/** The browser may deny storage; then settings are not kept. */
export function recall(storageName, key) {
  try {
    return window[storageName].getItem(key);
  } catch {
    return null;
  }
}

export function remember(storageName, key, value) {
  try {
    window[storageName].setItem(key, value);
  } catch {
    // Denied or full.
  }
}
