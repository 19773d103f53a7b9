/** The server as the page knows it: its addresses, the token, and what its refusals mean. */

import { httpProblem, unreachable } from "./problems.js";
import { recall, remember } from "./settings.js";

const STORED = "featherpose.token";

export class Server {
  constructor(base = document.baseURI) {
    this.base = new URL(".", base);
    this.token = recall("sessionStorage", STORED) ?? "";
  }

  /** Keep a token for this tab only; it never enters an address that is sent or stored. */
  useToken(token) {
    this.token = token;
    remember("sessionStorage", STORED, token);
  }

  address(path) {
    return new URL(path, this.base).href;
  }

  /** GET or POST; resolves with the Response, rejects with a Problem. */
  async fetch(path, { signal, ...init } = {}) {
    const headers = new Headers(init.headers);
    if (this.token) headers.set("Authorization", `Bearer ${this.token}`);
    let response;
    try {
      response = await fetch(this.address(path), { ...init, headers, signal, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw unreachable();
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => null);
    const after = Number.parseFloat(response.headers.get("Retry-After") ?? "");
    throw httpProblem(response.status, body?.error, Number.isFinite(after) ? after : null);
  }

  async json(path, init) {
    return (await this.fetch(path, init)).json();
  }

  /** A browser's WebSocket cannot send headers; the token travels as a second subprotocol. */
  socket(path) {
    const address = new URL(path, this.base);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const protocols = ["featherpose.v1"];
    if (this.token) protocols.push(`bearer.${base64url(this.token)}`);
    const socket = new WebSocket(address, protocols);
    socket.binaryType = "arraybuffer";
    return socket;
  }

  /** Why a WebSocket was refused: browsers hide it, an ordinary request tells. Null if nothing is wrong. */
  async diagnose() {
    try {
      await this.fetch("v1/models");
      return null;
    } catch (problem) {
      return problem;
    }
  }
}

/** Base64 for addresses (RFC 4648, section 5) without padding: "=" may not stand in a subprotocol. */
export function base64url(text) {
  const bytes = new TextEncoder().encode(text);
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
