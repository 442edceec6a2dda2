"""The desk of a worker on a real ledger: when records become a batch, who may write it, and what memory holds."""

from __future__ import annotations

import pytest

from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import Refused
from lineitem.ingest import intake
from lineitem.ingest.intake import Partition
from lineitem.kit.db import connect
from lineitem.ledger.post import LANES
from lineitem.worker import Desk, StreamLimits
from tests.acceptance.command import CATALOG, line

NAMESPACE = "default"


class Hands:
    """A clock that is set by hand, in nanoseconds."""

    now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def worker_ledger(ledger: App) -> App:
    """A ledger whose catalog is in force."""
    ledger.publish(NAMESPACE, parse_catalog(CATALOG, "catalog.yaml"))
    return ledger


def opened(ledger: App, number: int) -> Partition:
    key = ledger.pipeline(NAMESPACE).snapshot().namespace_key
    return intake.open_stream(
        ledger.control, NAMESPACE, key, f"kafka:c/t/i/{number}", LANES, "cloudevents", {"source": "kafka:t"}
    )


def fill(desk: Desk, partition: Partition, *positions: int) -> None:
    for position in positions:
        desk.add(partition.key, position, line(f"{partition.stream} {position}"))


def full(desk: Desk) -> bool:
    """Asked anew each time, which a type checker does not believe of an attribute."""
    return desk.full


def finish(desk: Desk) -> bool:
    """Let the batch in work be finished: whether another had moved the position."""
    desk.wait(30)
    done = desk.finished()
    assert done is not None
    return done.moved


def test_a_batch_is_due_by_records_bytes_or_age(worker_ledger: App) -> None:
    """Or when its partition has nothing more; gathered records are counted until then."""
    clock = Hands()
    desk = Desk(worker_ledger.pipeline(NAMESPACE), StreamLimits(3, 4096, 1000), clock=clock)
    first, second = opened(worker_ledger, 0), opened(worker_ledger, 1)
    desk.take(first)
    desk.take(second)
    fill(desk, first, 0, 5)
    assert desk.step() is None
    assert not desk.busy
    assert not full(desk)
    clock.now = 1_000_000_000
    desk.step()
    fill(desk, second, 0, 1, 2)
    assert full(desk), "as many as one batch holds, over all partitions"
    assert not finish(desk)
    desk.step()
    assert not finish(desk)
    fill(desk, first, 6)
    desk.step()
    assert not desk.busy
    desk.step(hurry=[first.key])
    assert not finish(desk)
    desk.close()
    assert (desk.summary.batches, desk.summary.counts.received) == (3, 6)
    assert (opened(worker_ledger, 0).next, opened(worker_ledger, 1).next) == (7, 3)


def test_only_one_of_two_desks_writes_a_record(worker_ledger: App) -> None:
    """Two workers hold one partition, as after a rebalance that one did not notice: the second touches nothing."""
    desks = [Desk(worker_ledger.pipeline(NAMESPACE), StreamLimits(age_ms=0)) for _ in range(2)]
    for desk in desks:
        partition = opened(worker_ledger, 0)
        desk.take(partition)
        fill(desk, partition, 0, 1, 2)
    moved = []
    for desk in desks:
        desk.step()
        moved.append(finish(desk))
    assert moved == [False, True]
    desks[1].take(opened(worker_ledger, 0))
    fill(desks[1], partition, 0, 1, 2, 3)
    desks[1].step()
    assert not finish(desks[1])
    for desk in desks:
        desk.close()
    assert [desk.summary.counts.received for desk in desks] == [3, 1]
    assert worker_ledger.verify(deep=True, progress=lambda *_: None).findings == []


def test_a_partition_that_is_given_up_leaves_nothing_behind(worker_ledger: App) -> None:
    """A batch in work is finished before; what was only gathered is another worker's."""
    desk = Desk(worker_ledger.pipeline(NAMESPACE), StreamLimits(age_ms=0))
    partition = opened(worker_ledger, 0)
    desk.take(partition)
    fill(desk, partition, 0, 1)
    desk.step()
    fill(desk, partition, 2, 3)
    desk.leave(partition.key, 30)
    assert opened(worker_ledger, 0).next == 2
    assert not full(desk)
    assert not finish(desk)
    assert desk.step() is None
    assert not desk.busy
    desk.close()


def test_a_batch_that_may_not_be_written_is_not(worker_ledger: App) -> None:
    """What the reader is not certain of stays out, and it hears why."""

    def uncertain() -> None:
        raise Refused("the topic is another one")

    desk = Desk(worker_ledger.pipeline(NAMESPACE), StreamLimits(age_ms=0), certain=uncertain)
    partition = opened(worker_ledger, 0)
    desk.take(partition)
    fill(desk, partition, 0)
    desk.step()
    with pytest.raises(Refused, match="another one"):
        desk.wait_for_all()
    assert opened(worker_ledger, 0).next == 0
    desk.close()


def test_a_stalled_ledger_leaves_the_desk_full(worker_ledger: App) -> None:
    """While somebody holds the lane, one batch waits in work and one is gathered: no more."""
    partition = opened(worker_ledger, 0)
    desk = Desk(worker_ledger.pipeline(NAMESPACE), StreamLimits(records=2, age_ms=0))
    desk.take(partition)
    with connect(worker_ledger.dsn, autocommit=False) as holder:
        holder.execute("select from ledger.lane where lane = %s for update", (partition.lane,))
        fill(desk, partition, 0, 1)
        desk.step()
        fill(desk, partition, 2, 3)
        assert full(desk)
        assert desk.step() is None
        desk.wait(0.2)
        assert desk.busy
        holder.rollback()
    assert not finish(desk)
    desk.step()
    assert not finish(desk)
    desk.close()
    assert opened(worker_ledger, 0).next == 4


def test_a_recreated_topic_is_another_stream(worker_ledger: App) -> None:
    """Streams are found by how their names begin; doctor does not take them for interrupted files."""
    key = opened(worker_ledger, 0).namespace_key
    opened(worker_ledger, 1)
    assert intake.streams(worker_ledger.control, key, "kafka:c/t/") == ["kafka:c/t/i/0", "kafka:c/t/i/1"]
    assert intake.streams(worker_ledger.control, key, "kafka:c/t2/") == []
    assert opened(worker_ledger, 1) == opened(worker_ledger, 1)
