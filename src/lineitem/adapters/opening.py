"""What every stream of a broker must pass before it is read: a name that fits, and being the stream the ledger knows."""

from __future__ import annotations

from collections.abc import Iterable

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
