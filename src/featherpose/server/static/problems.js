/** Error messages: what happened, what to do, and whether a retry makes sense. */

export class Problem extends Error {
  /**
   * @param {string} what One sentence.
   * @param {object} [more]
   * @param {string} [more.hint] What to do now.
   * @param {boolean} [more.retry] Offer "Try again".
   * @param {boolean} [more.wantsToken] Offer a field for the token.
   * @param {number} [more.afterS] Seconds to wait before trying again, if the server named them.
   */
  constructor(what, { hint = "", retry = false, wantsToken = false, afterS = null } = {}) {
    super(what);
    this.name = "Problem";
    this.hint = hint;
    this.retry = retry;
    this.wantsToken = wantsToken;
    this.afterS = afterS;
  }
}

const CAMERA = {
  NotAllowedError: [
    "The camera was refused.",
    "Allow the camera for this page, by the sign beside the address, and try again.",
  ],
  NotFoundError: ["No camera was found.", "Connect one, or choose an image or a video instead."],
  OverconstrainedError: ["There is no other camera."],
  NotReadableError: ["The camera cannot be read.", "Another program may be using it: close that and try again."],
  AbortError: ["The camera stopped.", "Try again; if it happens once more, unplug it and plug it in."],
};
CAMERA.SecurityError = CAMERA.NotAllowedError;

/** Message for an error of getUserMedia. */
export function cameraProblem(error) {
  const [what, hint] = CAMERA[error.name] ?? [`The camera does not start: ${error.message || error.name}.`];
  return new Problem(what, { hint, retry: true });
}

/** Browsers offer cameras on secure pages only; on others the interface is missing. */
export function insecurePage() {
  return new Problem("Browsers give the camera to secure pages only.", {
    hint:
      "Open the page on the machine of the server itself as http://localhost, or give the server a certificate " +
      "(featherpose serve --certificate FILE --key FILE) and come back by https. Images and videos work without.",
  });
}

export function unreachable() {
  return new Problem("The server does not answer.", { hint: "Is it still running?", retry: true });
}

/** What an HTTP answer that is not 2xx means. `error` is the server's own {what, expected, hint}, if it sent one. */
export function httpProblem(status, error, afterS) {
  switch (status) {
    case 401:
      return new Problem("The server asks for its token.", {
        hint: "It was printed when the server started. A wrong one is refused in the same way.",
        wantsToken: true,
      });
    case 403:
      return new Problem(sentence(error, "The server does not accept this page's address."), {
        hint: "Open the page by the address that the server printed when it started.",
      });
    case 413:
      return new Problem(sentence(error, "The image is too large for the server."), {
        hint: "Send smaller images: there is a choice beside it.",
      });
    case 429:
    case 503:
      return new Problem(sentence(error, "The server is busy."), { afterS: afterS ?? 2, retry: true });
    default:
      return new Problem(sentence(error, `The server answered with error ${status}.`), {
        hint: error?.hint ? `${capital(error.hint)}.` : "",
        retry: status >= 500,
      });
  }
}

/** The server's {what, expected, hint} for one frame or source. */
export function frameProblem(error) {
  return new Problem(sentence(error, "The server could not read a frame."), {
    hint: error?.hint ? `${capital(error.hint)}.` : "",
    retry: true,
  });
}

function sentence(error, otherwise) {
  if (!error?.what) return otherwise;
  const expected = error.expected ? `; expected ${error.expected}` : "";
  return `${capital(error.what)}${expected}.`;
}

function capital(text) {
  const trimmed = text.trim().replace(/\.$/, "");
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
}
