"""Whatever the OpenAPI description allows, and much that it does not: no error 500, and answers as described."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from pose_server import Running, Start
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from featherpose.server.options import ServeOptions

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
]


@pytest.fixture(scope="module")
def fuzzed(start: Start) -> Iterator[Running]:
    """A server without sources: the view of one has no end."""
    with start(ServeOptions()) as running:
        yield running
        assert "featherpose_internal_errors_total 0.0" in running.service.metrics.text().decode()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation(fuzzed: Running, mode: GenerationMode) -> None:
    description = schemathesis.openapi.from_url(f"{fuzzed.url}/openapi.json")
    tried = set()
    for found in description.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def ask(case: Any) -> None:
            case.call_and_validate(checks=CHECKS, timeout=60)

        try:
            ask()
        except Unsatisfiable:  # what has no parameters cannot be asked wrongly
            assert mode is GenerationMode.NEGATIVE
        tried.add(f"{operation.method.upper()} {operation.path}")
    assert {"POST /v1/poses", "POST /v1/poses:batch", "GET /v1/sources/{name}/view", "GET /metrics"} <= tried


def test_the_token_is_described_and_asked_for(start: Start) -> None:
    token = "a-token-of-some-length"
    with start(ServeOptions(token=token)) as guarded:
        description = schemathesis.openapi.from_url(f"{guarded.url}/openapi.json")
        schemes = description.raw_schema["components"]["securitySchemes"]
        assert {(scheme["type"], scheme["scheme"]) for scheme in schemes.values()} == {("http", "bearer")}
        asked: set[str] = set()
        open_to_all: set[str] = set()
        for found in description.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            (asked if operation.definition.raw.get("security") else open_to_all).add(operation.path)

            @given(case=operation.as_strategy())
            @settings(max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            def ask(case: Any) -> None:
                headers = {"Authorization": f"Bearer {token}"}
                case.call_and_validate(checks=[*CHECKS, ignored_auth], headers=headers, timeout=60)

            ask()
        assert open_to_all == {"/healthz", "/readyz"}
        assert {"/v1/poses", "/v1/sources/{name}/view", "/v1/models", "/metrics"} <= asked


def test_mutated_requests(fuzzed: Running, photo: bytes) -> None:
    """Bytes on the wire, bent in places that no client library would send."""
    form = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        + photo[:3000]
        + b"\r\n--x--\r\n"
    )
    head = (
        b"POST /v1/poses?min_person_score=0.5&annotated=false HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(form)
    )
    rng = np.random.default_rng(0)
    statuses: set[bytes] = set()
    for _ in range(300):
        request = bytearray(head + form)
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(0, len(head) + 150))
            match int(rng.integers(0, 4)):
                case 0:
                    request[at] = int(rng.integers(0, 256))
                case 1:
                    del request[at : at + int(rng.integers(1, 9))]
                case 2:
                    request[at:at] = rng.bytes(int(rng.integers(1, 9)))
                case _:
                    request[at:at] = request[at : at + int(rng.integers(1, 40))]
        with socket.create_connection(("127.0.0.1", fuzzed.port), timeout=60) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while piece := connection.recv(65536):
                    answer += piece
            except ConnectionResetError:
                pass
        if answer:
            assert answer.startswith(b"HTTP/1.1 "), answer[:100]
            statuses.add(answer[9:12])
    assert b"400" in statuses
    assert not any(status.startswith(b"5") for status in statuses)
