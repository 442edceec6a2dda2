"""The streams a worker may read, by the scheme of their address: a new one is a folder, a line in ``STREAMS``, its test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from lineitem.adapters.address import refuse_secrets
from lineitem.core.errors import UsageError
from lineitem.flow import Pipeline, Summary
from lineitem.kit.db import Connection
from lineitem.kit.extras import load
from lineitem.observability.watch import BatchWatch
from lineitem.reread import Source
from lineitem.worker import StreamLimits

STREAMS = {"kafka": "lineitem.adapters.kafka.work", "nats": "lineitem.adapters.nats.work"}
"""Scheme -> module whose ``work`` reads it. Loaded when used: its library is an optional extra."""
ENDS = {"kafka": "lineitem.adapters.kafka.ends", "nats": "lineitem.adapters.nats.ends"}
"""Scheme -> module whose ``positions`` says how far the ledger is behind."""
AGAIN = {"kafka": "lineitem.adapters.kafka.again"}
"""Scheme -> module whose ``again`` gives what is read again of it."""


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """What a worker was asked to read, and how.

    ``group``: of workers that share a stream's partitions, where it has several. ``source``: what fills `source` where a
    record has none. ``topic_id``: a topic made anew that may be read. ``skip_missing``: whether to go on without records
    that the broker no longer has. ``until_idle``: end when all is read.
    """

    url: str
    group: str | None = None
    config: Path | None = None
    source: str | None = None
    topic_id: str | None = None
    skip_missing: bool = False
    until_idle: bool = False
    limits: StreamLimits = field(default_factory=StreamLimits)


@dataclass(frozen=True, slots=True)
class AgainOrder:
    """What is to be read again of a stream: some of its ``partitions`` (none: all), between two places.

    ``since`` and ``until``: positions or instants, as they were written; ``instants_us`` has those of them that are instants.
    """

    url: str
    group: str
    config: Path | None = None
    partitions: Sequence[int] = ()
    since: str | None = None
    until: str | None = None
    instants_us: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Around:
    """What a worker works with. ``connection``: one of the posting role that the pipeline does not use; ``chores``: what is
    due after a batch; ``say``: a line for people; ``stop``: set when it should end; ``watch``: sees what it does."""

    pipeline: Pipeline
    connection: Connection
    chores: Callable[[], None]
    say: Callable[[str], None]
    stop: Event
    watch: BatchWatch = field(default_factory=BatchWatch)


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker did. ``about``: what it read, ``positions``: how far, by partition, ``time_to_ledger_ms``: quantiles."""

    summary: Summary
    about: dict[str, Any]
    positions: dict[str, int]
    time_to_ledger_ms: dict[str, object]

    def document(self) -> dict[str, Any]:
        """As ``lineitem worker --json`` prints it."""
        how_far = {"positions": self.positions, "time_to_ledger_ms": self.time_to_ledger_ms}
        return self.summary.document() | self.about | how_far


class Work(Protocol):
    """What a module of ``STREAMS`` offers as ``work``."""

    def __call__(self, order: StreamOrder, around: Around) -> Worked:
        """Read until told to stop, or to the end where that was asked."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """How far the ledger has read a partition of a topic, and how many offsets it is behind."""

    topic: str
    position: int
    lag: int


def place_of(stream: str) -> tuple[str, str]:
    """Topic and partition of a stream's name (``kafka:<cluster>/<topic>/<topic id>/<partition>``, NATS alike); of a name of
    another make, all of it and no partition."""
    parts = stream.split("/")
    return (parts[1], parts[3]) if stream.startswith(("kafka:", "nats:")) and len(parts) == 4 else (stream, "")


def positions_of(url: str, config: Path | None, known: Mapping[str, int]) -> dict[int, Place]:
    """How far the ledger is in every partition of the stream at an address; ``known``: how far in which stream. Raises as
    ``work_of``, and what asking raises."""
    found: dict[int, Place] = _module(url, ENDS).positions(url, config, known)
    return found


def work_of(url: str) -> Work:
    """What reads the stream at an address. Raises UsageError for an unknown scheme, EnvironmentProblem where the library is
    not installed."""
    work: Work = _module(url, STREAMS).work
    return work


def again_of(order: AgainOrder) -> Source:
    """What is read again of the stream at an address. Raises as ``work_of`` does, and for what is wrong with the order."""
    found: Source = _module(order.url, AGAIN).again(order)
    return found


def _module(url: str, homes: Mapping[str, str]) -> Any:
    refuse_secrets(url)
    scheme, colon, _ = url.partition("://")
    if not colon or scheme not in homes:
        known = ", ".join(f"{name}://" for name in homes)
        raise UsageError(f"{url!r} is no stream lineitem can read", do=f"An address begins with {known}")
    return load(homes[scheme], scheme, f"reading {scheme}://")
