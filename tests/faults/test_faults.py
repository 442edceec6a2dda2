"""Everything that can go wrong goes wrong, at seeded moments; afterwards every invariant holds.

A short selection; ``make faults SEED=1 ROUNDS=200 KAFKA=1`` is the long run. A seed that fails there is added here.
"""

from __future__ import annotations

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


@pytest.mark.parametrize("seed", SEEDS)
def test_the_embedded_server_and_its_processes_die(tmp_path: Path, seed: int) -> None:
    """Whatever dies, the ledger is whole; and no server is left in the end."""
    world = Supervisor(tmp_path, seed)
    world.share = 500
    for fault in (world.kill_the_preparing_process, world.kill_the_server, world.kill_the_keeper, world.wake_a_zombie):
        world.strike(fault)
    world.finish()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_far_away(tmp_path: Path, seed: int) -> None:
    """Answers are lost, messages cut in half, packets swallowed, the server is stopped at once, months are closed meanwhile."""
    server = Postgres(tmp_path / "server")
    (tmp_path / "world").mkdir()
    world = ServerWorld(tmp_path / "world", seed, server)
    world.share = 500
    try:
        for fault in (
            world.lose_the_answer_to_commit, world.cut_in_a_copy, world.partition_for_good, world.half_open,
            world.stop_it_immediately, world.close_a_month_meanwhile,
        ):  # fmt: skip
            world.strike(fault)
        with connect(server.dsn) as connection:
            found = connection.execute("select current_setting('tcp_keepalives_idle')::int").fetchone()
            assert found == (30,), "the server would hold a lane for a client that has gone"
    finally:
        world.close()
        server.stop()


def test_dying_at_each_named_place_leaves_nothing_or_the_whole_batch(tmp_path: Path) -> None:
    """One after the other in one file; I1 to I10 at the end."""
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
