"""Access control: Host, Origin and token of every request, and the security headers of every answer.

The server runs beside a browser that visits other sites. A foreign page must neither read poses nor start a camera:
its requests are refused by their Origin and Sec-Fetch-Site headers, and names that an attacker's DNS points at this
machine by the Host header, on loopback too.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featherpose.server.http.errors import HTTPError, error_body
from featherpose.server.options import ServeOptions, is_loopback

__all__ = ["SUBPROTOCOL", "Guard", "needs_token", "same_token", "session_token_ok"]

SUBPROTOCOL = "featherpose.v1"
_BEARER_PROTOCOL = "bearer."
# What the page needs before it can send a token, and the health checks of monitors.
_OPEN = ("/", "/healthz", "/readyz", "/openapi.json", "/favicon.ico")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'{sockets}; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(self)",
}


class Guard:
    """ASGI middleware: rejects requests that are not allowed, and adds the security headers to every answer.

    Args:
        app: The next application.
        options: How the server was started.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app = app
        self._options = options
        self._local = is_loopback(options.host)
        names = {"localhost", *(host.lower() for host in options.allowed_hosts)}
        if not self._local:
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        try:
            ipaddress.ip_address(options.host)
        except ValueError:
            names.add(options.host.lower())
        self._names = names
        self._origins = {origin.lower().rstrip("/") for origin in options.allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or WebSocket handshake."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            _check_framing(headers)
            self._check_host(headers)
            self._check_origin(scope, headers)
            if scope["type"] == "http" and not self._is_preflight(scope, headers):
                self._check_token(scope, headers)
        except HTTPError as refusal:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": refusal.given[:100]})
            else:
                await self._refuse(refusal, scope, headers, send)
            return
        await self._app(scope, receive, self._with_headers(scope, headers, send))

    def _check_host(self, headers: Headers) -> None:
        """Return the names and addresses under which this server is known.

        An address cannot be made to point elsewhere by DNS; on another machine's network any of ours will do.
        """
        host = _host_name(headers.get("host", ""))
        if host in self._names:
            return
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            if address.is_loopback or not self._local:
                return
        raise HTTPError(
            421, f"the Host header {host[:80]!r} does not name this server",
            expected="the address that the server listens on", hint="start it with --allow-host NAME",
        )  # fmt: skip

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is not None:
            if origin.lower() in self._origins or self._is_own(origin, scope, headers):
                return
            raise HTTPError(
                403, f"a page of {origin[:80]!r} may not use this server", hint="start it with --allow-origin ORIGIN"
            )
        # Images, scripts and links carry no Origin; browsers say where those come from in this header.
        if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
            visits = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
            if not visits or scope["path"].startswith("/v1/"):
                raise HTTPError(403, "a page of another site may not use this server")

    def _is_own(self, origin: str, scope: Scope, headers: Headers) -> bool:
        try:
            parts = urlsplit(origin.lower())
            scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
            return parts.scheme == scheme and parts.netloc == headers.get("host", "").lower()
        except ValueError:
            return False

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        token = self._options.token
        if token is None or not needs_token(scope["path"]):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not same_token(given.strip(), token):
            raise HTTPError(401, "the token is missing or wrong", expected="the header Authorization: Bearer TOKEN")

    def _is_preflight(self, scope: Scope, headers: Headers) -> bool:
        return scope["method"] == "OPTIONS" and "access-control-request-method" in headers and bool(self._origins)

    async def _refuse(self, refusal: HTTPError, scope: Scope, headers: Headers, send: Send) -> None:
        body = error_body(refusal)
        raw = [(k.lower().encode(), v.encode("latin-1")) for k, v in refusal.headers.items()]
        raw.append((b"content-length", str(len(body)).encode()))
        send = self._with_headers(scope, headers, send)
        await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def _with_headers(self, scope: Scope, headers: Headers, send: Send) -> Send:
        if scope["type"] == "websocket":
            return send
        host = headers.get("host", "")
        page = scope["path"] == "/" or scope["path"].startswith("/static/")
        foreign = headers.get("origin", "").lower() in self._origins

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)
                # Older browsers do not count a WebSocket of the same host as 'self'.
                sockets = f" ws://{host} wss://{host}" if _plain(host) else ""
                answer.setdefault("Content-Security-Policy", _POLICY.format(sockets=sockets))
                answer.setdefault("Cross-Origin-Resource-Policy", "cross-origin" if foreign else "same-origin")
                answer.setdefault("Cache-Control", "no-cache" if page else "no-store")
            await send(message)

        return send_with_headers


def _check_framing(headers: Headers) -> None:
    """Reject a body with two lengths, which two servers would read as two different requests (RFC 9112, 6.1)."""
    if "transfer-encoding" in headers and "content-length" in headers:
        raise HTTPError(
            400, "the request has a Content-Length and a Transfer-Encoding", expected="one of them", close=True
        )


def needs_token(path: str) -> bool:
    """Return whether a path needs the token, if the server has one.

    Example:
        >>> [needs_token(path) for path in ("/v1/poses", "/metrics", "/healthz", "/static/app.css")]
        [True, True, False, False]
    """
    return path not in _OPEN and not path.startswith("/static/")


def session_token_ok(subprotocols: list[str], token: str | None) -> bool:
    """Return whether the WebSocket subprotocols carry the token; browsers can send no header there.

    Example:
        >>> session_token_ok(["featherpose.v1", "bearer.c2VjcmV0LXNlY3JldC1zZWNyZXQ"], "secret-secret-secret")
        True
        >>> session_token_ok(["featherpose.v1"], "secret-secret-secret")
        False
    """
    if token is None:
        return True
    for protocol in subprotocols:
        if protocol.startswith(_BEARER_PROTOCOL):
            encoded = protocol.removeprefix(_BEARER_PROTOCOL)
            try:
                given = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            except (binascii.Error, ValueError):
                continue
            if same_token(given, token):
                return True
    return False


def same_token(given: str, token: str) -> bool:
    """Compare two tokens in a time that does not depend on how much of them is equal."""
    return hmac.compare_digest(given.encode(), token.encode())


def _host_name(host: str) -> str:
    """Return the Host header without its port, lower case, without the brackets of IPv6."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _plain(host: str) -> bool:
    return bool(host) and all(c.isalnum() or c in ".-:[]_" for c in host) and host.isascii()
