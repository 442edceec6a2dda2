"""Everything that can go wrong goes wrong, at seeded moments; after each fault every invariant holds.

A short selection, a ledger each for the embedded server and for one far away; ``make faults SEED=1 ROUNDS=200 KAFKA=1`` is the
long run. A seed that fails there is added here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
from tests.faults.postgres import Postgres
from tests.faults.server import ServerWorld
from tests.faults.supervisor import FAILPOINTS, Supervisor
from tests.faults.upgrade import upgrade
from tests.faults.world import KILLED

pytestmark = pytest.mark.slow
SEEDS = [1]
"""One for the selection, and every seed that ever found something."""
SHARE = 400
EMBEDDED = ("kill_the_preparing_process", "kill_the_server", "kill_the_keeper", "wake_a_zombie")
FAR_AWAY = (
    "lose_the_answer_to_commit", "cut_in_a_copy", "partition_for_good", "half_open", "stop_it_immediately",
    "close_a_month_meanwhile",
)  # fmt: skip


@pytest.fixture(scope="module", params=SEEDS)
def embedded(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Supervisor:
    """A ledger in the embedded server."""
    world = Supervisor(tmp_path_factory.mktemp("embedded"), request.param)
    world.share = SHARE
    return world


@pytest.fixture(scope="module", params=SEEDS)
def far_away(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[ServerWorld]:
    """A ledger on a server reached over TCP."""
    server = Postgres(tmp_path_factory.mktemp("server"))
    world = ServerWorld(tmp_path_factory.mktemp("world"), request.param, server)
    world.share = SHARE
    yield world
    world.close()
    server.stop()


@pytest.mark.parametrize("fault", EMBEDDED)
def test_the_embedded_server_and_its_processes_die(embedded: Supervisor, fault: str) -> None:
    """Whatever dies, I1 to I10 hold, and no server is left."""
    embedded.strike(getattr(embedded, fault))
    embedded.nothing_is_left()


@pytest.mark.parametrize("fault", FAR_AWAY)
def test_a_server_far_away(far_away: ServerWorld, fault: str) -> None:
    """Answers are lost, messages cut in half, packets swallowed, the server stopped at once, a month closed: I1 to I10 hold."""
    far_away.strike(getattr(far_away, fault))


def test_the_server_drops_a_client_that_has_gone(far_away: ServerWorld) -> None:
    """Every connection asks it to look, or a worker that was cut off would hold its lane for hours."""
    with connect(far_away.dsn) as connection:
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
        found = [connection.execute("select current_setting(%s)", (name,)).fetchone() for name in names]
    assert found == [("30",), ("10",), ("3",), ("60000",)]


def test_dying_at_each_named_place_leaves_nothing_or_the_whole_batch(tmp_path: Path) -> None:
    """One after the other in one file; I1 to I10 at the end, and reading again adds nothing."""
    world = Supervisor(tmp_path, 2)
    world.bring()
    with EmbeddedServer(world.command.data_dir):
        for number, name in enumerate(FAILPOINTS):
            once = name in ("before_complete", "before_checkpoint")
            world.ended(world.ingest(name if once else f"{name}@{1 + number % 3}"), {KILLED})
    world.finish()


def test_a_ledger_of_an_older_version(tmp_path: Path) -> None:
    """Migrated, its hashes verify, and new usage joins it."""
    upgrade(tmp_path)
