"""A registry elsewhere, answered by a server of the standard library: what is asked once, what is waited for, what is not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lineitem.adapters.schemaregistry.remote import RemoteRegistry
from lineitem.adapters.schemaregistry.settings import Address
from lineitem.core.errors import EnvironmentProblem
from lineitem.schemas.model import Schema
from lineitem.schemas.source import Absent


class _Server(ThreadingHTTPServer):
    """Path -> (status, body, headers); ``asked``: what came, and who said so."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, tuple[int, str, dict[str, str]]] = {}
        self.asked: list[tuple[str, str | None]] = []

    def says(self, path: str, document: Any, status: int = 200, **headers: str) -> None:
        body = document if isinstance(document, str) else json.dumps(document)
        self.answers[path] = (status, body, headers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        none: tuple[int, str, dict[str, str]] = (404, json.dumps({"error_code": 40403, "message": "no"}), {})
        status, body, headers = self.server.answers.get(self.path, none)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to say."""


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


class Hands:
    """A clock that waiting moves, in seconds."""

    now: float = 0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def registry(server: _Server, secret: str | None = None) -> tuple[RemoteRegistry, Hands]:
    clock = Hands()
    return RemoteRegistry(Address(server.url, secret), clock=clock, pause=clock.wait), clock


def test_what_cannot_change_is_asked_once(server: _Server) -> None:
    """A schema with what it refers to, in the order they need each other; a version; the latest for a while."""
    server.says("/schemas/ids/1", {"schema": "A", "references": [{"name": "b", "subject": "B/x", "version": 2}]})
    server.says(
        "/subjects/B%2Fx/versions/2", {"schema": "B", "references": [{"name": "c", "subject": "C", "version": 1}]}
    )
    server.says("/subjects/C/versions/1", {"schema": "C", "id": 9, "schemaType": "JSON"})
    server.says("/subjects/C/versions/latest", {"schema": "C", "id": 9, "schemaType": "JSON"})
    found, _ = registry(server, "Bearer x")
    for _ in range(2):
        assert found.by_id(1) == Schema("AVRO", "A", (), (("c", "C"), ("b", "B")))
        assert found.by_version("C", 1) == (9, Schema("JSON", "C"))
        assert found.by_version("C", None) == (9, Schema("JSON", "C"))
    assert [path for path, _ in server.asked] == [
        "/schemas/ids/1", "/subjects/B%2Fx/versions/2", "/subjects/C/versions/1", "/subjects/C/versions/1",
        "/subjects/C/versions/latest",
    ]  # fmt: skip
    assert {who for _, who in server.asked} == {"Bearer x"}


def test_what_is_not_there_is_believed_for_a_while(server: _Server) -> None:
    """Then it is asked for again: somebody may have registered it."""
    found, clock = registry(server)
    assert [found.by_id(5) for _ in range(3)] == [Absent.UNKNOWN] * 3
    assert len(server.asked) == 1
    server.says("/schemas/ids/5", {"schema": "A"})
    assert found.by_id(5) is Absent.UNKNOWN
    clock.wait(30)
    assert found.by_id(5) == Schema("AVRO", "A")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"error_code": 50001}), (503, "busy"), (401, {"error_code": 401}), (404, "<html>"), (200, "<html>"),
        (200, "[]"), (200, {"references": [{}]}),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_away(server: _Server, status: int, body: Any) -> None:
    """A proxy's page, a refused caller, a server in trouble: none of them says that there is no such schema."""
    server.says("/schemas/ids/1", body, status)
    found, clock = registry(server)
    assert found.by_id(1) is Absent.AWAY
    asked = len(server.asked)
    assert asked > 3
    assert 5 < clock() < 10
    assert found.by_id(2) is Absent.AWAY, "nobody waits again at once"
    assert len(server.asked) == asked
    server.says("/schemas/ids/1", {"schema": "A"})
    clock.wait(10)
    assert found.by_id(1) == Schema("AVRO", "A")


def test_a_secret_goes_nowhere_else(server: _Server) -> None:
    """A redirect is not followed: it would take the secret with it."""
    server.says("/schemas/ids/1", "", 302, Location=f"{server.url}/stolen")
    assert registry(server, "Basic x")[0].by_id(1) is Absent.AWAY
    assert "/stolen" not in [path for path, _ in server.asked]


def test_a_worker_asks_before_it_begins(server: _Server) -> None:
    """An address that is no registry's is refused with a sentence."""
    server.says("/subjects", ["a"])
    registry(server)[0].check()
    server.says("/subjects", "<html>")
    with pytest.raises(EnvironmentProblem, match="not JSON"):
        registry(server)[0].check()
