"""What may happen between a process of ``lineitem`` and its PostgreSQL, or to a PostgreSQL on a machine of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lineitem.kit.db import connect
from tests.faults.postgres import Postgres
from tests.faults.proxy import DOWN, UP, Pair, Proxy, Trap, after_bytes, commit_answered, mid_copy
from tests.faults.world import Fault, World, until

_PLAIN = "?sslmode=disable&gssencmode=disable"
_IMPATIENT = "&tcp_user_timeout=1500&keepalives_idle=1&keepalives_interval=1&keepalives_count=2"
"""Gives up on a silent server in two seconds instead of the minute that is the default."""
_LOST = "lost"
_BACKENDS = "select pid from pg_stat_activity where application_name = 'lineitem' and pid <> pg_backend_pid()"
_TRAFFIC_BYTES = 250_000
"""About what a share sends to the server."""


class Networked(World):
    """A world whose ledger lies on a server of its own, with a proxy before it. ``working`` starts what is struck."""

    def __init__(self, folder: Path, seed: int, server: Postgres) -> None:
        super().__init__(folder, seed, environment={"LINEITEM_DATABASE_URL": server.dsn})
        self.server, self.dsn = server, server.dsn
        self.way = Proxy(server.port)

    def working(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start to read what was brought; it ends at the end."""
        raise NotImplementedError

    def through_the_proxy(self, *, patient: bool = False) -> dict[str, str]:
        """The environment of a process that is struck."""
        return {
            "LINEITEM_DATABASE_URL": self.server.address(port=self.way.port) + _PLAIN + ("" if patient else _IMPATIENT)
        }

    def close(self) -> None:
        """End the proxy."""
        self.way.close()

    def network_faults(self) -> list[Fault]:
        """Those between a process and its server."""
        return [
            self.lose_the_answer_to_commit, self.cut_in_a_copy, self.cut_anywhere, self.delay_everything, self.trickle,
            self.partition_for_good, self.partition_that_heals, self.half_open,
        ]  # fmt: skip

    def server_faults(self) -> list[Fault]:
        """Those of the server itself."""
        return [
            self.kill_the_postmaster,
            self.stop_it_immediately,
            self.freeze_the_server,
            self.end_its_session_in_a_copy,
        ]

    # --- between them ------------------------------------------------------------------------------------------------

    def lose_the_answer_to_commit(self) -> None:
        """The server has committed, and the connection is cut before it can say so."""
        self._cut_at(commit_answered(self.chance.randrange(1, 25)))

    def cut_in_a_copy(self) -> None:
        """Half of a COPY message has arrived when the connection is cut."""
        self._cut_at(mid_copy(self.chance.randrange(1, 60)))

    def cut_anywhere(self) -> None:
        """After any number of bytes in either direction."""
        direction = self.chance.choice([UP, DOWN])
        self._cut_at(after_bytes(direction, self.chance.randrange(1, _TRAFFIC_BYTES)))

    def _cut_at(self, trap: Trap) -> None:
        self.way.set_trap(trap)
        process = self.working(**self.through_the_proxy())
        said = self.ended(process, {0, 1})
        assert process.returncode == 0 or _LOST in said, said
        self.remember()
        self.way.heal()

    def delay_everything(self) -> None:
        """A long way: every packet takes some milliseconds more."""
        self.way.slow(delay_s=self.chance.uniform(0.001, 0.006))
        self.ended(self.working(**self.through_the_proxy(patient=True)), {0})
        self.way.heal()

    def trickle(self) -> None:
        """One byte at a time."""
        self.way.slow(chunk_bytes=1)
        self.ended(self.working(**self.through_the_proxy(patient=True)), {0})
        self.way.heal()

    def partition_for_good(self) -> None:
        """From some byte on nothing passes and nobody is told: the process gives up, says so, and ends."""
        self.way.set_trap(after_bytes(UP, self.chance.randrange(1, _TRAFFIC_BYTES)), self.way.swallow)
        process = self.working(**self.through_the_proxy())
        said = self.ended(process, {0, 1})
        assert process.returncode == 0 or _LOST in said or "cannot reach" in said, said
        self.way.cut()  # what a server does whose client's machine answers no probes
        self.way.heal()

    def partition_that_heals(self) -> None:
        """Nothing passes for a while; then it goes on as if nothing had been."""
        self.way.set_trap(after_bytes(UP, self.chance.randrange(1, _TRAFFIC_BYTES)), self.way.swallow)
        process = self.working(**self.through_the_proxy(patient=True))
        until(lambda: process.poll() is not None or self.way.sprung.is_set())
        self.last(0.2, 1.5)
        self.way.heal()
        self.ended(process, {0})

    def half_open(self) -> None:
        """The server's side of a connection is gone, and the process is never told."""
        self.way.set_trap(after_bytes(UP, self.chance.randrange(1, _TRAFFIC_BYTES)), Pair.forget_server)
        process = self.working(**self.through_the_proxy())
        said = self.ended(process, {0, 1})
        assert process.returncode == 0 or _LOST in said, said
        self.way.heal()

    # --- the server --------------------------------------------------------------------------------------------------

    def kill_the_postmaster(self) -> None:
        """SIGKILL to the main process, at any moment."""
        self._under_load(self.server.kill)

    def stop_it_immediately(self) -> None:
        """``pg_ctl stop -m immediate``, at any moment."""
        self._under_load(self.server.stop_immediately)

    def _under_load(self, strike: Fault) -> None:
        process = self.working(**self.through_the_proxy())
        self._wait_for_a_batch(process)
        self.remember()
        strike()
        self.ended(process, {0, 1})
        self.server.start()
        self.server.amcheck()

    def freeze_the_server(self) -> None:
        """Every process of the server stands still for a while."""
        process = self.working(**self.through_the_proxy(patient=True))
        self._wait_for_a_batch(process)
        self.server.freeze()
        self.last(0.2, 1.5)
        self.server.freeze(thaw=True)
        self.ended(process, {0})

    def end_its_session_in_a_copy(self) -> None:
        """``pg_terminate_backend`` while half of a COPY message has arrived."""

        def strike(_: Pair) -> None:
            with connect(self.dsn) as connection:
                for (pid,) in connection.execute(_BACKENDS).fetchall():
                    connection.execute("select pg_terminate_backend(%s)", (pid,))

        self.way.set_trap(mid_copy(self.chance.randrange(1, 60)), strike)
        self.ended(self.working(**self.through_the_proxy()), {0, 1})
        self.way.heal()

    def _wait_for_a_batch(self, process: subprocess.Popen[bytes]) -> None:
        enough = self.batches() + self.chance.randrange(1, 12)
        until(lambda: process.poll() is not None or self.batches() >= enough)
