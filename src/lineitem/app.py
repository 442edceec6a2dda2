"""Reads the configuration, chooses the adapters and builds everything: what the command line and, later, the API stand on."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from lineitem.adapters.objectstore.folder import FolderStore
from lineitem.core.clock import Clock, SystemClock
from lineitem.core.errors import EnvironmentProblem
from lineitem.flow import Pipeline
from lineitem.kit import db
from lineitem.kit.config import Config
from lineitem.kit.db import Connection
from lineitem.kit.embedded import EmbeddedServer
from lineitem.kit.migrate import migrate


class App:
    """One ledger, opened: ``with App(config) as app``."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self.segments = FolderStore(config.data_dir / "segments")
        self._server: EmbeddedServer | None = None
        self._connections: list[Connection] = []
        self._dsn = ""

    def __enter__(self) -> App:
        try:
            self.config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EnvironmentProblem(
                f"the data folder cannot be used: {error.strerror}",
                where=str(self.config.data_dir),
                do="Name another one with --data-dir.",
            ) from error
        if self.config.database_url is None:
            self._server = EmbeddedServer(self.config.data_dir)
            self._server.start()
            self._dsn = self._server.dsn
        else:
            self._dsn = self.config.database_url
        try:
            with db.connect(self._dsn) as connection:
                migrate(connection)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        if self._server is not None:
            self._server.stop()
            self._server = None

    def connection(self) -> Connection:
        """A connection of the posting role, closed with the app."""
        connection = db.connect(self._dsn, role=db.POST)
        self._connections.append(connection)
        return connection

    def pipeline(self, namespace: str) -> Pipeline:
        """The pipeline of one namespace."""
        return Pipeline(namespace, self.connection(), self.connection(), self.segments, self.clock)


def file_digest(file: BinaryIO) -> str:
    """SHA-256 of a file's bytes, hex; leaves the file at its start."""
    digest = sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def readable(path: Path) -> BinaryIO:
    """Open a file people name. Raises EnvironmentProblem that says what is wrong with it."""
    try:
        return path.open("rb")
    except OSError as error:
        raise EnvironmentProblem(f"cannot read: {error.strerror}", where=str(path), do="Name a readable file.") from error
