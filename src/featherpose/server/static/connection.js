/** A WebSocket that reconnects with growing pauses; receives JSON, sends anything. */

import { Problem, frameProblem, unreachable } from "./problems.js";

const FIRST_PAUSE_S = 0.5;
const LONGEST_PAUSE_S = 15;

/**
 * Events: `hello` and one for each other `type` of message (detail: the message); `lost` (detail: {problem, inS},
 * inS null when there will be no further attempt); `end` when the server closed because all is said.
 */
export class Connection extends EventTarget {
  #server;
  #path;
  #socket = null;
  #timer = 0;
  #attempts = 0;
  #wanted = false;
  #greeted = false;
  #lastError = null; // a server explains itself before it hangs up

  constructor(server, path) {
    super();
    this.#server = server;
    this.#path = path;
  }

  get open() {
    return this.#greeted && this.#socket?.readyState === WebSocket.OPEN;
  }

  start() {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#attempts = 0;
    window.addEventListener("online", this.retryNow);
    this.#connect();
  }

  stop() {
    this.#wanted = false;
    clearTimeout(this.#timer);
    window.removeEventListener("online", this.retryNow);
    this.#drop();
  }

  /** Do not wait for the end of the pause. */
  retryNow = () => {
    if (!this.#wanted || this.#socket !== null) return;
    clearTimeout(this.#timer);
    this.#connect();
  };

  /** Close a connection to a server that does not answer, and reconnect. */
  restart() {
    if (!this.#wanted || this.#socket === null) return;
    this.#drop();
    this.#again(new Problem("The server stopped answering."));
  }

  send(data) {
    if (this.open) this.#socket.send(data);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#greeted = false;
    socket?.close(1000);
  }

  #connect() {
    const socket = this.#server.socket(this.#path);
    this.#socket = socket;
    this.#greeted = false;
    this.#lastError = null;
    socket.addEventListener("message", ({ data }) => {
      if (socket !== this.#socket) return;
      const message = JSON.parse(data);
      if (message.type === "hello") this.#greeted = true;
      else if (message.type === "error") this.#lastError = message.error;
      else this.#attempts = 0; // a source that fails right after the hello is asked less and less often
      this.#tell(message.type, message);
    });
    socket.addEventListener("close", (event) => {
      if (socket !== this.#socket) return; // closed by ourselves
      const greeted = this.#greeted;
      this.#socket = null;
      this.#greeted = false;
      this.#lost(event, greeted);
    });
  }

  async #lost({ code, reason }, greeted) {
    if (code === 1000 && greeted) {
      this.stop();
      this.#tell("end");
      return;
    }
    const words = reason ? `${reason.charAt(0).toUpperCase()}${reason.slice(1)}` : "";
    const explained = this.#lastError ? frameProblem(this.#lastError) : null;
    if (code === 1013) {
      const otherwise = new Problem(words || "The server has no room for another session.", { retry: true });
      this.#again((greeted && explained) || otherwise, 2);
    } else if (code === 1008 || code === 1009 || code === 1011) {
      // Not retried. Before the hello the token may be wrong; a failure was reported just before.
      const cause = greeted ? code === 1011 && explained : await this.#server.diagnose();
      this.#end(cause || new Problem(words || "The server refuses this session.", { retry: true }));
    } else if (greeted) {
      this.#again(new Problem(code === 1001 ? "The server is going away." : "The connection was lost."));
    } else {
      const cause = await this.#server.diagnose();
      if (cause?.wantsToken) this.#end(cause);
      else this.#again(cause ?? unreachable(), cause?.afterS ?? 0);
    }
  }

  // Both may come after a look at what is wrong, when the user has long stopped or tried again.
  #end(problem) {
    if (!this.#wanted || this.#socket !== null) return;
    this.stop();
    this.#tell("lost", { problem, inS: null });
  }

  #again(problem, atLeastS = 0) {
    if (!this.#wanted || this.#socket !== null) return;
    clearTimeout(this.#timer);
    const pause = Math.min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** this.#attempts++);
    // Random within half its length, so that clients of a restarted server do not reconnect at the same moment.
    const inS = Math.max(atLeastS, pause) * (0.75 + 0.5 * Math.random());
    this.#timer = setTimeout(() => this.#connect(), 1e3 * inS);
    this.#tell("lost", { problem, inS });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
