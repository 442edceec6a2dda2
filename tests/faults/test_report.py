"""The report lists every kind of fault there is, and its page is the one the results make."""

from __future__ import annotations

from tests.faults.network import Networked
from tests.faults.report import KINDS, MEANINGS, PAGE, page
from tests.faults.server import ServerWorld, SmallDisk
from tests.faults.stream import StreamWorld
from tests.faults.supervisor import Supervisor

LISTED = [kind for kinds in KINDS.values() for kind in kinds]


def test_every_kind_is_in_the_table_once() -> None:
    """What a world may do is a method of that name, and has its sentence."""
    assert len(LISTED) == len(set(LISTED))
    assert set(LISTED) == set(MEANINGS)
    worlds = (Supervisor, ServerWorld, SmallDisk, StreamWorld, Networked)
    missing = {kind for kind in LISTED if not any(hasattr(world, kind) for world in worlds)}
    assert missing == {"migrate_an_old_ledger"}


def test_the_page_is_up_to_date() -> None:
    """``make reference`` writes it."""
    assert PAGE.read_text() == page()
