"""Usage from a Kafka topic into a PostgreSQL of one's own: workers, broker, server and the ways between them are struck."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from lineitem.kit.db import connect
from tests.acceptance.command import line
from tests.faults.broker import Broker
from tests.faults.kafka import PARTITIONS, QUICK, account_of
from tests.faults.network import Networked
from tests.faults.postgres import Postgres
from tests.faults.proxy import DOWN, UP, Pair, after_bytes
from tests.faults.world import BATCH_RECORDS, KILLED, Fault, stopped, until

FAILPOINTS = ("after_segment", "before_write", "after_position", "after_identities", "before_commit", "after_commit")
_FETCHED_BYTES = 200_000
"""About what a share takes from the broker."""
_POSITIONS = "select stream, next from ingest.partition where content = 'stream'"


def poison(name: str) -> dict[str, tuple[bytes, str]]:
    """What may come -> a record of that kind, and the reason code it must get; ``name`` makes its ids new."""
    return {
        "bad UTF-8": (line(name).replace(b"acme", b"ac\xff\xfe"), "bad_encoding"),
        "NaN": (line(f"{name}-nan", b"NaN"), "bad_json"),
        "1e400": (line(f"{name}-1e400", b"1e400"), "value_out_of_range"),
        "nesting": (line(f"{name}-deep", b"[" * 5_000 + b"]" * 5_000), "too_deep"),
        "10 MB": (line(f"{name}-big", 5, data={"tokens": 5, "text": "x" * (10 << 20)}), "too_large"),
        "no value": (line(f"{name}-none", b"null"), "missing_value"),
        "empty": (b"", "bad_record"),
    }


class StreamWorld(Networked):
    """A ledger that workers fill from one topic."""

    def __init__(self, folder: Path, seed: int, server: Postgres, broker: Broker) -> None:
        super().__init__(folder, seed, server)
        self.broker, self.topic = broker, f"faults-{seed}"
        self.settings = folder / "client.properties"
        self.settings.write_text(
            QUICK + "socket.timeout.ms=5000\n"
        )  # by itself a connection is given up on after a minute
        self._sent: list[bytes] = []
        self.publish()
        broker.create(self.topic, PARTITIONS)

    def bring(self, count: int = 0) -> None:
        """Records that the broker has acknowledged."""
        self._send(self.take(count))

    def _send(self, lines: list[bytes]) -> None:
        self._sent += lines
        self.broker.produce(self.topic, [(account_of(one), one) for one in lines])

    def _call(self, *options: str, through_the_proxy: bool = False) -> list[str]:
        source = ["--source", self.broker.url(self.topic, through_the_proxy=through_the_proxy), "--group", self.topic]
        small = ["--batch-size", str(BATCH_RECORDS), "--batch-ms", "50"]
        return ["worker", *source, "--config", str(self.settings), *small, *options]

    def working(self, **environment: str) -> subprocess.Popen[bytes]:
        """A worker that ends when all is read."""
        return self.command.start(*self._call("--until-idle"), "--json", env=environment)

    def worker(self, failpoint: str = "", *options: str, through_the_proxy: bool = False) -> subprocess.Popen[bytes]:
        """A worker."""
        call = self._call(*options, through_the_proxy=through_the_proxy)
        return self.command.start(*call, "--json", env={"LINEITEM_FAILPOINT": failpoint})

    def recover(self) -> None:
        """Read to the end."""
        self.command.json(*self._call("--until-idle"))

    def check(self) -> None:
        """I1 to I10; every position is the end of its partition, so there is no lag."""
        super().check()
        assert self._positions() == self.broker.ends(self.topic), "I3, I10: the positions are not the ends"

    def _positions(self) -> dict[str, int]:
        """Partition of the topic as it is now -> where the ledger stands in it."""
        current = f"/{self.topic}/{self.broker.topic_id(self.topic)}/"
        with connect(self.dsn) as connection:
            rows = connection.execute(_POSITIONS).fetchall()
        return {stream.rpartition("/")[2]: at for stream, at in rows if current in stream}

    def faults(self) -> list[Fault]:
        """Everything that can happen here."""
        own: list[Fault] = [
            self.kill_at_a_failpoint, self.kill_a_worker, self.stop_a_worker, self.wake_a_zombie, self.kill_the_broker,
            self.recreate_the_topic, self.repeat_and_shuffle, self.send_poison, self.cut_from_the_broker, self.slow_broker,
            self.partition_from_the_broker, self.half_open_to_the_broker,
        ]  # fmt: skip
        return [*own, *self.network_faults(), *self.server_faults()]

    # --- workers -----------------------------------------------------------------------------------------------------

    def kill_at_a_failpoint(self) -> None:
        """Two workers; one dies at a named place."""
        place = f"{self.chance.choice(FAILPOINTS)}@{self.chance.randrange(1, 10)}"
        for worker in [self.worker(place, "--until-idle"), self.worker("", "--until-idle")]:
            self.ended(worker, {0, KILLED})

    def kill_a_worker(self) -> None:
        """SIGKILL anywhere while another works."""
        workers = [self.worker("", "--until-idle") for _ in range(2)]
        self._wait_for_a_batch(workers[0])
        self.remember()
        workers[0].kill()
        for worker in workers:
            self.ended(worker, {0, KILLED})

    def stop_a_worker(self) -> None:
        """SIGTERM while another works."""
        workers = [self.worker(), self.worker("", "--until-idle")]
        self._wait_for_a_batch(workers[0])
        workers[0].send_signal(signal.SIGTERM)
        for worker in workers:
            self.ended(worker, {0, -signal.SIGTERM})  # it may come before the worker has begun

    def wake_a_zombie(self) -> None:
        """A worker stands still past its session's timeout, another reads everything, then it wakes."""
        zombie = self.worker(f"stop:after_segment@{self.chance.randrange(1, 12)}", "--until-idle")
        assert until(lambda: zombie.poll() is not None or stopped(zombie.pid))
        self.recover()
        zombie.send_signal(signal.SIGCONT)
        self.ended(zombie, {0})

    # --- the broker --------------------------------------------------------------------------------------------------

    def _under_a_worker(self, strike: Callable[[], None], *, through_the_proxy: bool = True) -> None:
        """A worker reads while something happens to its broker; it waits, and goes on when that is over."""
        worker = self.worker("", through_the_proxy=through_the_proxy)
        self._wait_for_a_batch(worker)
        strike()
        read = until(lambda: worker.poll() is not None or self._positions() == self.broker.ends(self.topic))
        worker.send_signal(signal.SIGTERM)
        said = self.ended(worker, {0, -signal.SIGTERM})  # it may come before the worker has begun
        assert read, f"I10: stands at {self._positions()} of {self.broker.ends(self.topic)}: {said}"

    def kill_the_broker(self) -> None:
        """SIGKILL, and started again."""

        def strike() -> None:
            self.broker.kill()
            self.broker.start()

        self._under_a_worker(strike, through_the_proxy=False)

    def recreate_the_topic(self) -> None:
        """Deleted under a worker, and made anew: refused until somebody names its id."""
        self.recover()
        worker = self.worker()
        self.broker.delete(self.topic)
        self.broker.create(self.topic, PARTITIONS)
        self.ended(worker, {1})
        self.bring()
        refusal = self.command.refused(*self._call("--until-idle"))
        assert "made anew" in refusal, refusal
        self.command.json(*self._call("--until-idle", "--topic-id", self.broker.topic_id(self.topic)))

    def repeat_and_shuffle(self) -> None:
        """A producer that sends a tenth of all it ever sent again, late and in another order."""
        again = self.chance.sample(self._sent, len(self._sent) // 10)
        self.expected.take(again)
        self._send(again)
        self.ended(self.working(), {0})

    def send_poison(self) -> None:
        """Records of every bad kind between good ones: each a dead letter with its place and its code; 2^63 is only large."""
        records = poison(f"poison-{len(self._sent)}")
        before = self.broker.ends(self.topic)["0"]
        self.expected.counts += {"received": len(records), "dead_lettered": len(records)}
        self.broker.produce(self.topic, [(None, one) for one, _ in records.values()], partition=0)
        large = [line(f"large-{len(self._sent)}", 2**63)]
        self.expected.take(large)
        self._send(large)
        self.bring()
        self.ended(self.working(), {0})
        found = self.command.json("dlq", "list", "--limit", "100000")["dead_letters"]
        codes = {
            one["position"]: one["reason"]
            for one in found
            if one["stream"].endswith("/0") and one["position"] >= before
        }
        for number, (kind, (_, code)) in enumerate(records.items()):
            assert codes.get(before + number) == code, (kind, codes)

    # --- between a worker and the broker -----------------------------------------------------------------------------

    def cut_from_the_broker(self) -> None:
        """Cut in the middle of a message, twice: by its bytes, and all connections at once."""
        direction, count = self.chance.choice([(UP, 3_000), (DOWN, _FETCHED_BYTES)])
        self.broker.way.set_trap(after_bytes(direction, self.chance.randrange(1, count)))
        self._under_a_worker(self.broker.way.cut)
        self.broker.way.heal()

    def slow_broker(self) -> None:
        """A long way to the broker, in small pieces."""
        self.broker.way.slow(self.chance.uniform(0.001, 0.004), self.chance.choice([200, 2_000]))
        self._under_a_worker(lambda: None)
        self.broker.way.heal()

    def partition_from_the_broker(self) -> None:
        """Nothing passes until the broker has given the worker up; then it may come back."""

        def strike() -> None:
            self.broker.way.swallow()
            self.last(0.5, 3.0)
            self.broker.way.heal()

        self._under_a_worker(strike)

    def half_open_to_the_broker(self) -> None:
        """The broker's side of a connection is gone, and the worker is never told."""
        self.broker.way.set_trap(after_bytes(DOWN, self.chance.randrange(1, _FETCHED_BYTES)), Pair.forget_server)
        self._under_a_worker(lambda: None)
        self.broker.way.heal()
