/** The webcam, or one of a phone's cameras. */

import { Problem, cameraProblem, insecurePage } from "./problems.js";

export class Camera {
  #stream = null;
  #turn = 0; // the browser may ask its user for a long time; whoever asked may be gone when the answer comes

  /** Ask for a camera; rejects with a Problem. */
  async open(wish = { facingMode: "user" }) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw window.isSecureContext ? new Problem("This browser has no access to cameras.") : insecurePage();
    }
    this.close();
    const turn = this.#turn;
    const video = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 }, ...wish };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    } catch (error) {
      throw cameraProblem(error);
    }
    if (turn !== this.#turn) {
      stream.getTracks().forEach((track) => track.stop());
      throw new Problem("The camera was closed meanwhile.");
    }
    this.#stream = stream;
    this.#track.addEventListener("ended", () => this.onended?.());
    return this.#stream;
  }

  /** Called when the camera is unplugged or its permission withdrawn. */
  onended = null;

  /** Front cameras are shown mirrored, a phone's back camera is not. */
  get facesUser() {
    return this.#track?.getSettings().facingMode !== "environment";
  }

  /** Switch to the other camera of a phone, or to the next of several cameras. */
  async openOther() {
    const { facingMode, deviceId } = this.#track?.getSettings() ?? {};
    if (facingMode) return this.open({ facingMode: facingMode === "user" ? "environment" : "user" });
    const all = await cameras();
    const next = all[(all.findIndex((device) => device.deviceId === deviceId) + 1) % all.length];
    return this.open({ deviceId: { exact: next.deviceId } });
  }

  close() {
    this.#turn += 1;
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
  }

  get #track() {
    return this.#stream?.getVideoTracks()[0];
  }
}

/** All cameras of this machine. */
export async function cameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices.filter((device) => device.kind === "videoinput");
}
