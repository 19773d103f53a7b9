"""All connections of a server, from accept to close: a bound on their number, and deadlines for each of them.

One timer looks at every connection a few times a second. The transports' own callbacks would not do: asyncio waits
without a deadline for a client that does not read, also after ``close``, and says nothing about a transport whose
buffer holds less than its high-water mark.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from featherpose.server.connections.descriptors import lingering_limit
from featherpose.server.http.memory import trim
from featherpose.server.options import ServeLimits

__all__ = ["Connections", "Link", "Phase"]

_log = logging.getLogger(__name__)
_TICK_S = 0.25
# A client makes progress if it takes this many bytes, or all there are, within the write timeout.
_PROGRESS_BYTES = 65536
# Time for a client to finish sending, read the refusal, and close.
_LINGER_S = 3.0
_CLOSE_S = 5.0
# Idle time after which a connection gives way to a new one: before that, its next request may be on its way.
_IDLE_S = 2.0
# Answers of which nothing was read for this long give way when the memory for bodies and answers runs out.
_STALLED_S = 2.0
_DRAIN_WRITE_S = 5.0
_UNSENT_AGE_S = 0.05
# Freed memory is returned to the system when this many connections have come and three quarters have gone.
_CROWD = 64
_NO_LINGER = struct.pack("ii", 1, 0)


class Phase(enum.Enum):
    """Phase of a connection: what it waits for."""

    OPENING = "the TLS handshake"
    HEAD = "a whole request head"
    BUSY = "the server's answer"
    REST = "the rest of a body that has been answered"
    IDLE = "the next request"
    SOCKET = "WebSocket messages"
    LINGERING = "the client to read that it was turned away"


class Link:
    """One accepted connection.

    Attributes:
        phase: What it waits for.
        since: When the phase began, in seconds of `time.monotonic`.
        raw: The transport of the socket itself, below TLS; None until it exists.
        cancel: Called to end the connection before it has a transport.
        transport: What the protocol writes to; with TLS another than ``raw``.
        give_up: Called when the head or the rest of a body does not arrive in time.
        turn_away: Called when the connection has to give way to another one.
        turned_away: Whether it was one too many when it was accepted.
        network: The address of the client, as `network_of` tells.
    """

    __slots__ = ("_progress", "_unsent", "cancel", "give_up", "network", "phase", "raw", "since", "stalled_at",
                 "transport", "turn_away", "turned_away")  # fmt: skip

    def __init__(self, now: float, network: str = "") -> None:
        self.network = network
        self.phase = Phase.OPENING
        self.since = now
        self.raw: asyncio.Transport | None = None
        self.transport: asyncio.Transport | None = None
        self.cancel: Callable[[], object] = lambda: None
        self.give_up: Callable[[], None] = self.abort
        self.turn_away: Callable[[], None] = self.abort
        self.turned_away = False
        self.stalled_at: float | None = None
        self._unsent = 0
        self._progress = 0

    def enter(self, phase: Phase) -> None:
        """Begin a phase, unless it is this one already or the connection is about to end."""
        if phase is not self.phase and self.phase is not Phase.LINGERING:
            self.phase, self.since = phase, monotonic()

    def abort(self) -> None:
        """Close at once and forget what was not sent, in the kernel too, which would keep it for minutes."""
        if self.raw is None:
            self.cancel()
            return
        connection = self.raw.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.raw.abort()

    def unsent_bytes(self) -> int:
        """Return the number of bytes that wait for the client to read."""
        total = 0
        for transport in {self.raw, self.transport} - {None}:
            try:
                total += transport.get_write_buffer_size() if transport is not None else 0
            except AttributeError:  # a TLS transport that was closed twice
                continue
        return total

    def watch_writes(self, now: float) -> None:
        """Note since when the client has read too little to count as progress."""
        raw = self.raw
        unsent = 0 if raw is None else raw.get_write_buffer_size()
        self._progress += max(0, self._unsent - unsent)
        self._unsent = unsent
        if not unsent:
            self.stalled_at, self._progress = None, 0
        elif self.stalled_at is None or self._progress >= _PROGRESS_BYTES:
            self.stalled_at, self._progress = now, 0

    def is_closing(self) -> bool:
        """Return whether the transport was asked to close."""
        return any(t is not None and t.is_closing() for t in (self.raw, self.transport))


class Connections:
    """Every open connection of one server.

    Args:
        limits: Bounds and deadlines.
        count: Called with the cause for each connection that is ended early.

    Attributes:
        limits: The bounds and deadlines.
    """

    def __init__(self, limits: ServeLimits, count: Callable[[str], None] = lambda _cause: None) -> None:
        self.limits = limits
        self._count = count
        self._links: dict[Link, None] = {}  # in the order of their arrival
        self._lingering: dict[Link, None] = {}
        self._closing: dict[Link, float] = {}
        self._draining = False
        self._unsent = (float("-inf"), 0)

    def __len__(self) -> int:
        return len(self._links) + len(self._lingering)

    def admit(self, network: str = "") -> Link:
        """Make room for a connection that was accepted, and count it from now on.

        If there is no room it is marked as turned away and stays open only until the refusal is sent.
        """
        link = Link(monotonic(), network)
        if len(self._links) >= self.limits.connections and not self.make_room():
            self.ended("limit", "more than %d connections: the newest are turned away", self.limits.connections)
            link.turned_away = True
            self._add_lingering(link)
        else:
            self._links[link] = None
        return link

    def remove(self, link: Link) -> None:
        """Forget a connection whose socket is closed."""
        for links in (self._links, self._lingering, self._closing):
            links.pop(link, None)

    def linger(self, link: Link) -> None:
        """Keep an answered connection open briefly, outside of the bound."""
        link.enter(Phase.LINGERING)
        if link in self._links:
            del self._links[link]
            self._add_lingering(link)

    def make_room(self) -> bool:
        """End the connection that has waited longest without a request in progress.

        Connections that never sent a request come first, those of the address that has most of them, then those that
        are idle after one.
        """
        now = monotonic()
        for phase, age_s in ((Phase.OPENING, 0.0), (Phase.HEAD, 0.0), (Phase.IDLE, _IDLE_S)):
            waiting = [link for link in self._links if link.phase is phase and now - link.since >= age_s]
            if not waiting:
                continue
            if phase is Phase.IDLE:
                oldest = min(waiting, key=lambda link: link.since)
            else:  # in the order in which they came
                crowd = Counter(link.network for link in waiting).most_common(1)[0][0]
                oldest = next(link for link in waiting if link.network == crowd)
            self.ended("gave way", "%d connections: those that wait without a request give way to new ones",
                       len(self._links))  # fmt: skip
            oldest.turn_away()
            self.linger(oldest)
            return True
        return False

    def relieve(self) -> bool:
        """End the connection that has read nothing of its answer for the longest time, if that is long."""
        now = monotonic()
        stalled = [(link.stalled_at, id(link), link) for link in self._links if link.stalled_at is not None]
        if not stalled or now - min(stalled)[0] < _STALLED_S:
            return False
        self.ended("unread", "answers fill the memory for them: clients that do not read are cut off")
        min(stalled)[2].abort()
        self._unsent = (float("-inf"), 0)
        return True

    def unsent_bytes(self) -> int:
        """Return the bytes of answers that wait for clients to read, as of a moment ago."""
        now = monotonic()
        if now - self._unsent[0] > _UNSENT_AGE_S:
            self._unsent = (now, sum(link.unsent_bytes() for link in self._links))
        return self._unsent[1]

    def drain(self) -> None:
        """Begin shutdown: reading deadlines become short."""
        self._draining = True

    def abort_all(self) -> None:
        """Close every connection at once."""
        for link in [*self._links, *self._lingering]:
            link.abort()

    async def watch(self) -> None:
        """Enforce the deadlines of every connection, until cancelled."""
        most = 0
        while True:
            await asyncio.sleep(_TICK_S)
            now = monotonic()
            most = max(most, len(self))
            for link in [*self._links, *self._lingering]:
                self._hold(link, now)
            if most >= _CROWD and len(self) <= most // 4:
                most = 0
                await asyncio.to_thread(trim)

    def ended(self, cause: str, text: str, *values: object) -> None:
        """Count a connection that is ended early, and log the cause."""
        self._count(cause)
        _log.warning(text, *values)

    def _hold(self, link: Link, now: float) -> None:
        limits, age_s = self.limits, now - link.since
        link.watch_writes(now)
        write_s = min(limits.write_timeout_s, _DRAIN_WRITE_S) if self._draining else limits.write_timeout_s
        if link.stalled_at is not None and now - link.stalled_at > write_s:
            self.ended("write timeout", "connections are cut off: their clients do not read")
            link.abort()
        elif link.is_closing():
            closing_at = self._closing.setdefault(link, now)
            if link.stalled_at is not None:  # not sent yet: a matter of the deadline above
                self._closing[link] = now
            elif now - closing_at > _CLOSE_S:
                link.abort()
        elif link.phase in (Phase.HEAD, Phase.REST) and age_s > limits.body_timeout_s:
            self._count("read timeout")
            link.give_up()
            self.linger(link)
        elif link.phase is Phase.IDLE and age_s > 2 * limits.keep_alive_s:
            link.abort()  # unexpected bytes followed the last request
        elif link.phase is Phase.LINGERING and age_s > _LINGER_S:
            if link.transport is not None:
                link.transport.close()
            else:
                link.abort()

    def _add_lingering(self, link: Link) -> None:
        if len(self._lingering) >= lingering_limit(self.limits.connections):
            oldest = next(iter(self._lingering))
            oldest.abort()
            self.remove(oldest)
        self._lingering[link] = None
