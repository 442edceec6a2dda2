"""Everything that can be killed is killed, at seeded moments; the ledger equals the oracle all the same.

A short selection; ``make faults SEED=1 ROUNDS=200`` is the long run. A seed that fails there is added here.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.faults.supervisor import FAILPOINTS, Supervisor
from tests.faults.world import rounds

SEEDS = [1]
"""One for the selection, and every seed that ever found something."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_dies_the_ledger_equals_the_oracle(tmp_path: Path, seed: int) -> None:
    """One fault of each kind, and I1 to I10 after each."""
    supervisor = Supervisor(tmp_path, seed)
    happened = list(rounds(supervisor, 9))
    assert len(set(happened)) == 9
    supervisor.finish()


@pytest.mark.slow
def test_dying_at_each_named_place_leaves_nothing_or_the_whole_batch(tmp_path: Path) -> None:
    """One after the other in one file; I1 to I10 at the end."""
    supervisor = Supervisor(tmp_path, 2)
    supervisor.bring()
    with EmbeddedServer(supervisor.command.data_dir):
        for number, name in enumerate(FAILPOINTS):
            once = name in ("before_complete", "before_checkpoint")
            supervisor.ended(supervisor.ingest(name if once else f"{name}@{1 + number % 3}"), {-signal.SIGKILL})
    supervisor.finish()
