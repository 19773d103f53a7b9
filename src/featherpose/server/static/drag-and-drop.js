/** Images and videos that are dropped or pasted anywhere on the page. */

import { Problem } from "./problems.js";

/**
 * @param {(files: File[]) => void} take Called with the images and videos.
 * @param {(problem: Problem) => void} refuse Called if there is none.
 */
export function takeDroppedFiles(take, refuse) {
  const hover = (value) => document.body.toggleAttribute("data-dropping", value);
  const choose = ({ files }) => {
    const known = [...files].filter(({ type }) => /^(image|video)\//.test(type));
    if (known.length > 0) take(known);
    else refuse(new Problem("That is neither an image nor a video.", { hint: "Drop files from your disk." }));
  };
  window.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    hover(true);
  });
  window.addEventListener("dragleave", ({ relatedTarget }) => {
    if (relatedTarget === null) hover(false); // left the window, not only one of its elements
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault(); // the browser would leave the page for the file
    hover(false);
    choose(event.dataTransfer);
  });
  window.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData?.files.length > 0) choose(clipboardData);
  });
}
