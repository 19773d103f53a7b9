"""Who may ask: hosts, origins, tokens, certificates; and what every answer tells a browser."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pose_server import Running, Start
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from featherpose.errors import OptionError
from featherpose.server.options import ServeOptions

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def guarded(start: Start) -> Iterator[Running]:
    options = ServeOptions(token=TOKEN, allowed_origins=("https://example.org",), allowed_hosts=("pose.example.org",))
    with start(options) as running:
        yield running


def protocols(token: str) -> list[Subprotocol]:
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return [Subprotocol("featherpose.v1"), Subprotocol(f"bearer.{encoded}")]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
def test_no_open_server_without_a_token(host: str) -> None:
    with pytest.raises(OptionError, match="FEATHERPOSE_TOKEN"):
        ServeOptions(host=host)
    assert ServeOptions(host=host, token=TOKEN).host == host


@pytest.mark.parametrize("token", ["too-brief", "with spaces in it, and long", "schön-und-lang-genug"])
def test_unusable_tokens_are_refused_and_not_shown(token: str) -> None:
    with pytest.raises(OptionError, match="openssl rand") as caught:
        ServeOptions(token=token)
    assert token not in str(caught.value)
    assert TOKEN not in repr(ServeOptions(token=TOKEN))


def test_options_that_contradict(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="without a certificate"):
        ServeOptions(key=tmp_path)
    with pytest.raises(OptionError, match="there is no file"):
        ServeOptions(certificate=tmp_path / "none.pem")
    with pytest.raises(OptionError, match="source name"):
        ServeOptions(sources={"a/b": "0"})
    with pytest.raises(OptionError, match="origin"):
        ServeOptions(allowed_origins=("example.org",))
    with pytest.raises(OptionError, match="port"):
        ServeOptions(port=70_000)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.7", "", "[::2]", "localhost.evil"]
)
def test_foreign_hosts_are_refused_on_loopback(server: Running, host: str) -> None:
    with server.client() as client:
        answer = client.get("/v1/models", headers={"Host": host})
    assert answer.status_code == 421
    assert "--allow-host" in answer.json()["error"]["hint"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "127.0.0.2"])
def test_own_hosts_are_served(server: Running, host: str) -> None:
    with server.client() as client:
        assert client.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
def test_pages_of_other_sites_are_refused(server: Running, headers: dict[str, str]) -> None:
    with server.client() as client:
        assert client.get("/v1/sources/walk/view", headers=headers).status_code == 403
    if "Origin" in headers:
        with (
            pytest.raises(InvalidStatus, match="403"),
            connect(f"{server.socket_url}/v1/stream", additional_headers=headers),
        ):
            pass


def test_links_to_the_page_and_its_own_requests_are_served(server: Running) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    with server.client() as client:
        assert client.get("/", headers=link).status_code == 200
        own = client.get("/v1/models", headers={"Origin": server.url, "Sec-Fetch-Site": "same-origin"})
        assert own.status_code == 200


def test_answers_tell_browsers_to_be_strict(server: Running, client: httpx.Client) -> None:
    for path in ("/", "/static/icon.svg", "/v1/models", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy
        assert f"ws://127.0.0.1:{server.port}" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert client.get("/v1/models").headers["cache-control"] == "no-store"


def test_files_outside_the_page_are_not_served(server: Running, client: httpx.Client) -> None:
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/",
    ):
        assert client.get(path).status_code == 404


def test_the_token_is_asked_for(guarded: Running) -> None:
    with guarded.client() as stranger, guarded.client(TOKEN) as friend:
        for path in ("/v1/models", "/v1/sources", "/metrics"):
            refused = stranger.get(path)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in refused.text
            assert friend.get(path).status_code == 200
        for path in ("/", "/healthz", "/readyz", "/openapi.json", "/static/icon.svg"):
            assert stranger.get(path).status_code == 200
        for given in ("Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", ""):
            assert stranger.get("/v1/models", headers={"Authorization": given}).status_code == 401
        assert stranger.get(f"/v1/models?token={TOKEN}").status_code == 401


def test_the_token_in_a_websocket(guarded: Running) -> None:
    url = f"{guarded.socket_url}/v1/stream"
    with connect(url, subprotocols=protocols(TOKEN)) as socket:
        assert json.loads(socket.recv())["type"] == "hello"
        assert socket.subprotocol == "featherpose.v1"
    with connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
        assert json.loads(socket.recv())["type"] == "hello"
    name = Subprotocol("featherpose.v1")
    for offered in (protocols("wrong-wrong-wrong-wrong"), [name], [name, Subprotocol("bearer.~~~")], None):
        with connect(url, subprotocols=offered) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008


def test_an_allowed_origin_may_ask(guarded: Running) -> None:
    origin = {"Origin": "https://example.org"}
    with guarded.client(TOKEN) as client:
        answer = client.get("/v1/models", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        preflight = client.options(
            "/v1/poses",
            headers={
                **origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        assert preflight.status_code == 200
        assert client.get("/v1/models", headers={"Host": "pose.example.org"}).status_code == 200
        assert client.get("/v1/models", headers={"Origin": "https://example.org.evil"}).status_code == 403


def test_https_with_a_certificate(start: Start, certified: tuple[Path, Path]) -> None:
    certificate, key = certified
    context = ssl.create_default_context(cafile=str(certificate))
    with start(ServeOptions(certificate=certificate, key=key)) as running:
        with httpx.Client(base_url=running.url, verify=context, trust_env=False) as client:
            assert client.get("/healthz").status_code == 200
            assert client.get("/v1/models", headers={"Origin": running.url}).status_code == 200
            assert client.get("/v1/models", headers={"Origin": running.url.replace("https", "http")}).status_code == 403
        with connect(f"{running.socket_url}/v1/stream", ssl=context) as socket:
            assert json.loads(socket.recv())["type"] == "hello"
    before = threading.active_count()
    with (
        pytest.raises((OptionError, AssertionError), match="certificate"),
        start(ServeOptions(certificate=key, key=certificate)),
    ):
        pass
    assert threading.active_count() <= before  # the network and its workers do not stay
