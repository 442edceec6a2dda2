"""A ledger, opened: chooses the adapters by the configuration, owns the connections."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Self

import psycopg

from lineitem.adapters.objectstore.folder import FolderStore
from lineitem.adapters.schemaregistry.remote import RemoteRegistry
from lineitem.adapters.schemaregistry.settings import read_address
from lineitem.core.clock import Clock, SystemClock
from lineitem.core.errors import DatabaseUnavailable, EnvironmentProblem
from lineitem.flow import Pipeline
from lineitem.ingest.segment_table import TableStore
from lineitem.kit import db
from lineitem.kit.blobs import BlobStore
from lineitem.kit.config import Config
from lineitem.kit.db import Connection
from lineitem.kit.embedded import EmbeddedServer
from lineitem.kit.migrate import migrate
from lineitem.ledger.checkpoint import Notary


class Opened:
    """One ledger, its database, its segments and its checkpoints."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self._server: EmbeddedServer | None = None
        self._connections: list[Connection] = []
        self.dsn = ""

    def __enter__(self) -> Self:
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
            self.dsn = self._server.dsn
        else:
            self.dsn = self.config.database_url
        try:
            with db.connect(self.dsn) as connection:
                migrate(connection)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        if "segments" in self.__dict__ and isinstance(self.segments, TableStore):
            self.segments.close()
        self._connections.clear()
        if self._server is not None:
            server, self._server = self._server, None
            server.stop()
            if isinstance(error, psycopg.OperationalError | DatabaseUnavailable):
                server.check_room()

    def connection(self) -> Connection:
        """A connection of the posting role, closed with the app."""
        connection = db.connect(self.dsn, role=db.POST)
        self._connections.append(connection)
        return connection

    def pipeline(self, namespace: str) -> Pipeline:
        """The pipeline of one namespace."""
        connections = (self.connection(), self.connection())
        return Pipeline(namespace, *connections, self.segments, self.clock, self.dsn, registry=self.registry)

    @cached_property
    def registry(self) -> RemoteRegistry | None:
        """Where schemas come from, if not from the namespace's own registry."""
        if self.config.schema_registry is None:
            return None
        return RemoteRegistry(read_address(self.config.schema_registry, self.config.schema_registry_config))

    @cached_property
    def segments(self) -> BlobStore:
        """Where raw segments are kept."""
        folder = FolderStore(self.config.data_dir / "segments")
        return TableStore(self.dsn, folder) if self.config.segments_in_database else folder

    @cached_property
    def notary(self) -> Notary:
        """Signs and checks checkpoints, outside the database."""
        return Notary(self.config.checkpoint_dir, self.config.data_dir / "keys")

    @cached_property
    def control(self) -> Connection:
        """The connection of what people and billing do."""
        return self.connection()

    def checkpoint(self) -> None:
        """Sign the ledger as it stands."""
        self.notary.sign(self.control, self.clock.now_us())
