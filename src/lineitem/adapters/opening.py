"""What every stream of a broker must pass before it is read: a name that fits, and being the stream the ledger knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from lineitem.adapters.streams import Around, StreamOrder
from lineitem.core.errors import Refused, UsageError
from lineitem.core.limits import FIELD_CHARS_MAX
from lineitem.ingest import intake
from lineitem.ingest.intake import Partition
from lineitem.kit.db import Connection
from lineitem.ledger.post import LANES

_FORMAT = "cloudevents"


def source_name(order: StreamOrder, default: str) -> str:
    """What fills ``source`` where a record has none. Raises UsageError."""
    source = order.source or default
    if len(source) > FIELD_CHARS_MAX or not source.isprintable():
        raise UsageError("--source-name is too long or not printable", do=f"Use up to {FIELD_CHARS_MAX} characters.")
    return source


def open_partition(around: Around, namespace_key: int, what: str, stream: str, source: str) -> Partition:
    """The ledger's partition for ``stream``, as it stands now. ``what`` names what is read, for people.

    Raises Refused where it was read with another source name: an event without a source would become another one.
    """
    partition = intake.open_stream(
        around.connection, around.pipeline.namespace, namespace_key, stream, LANES, _FORMAT, {"source": source}
    )
    if partition.settings != {"source": source}:
        known = partition.settings.get("source")
        raise Refused(
            f"{what} is read with the source name {known!r} since it began",
            do=f"An event without a source would become another one: --source-name {known}",
        )
    return partition


def check_known(
    connection: Connection, namespace_key: int, what: str, prefix: str, id_: str, accepted: str | None
) -> None:
    """Raises Refused where the ledger has read a stream of this name (``prefix``) that is another one.

    ``accepted``: the id of one made anew that a person said may be read.
    """
    names = intake.streams(connection, namespace_key, prefix)
    known = sorted({name.removeprefix(prefix).partition("/")[0] for name in names})
    if accepted is not None and accepted != id_:
        raise Refused(f"{what} has the id {id_}, not {accepted}", do=f"--topic-id {id_}")
    if known and id_ not in known and accepted is None:
        raise made_anew(what, known, id_)


def made_anew(what: str, known: Iterable[str], found: str) -> Refused:
    """The refusal to read something made anew as if it went on."""
    return Refused(
        f"{what} was made anew: the ledger has read the one with id {', '.join(known)}, this one is {found}",
        do="Its positions begin again, and what the old one still held is gone with it. If that is as it should be, "
        f"say so once: --topic-id {found}",
    )


class Kept(NamedTuple):
    """How people speak of what a broker keeps: the ``unit`` of a position, ``owner`` and ``inside`` it ("the broker", "on the
    broker"), and the setting that keeps records for ``longer``."""

    unit: str
    owner: str
    inside: str
    longer: str


def first_to_read(
    place: str, kept: Kept, needed: int, first: int, end: int, *, skip_missing: bool, say: Callable[[str], None]
) -> int:
    """Where to read from: at ``needed``, the ledger's position, or at ``first`` where a person said to go on so.

    ``first`` and ``end``: positions of the first record there is, and behind the last one. Raises Refused where what comes next
    is not there: it is never passed over.
    """
    if needed > end:
        raise Refused(
            f"the ledger has read up to {kept.unit} {needed}, {kept.owner} ends at {end}: it has lost records",
            where=place,
            do=f"Restore {kept.owner}'s data. Reading on would pass over the records that take their places.",
        )
    if needed >= first:
        return needed
    missing = f"{kept.unit}s {needed} to {first - 1} are no longer {kept.inside} and were never read"
    if not skip_missing:
        raise Refused(
            missing,
            where=place,
            do="Bring those events in another way (`lineitem ingest` of a file: none counts twice), keep records "
            f"longer ({kept.longer}), and say once that reading may go on without them: --skip-missing",
        )
    say(f"{place}: {missing}; going on without them, as told")
    return first
