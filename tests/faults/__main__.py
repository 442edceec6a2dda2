"""The long run: ``python -m tests.faults --seed 1 --rounds 200 --kafka``; every fault, and after each what must hold."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

from tests.faults.broker import Broker, install, running
from tests.faults.postgres import Postgres
from tests.faults.report import record
from tests.faults.server import ServerWorld, SmallDisk, libfaketime, mountable
from tests.faults.stream import StreamWorld
from tests.faults.supervisor import Supervisor
from tests.faults.upgrade import upgrade
from tests.faults.world import World, rounds

_LIFE = 26
"""Faults one ledger lives through before another begins, so that checking all of it stays quick."""
Making = Callable[[Path, int, ExitStack], World]


class Run:
    """One long run: worlds one after the other, each with a seed that follows from the run's."""

    def __init__(self, seed: int, count: int, only: set[str]) -> None:
        self.seed, self.count, self.only = seed, count, only
        self.kinds: Counter[str] = Counter()
        self.outcomes: Counter[tuple[str, int]] = Counter()
        self.records = self.events = self.worlds = 0
        self.started = time.monotonic()

    def happened(self, kind: str, where: str) -> None:
        """Count and tell one fault after which everything held."""
        self.kinds[kind] += 1
        took = time.monotonic() - self.started
        print(f"{self.kinds.total():4}  {took:6.0f} s  {where:12} {kind:28} I1-I10 hold", flush=True)

    def live(self, making: Making, faults: int) -> None:
        """Let one world live through so many faults."""
        seed = self.seed * 1000 + self.worlds
        self.worlds += 1
        with _folder() as folder, ExitStack() as stack:
            world = making(Path(folder), seed, stack)
            name = type(world).__name__
            print(f"      {name}, seed {seed}", flush=True)
            every = world.faults()
            chosen = [one for one in every if not self.only or one.__name__ in self.only]
            world.faults = lambda: list(chosen)  # type: ignore[method-assign]
            for kind in rounds(world, faults if chosen else 0):
                self.happened(kind, name)
            self.records += world.expected.counts["received"]
            self.events += world.expected.accepted
            self.outcomes += world.outcomes


def _folder() -> tempfile.TemporaryDirectory[str]:
    """What a failed run leaves running must not hide why it failed."""
    return tempfile.TemporaryDirectory(prefix="lineitem-faults-", ignore_cleanup_errors=True)


def embedded(folder: Path, seed: int, _: ExitStack) -> World:
    """Files into the embedded server."""
    return Supervisor(folder, seed)


def server(folder: Path, seed: int, stack: ExitStack) -> World:
    """Files into a server on TCP."""
    (folder / "world").mkdir()
    world = ServerWorld(folder / "world", seed, stack.enter_context(_postgres(folder / "pg")))
    stack.callback(world.close)
    return world


def small_disk(folder: Path, seed: int, stack: ExitStack) -> World:
    """Files into a server whose disk is small."""
    world = SmallDisk(folder, seed)
    stack.callback(world.close)
    return world


def stream(broker: Broker) -> Making:
    """A topic into a server on TCP."""

    def make(folder: Path, seed: int, stack: ExitStack) -> World:
        (folder / "world").mkdir()
        world = StreamWorld(folder / "world", seed, stack.enter_context(_postgres(folder / "pg")), broker)
        stack.callback(world.close)
        return world

    return make


@contextmanager
def _postgres(folder: Path) -> Iterator[Postgres]:
    made = Postgres(folder)
    try:
        yield made
    finally:
        made.stop()


def main() -> None:
    """Run until ``rounds`` faults have happened; an assertion names the seed to try again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--kafka", action="store_true", help="with a real broker")
    parser.add_argument("--only", action="append", default=[], help="a kind of fault, by name; may be repeated")
    parser.add_argument(
        "--record", action="store_true", help="add the run to the results docs/reference/faults.md shows"
    )
    chosen = parser.parse_args()
    run = Run(chosen.seed, chosen.rounds, set(chosen.only))
    with ExitStack() as stack:
        makings: list[tuple[Making, int]] = [(embedded, 9), (server, 15)]
        folder = Path(stack.enter_context(_folder()))
        left_out = []
        if mountable(folder):
            makings.append((small_disk, 2))
        else:
            left_out.append("full disks (nothing may be mounted here)")
        if libfaketime() is None:
            left_out.append("shifted clocks (libfaketime is not installed)")
        if chosen.kafka:
            install()
            makings.append((stream(stack.enter_context(running(folder))), 24))
        else:
            left_out.append("Kafka")
        print(
            f"seed {chosen.seed}, {chosen.rounds} faults" + "".join(f"; without {one}" for one in left_out), flush=True
        )
        _all(run, makings)
    _tell(run)
    if chosen.record:
        record(_result(run, left_out))


def _all(run: Run, makings: list[tuple[Making, int]]) -> None:
    """Each kind of world in turn, for as many faults as it has kinds, until there were enough."""
    if not run.only or "migrate_an_old_ledger" in run.only:
        with _folder() as folder:
            upgrade(Path(folder))
        run.happened("migrate_an_old_ledger", "upgrade")
    for making, kinds in cycle(makings):
        left = run.count - run.kinds.total()
        if left <= 0:
            return
        run.live(making, min(left, kinds, _LIFE))
        if run.worlds > len(makings) and not run.kinds:
            sys.exit(f"no kind is named {', '.join(sorted(run.only))}")


def _tell(run: Run) -> None:
    print(f"{run.kinds.total()} faults, {run.records:,} records, {run.events:,} events: 0 lost, 0 doubled")
    for (fault, code), count in sorted(run.outcomes.items()):
        print(f"{count:6} x {fault:28} exit code {code}")


def _result(run: Run, left_out: list[str]) -> dict[str, object]:
    """What ``record`` keeps. Nothing lost and nothing doubled: the run would have ended there."""
    counted = {"faults": run.kinds.total(), "records": run.records, "events": run.events, "lost": 0, "doubled": 0}
    took = {
        "seconds": round(time.monotonic() - run.started),
        "kinds": dict(sorted(run.kinds.items())),
        "left_out": left_out,
    }
    return {"date": datetime.now(UTC).date().isoformat(), "seed": run.seed, **counted, **took}


if __name__ == "__main__":
    main()
