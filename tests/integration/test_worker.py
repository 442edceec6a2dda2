"""The desk of a worker on a real ledger: when records become a batch, who may write it, and what memory holds."""

from __future__ import annotations

from itertools import pairwise

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


def test_a_flood_in_one_partition_does_not_starve_a_trickle_in_another(worker_ledger: App) -> None:
    """However much waits in the flood's pile, between two batches of the trickle there is one of the flood; and while the desk
    is full of the flood, there is room for the trickle's share."""
    clock = Hands()
    desk = Desk(worker_ledger.pipeline(NAMESPACE), StreamLimits(records=8, age_ms=1000, commit_ms=0), clock=clock)
    flood, trickle = opened(worker_ledger, 0), opened(worker_ledger, 1)
    desk.take(flood)
    desk.take(trickle)
    order = []
    sent = 0
    for second in range(6):
        while not desk.over(flood.key):
            fill(desk, flood, sent)
            sent += 1
        assert not desk.over(trickle.key)
        fill(desk, trickle, second)
        clock.now += 1_000_000_000
        for _ in range(2):
            desk.step()
            desk.wait(30)
            done = desk.finished()
            assert done is not None
            order.append(done.partition.key)
    desk.close()
    assert order.count(trickle.key) == 6
    assert all(trickle.key in pair for pair in pairwise(order)), order
    assert opened(worker_ledger, 1).next == 6
    assert opened(worker_ledger, 0).next == 6 * 8


def test_a_batch_takes_what_it_may_and_the_rest_waits_its_turn(worker_ledger: App) -> None:
    """By records and by bytes; of a limited source what the limit allows, and nothing more than twice that is gathered."""
    allowed = [2, 0, 3]
    desk = Desk(
        worker_ledger.pipeline(NAMESPACE), StreamLimits(records=4, age_ms=0, commit_ms=0),
        allowed=lambda _, wanted: min(wanted, allowed.pop(0)), clock=Hands(),
    )  # fmt: skip
    partition = opened(worker_ledger, 0)
    desk.take(partition)
    desk.bound(partition.key, 4)
    fill(desk, partition, 0, 1, 2)
    assert not desk.over(partition.key)
    fill(desk, partition, 3)
    assert desk.over(partition.key)
    desk.step()
    assert not finish(desk)
    assert opened(worker_ledger, 0).next == 2
    assert desk.step() is None
    assert not desk.busy, "its limit is used up"
    desk.close()


def test_memory_stays_bounded_while_the_ledger_stalls(worker_ledger: App) -> None:
    """Many partitions of large records: beside the batch in work no more is gathered than twice what the desk holds."""
    limits = StreamLimits(records=1000, bytes=4 << 20, age_ms=0)
    desk = Desk(worker_ledger.pipeline(NAMESPACE), limits)
    partitions = [opened(worker_ledger, number) for number in range(12)]
    for partition in partitions:
        desk.take(partition)
    with connect(worker_ledger.dsn, autocommit=False) as holder:
        holder.execute("select from ledger.lane for update")
        taken = 0
        for position in range(200):
            for partition in partitions:
                if not desk.over(partition.key):
                    desk.add(partition.key, position, line("x", note="y" * 200_000))
                    taken += 1
                desk.step()
        assert desk.busy
        assert all(desk.over(partition.key) for partition in partitions)
        assert desk.gathered_bytes <= 2 * limits.bytes + 12 * 210_000
        assert taken < 100
        holder.rollback()
    desk.close()


def test_chores_are_done_with_and_without_batches(worker_ledger: App) -> None:
    """After each batch, and every second without one."""
    clock, done = Hands(), []
    desk = Desk(
        worker_ledger.pipeline(NAMESPACE), StreamLimits(age_ms=0), chores=lambda: done.append(clock.now), clock=clock
    )
    partition = opened(worker_ledger, 0)
    desk.take(partition)
    desk.step()
    assert not desk.busy
    clock.now = 1_000_000_000
    desk.step()
    desk.wait_for_all()
    assert done == [1_000_000_000]
    fill(desk, partition, 0)
    desk.step()
    assert not finish(desk)
    assert len(done) == 2
    desk.close()


def test_a_recreated_topic_is_another_stream(worker_ledger: App) -> None:
    """Streams are found by how their names begin; doctor does not take them for interrupted files."""
    key = opened(worker_ledger, 0).namespace_key
    opened(worker_ledger, 1)
    assert intake.streams(worker_ledger.control, key, "kafka:c/t/") == ["kafka:c/t/i/0", "kafka:c/t/i/1"]
    assert intake.streams(worker_ledger.control, key, "kafka:c/t2/") == []
    assert opened(worker_ledger, 1) == opened(worker_ledger, 1)
