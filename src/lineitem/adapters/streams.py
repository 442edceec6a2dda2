"""The streams a worker may read, by the scheme of their address: a new one is a folder, a line in ``STREAMS``, its test."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from lineitem.core.errors import EnvironmentProblem, UsageError
from lineitem.flow import Pipeline, Summary
from lineitem.kit.db import Connection
from lineitem.reread import Source
from lineitem.worker import StreamLimits

STREAMS = {"kafka": "lineitem.adapters.kafka.work"}
"""Scheme -> module whose ``work`` reads it. Loaded when used: its library is an optional extra."""
AGAIN = {"kafka": "lineitem.adapters.kafka.again"}
"""Scheme -> module whose ``again`` gives what is read again of it."""


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """What a worker was asked to read, and how.

    ``source``: what fills `source` where a record has none. ``topic_id``: a topic made anew that may be read.
    ``skip_missing``: whether to go on without records that the broker no longer has. ``until_idle``: end when all is read.
    """

    url: str
    group: str
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
    due after a batch; ``say``: a line for people; ``stop``: set when it should end."""

    pipeline: Pipeline
    connection: Connection
    chores: Callable[[], None]
    say: Callable[[str], None]
    stop: Event


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker did. ``about``: what it read, ``positions``: how far, by partition."""

    summary: Summary
    about: dict[str, Any]
    positions: dict[str, int]

    def document(self) -> dict[str, Any]:
        """As ``lineitem worker --json`` prints it."""
        return self.summary.document() | self.about | {"positions": self.positions}


class Work(Protocol):
    """What a module of ``STREAMS`` offers as ``work``."""

    def __call__(self, order: StreamOrder, around: Around) -> Worked:
        """Read until told to stop, or to the end where that was asked."""
        ...


def work_of(url: str) -> Work:
    """What reads the stream at an address. Raises UsageError for an unknown scheme, EnvironmentProblem where the library is
    not installed."""
    work: Work = _module(STREAMS, url).work
    return work


def again_of(order: AgainOrder) -> Source:
    """What is read again of the stream at an address. Raises as ``work_of`` does, and for what is wrong with the order."""
    found: Source = _module(AGAIN, order.url).again(order)
    return found


def _module(modules: Mapping[str, str], url: str) -> Any:
    scheme, colon, _ = url.partition("://")
    if not colon or scheme not in modules:
        known = ", ".join(f"{name}://" for name in modules)
        raise UsageError(f"{url!r} is no stream lineitem can read", do=f"An address begins with {known}")
    try:
        return importlib.import_module(modules[scheme])
    except ModuleNotFoundError as error:
        if (error.name or "lineitem").startswith("lineitem"):
            raise  # ours: a defect
        raise EnvironmentProblem(
            f"reading {scheme}:// needs a package that is not installed: {error.name}",
            do=f"pip install 'lineitem[{scheme}]'",
        ) from error
