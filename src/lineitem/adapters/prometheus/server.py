"""Answers /metrics, /healthz and /readyz beside a worker, in threads of its own."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

from lineitem.adapters.prometheus.exposition import Exposition
from lineitem.core.errors import EnvironmentProblem
from lineitem.observability.health import Progress
from lineitem.observability.recorder import Recorder

_PATIENCE_S = 10
_JSON = "application/json"
Answer = tuple[HTTPStatus, str, bytes]


@contextmanager
def serving(listen: tuple[str, int], recorder: Recorder, progress: Progress) -> Iterator[str]:
    """Serve for as long as the context lasts; its address. No host means every one.

    Raises EnvironmentProblem where it cannot listen there.
    """
    exposition = Exposition(recorder, process=True)

    def metrics(accept: str) -> Answer:
        body, media_type = exposition.text(accept)
        return HTTPStatus.OK, media_type, body

    def ready(_: str) -> Answer:
        verdict = progress.verdict()
        status = HTTPStatus.OK if verdict.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return status, _JSON, _document(ready=verdict.ready, why=verdict.why)

    def alive(_: str) -> Answer:
        return HTTPStatus.OK, _JSON, _document(alive=True)

    pages = {"/metrics": metrics, "/healthz": alive, "/readyz": ready}
    try:
        server = _Server(listen, pages)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot listen for scrapes: {error.strerror or error}",
            where=f"{listen[0]}:{listen[1]}",
            do="Name another address or port with --metrics-listen; another worker may have this one.",
        ) from error
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _document(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


class _Server(ThreadingHTTPServer):
    """``pages``: path -> what answers it, given the Accept header."""

    daemon_threads = True

    def __init__(self, listen: tuple[str, int], pages: dict[str, Callable[[str], Answer]]) -> None:
        self.pages = pages
        self.address_family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        super().__init__(listen, _Handler)

    @property
    def url(self) -> str:
        """Where it really listens."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE_S  # a client that says nothing does not keep a thread

    def do_GET(self) -> None:
        """One of the pages, or 404."""
        page = self.server.pages.get(urlsplit(self.path).path)
        if page is None:
            known = ", ".join(self.server.pages)
            answer: Answer = HTTPStatus.NOT_FOUND, _JSON, _document(title="no such page", pages=known)
        else:
            answer = page(self.headers.get("Accept", ""))
        status, media_type, body = answer
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def version_string(self) -> str:
        """The Server header."""
        return "lineitem"

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not logged: they come every few seconds."""
