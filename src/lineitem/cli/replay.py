"""``lineitem replay``: usage that was read before is read again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lineitem.cli.backfill import show_changes
from lineitem.cli.output import Scope, fields, ledger_command, print_json, progress_bar, say

if TYPE_CHECKING:
    from lineitem.reread import Source


@click.command()
@click.option("--segments", is_flag=True, help="Read the ledger's raw segments.")
@click.option("--source", metavar="URL", help="Read a topic: kafka://host[:port][,host...]/topic")
@click.option("--group", help="With --source: the group whose rights are used; its workers are left alone.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE",
    help="With --source: settings of the Kafka client, name=value a line.",
)  # fmt: skip
@click.option("--partition", "partitions", multiple=True, type=click.IntRange(0), help="With --source. Repeatable.")
@click.option("--from", "from_", metavar="OFFSET|TIME", help="With --source: begin there.  [default: what is there]")
@click.option(
    "--until", metavar="OFFSET|TIME",
    help="End before it: an offset or Kafka's time with --source, the event's time with --segments.",
)  # fmt: skip
@click.option("--since", metavar="TIME", help="With --segments: only events of that time and later.")
@click.option("--account", help="Only this account's events.")
@click.option(
    "--part", metavar="K/N", default="1/1", help="Only the K-th of N shares of the streams: run all N side by side."
)
@click.option("--dry-run", is_flag=True, help="Only say what would change, by account and price.")
@click.option(
    "--batch-size", default=100_000, show_default=True, type=click.IntRange(1, 1_000_000), help="Records a batch."
)
@click.option("--two-processes", is_flag=True, help="Prepare batches in a second process: where a core is idle.")
@ledger_command
def replay(
    segments: bool,
    source: str | None,
    group: str | None,
    config: Path | None,
    partitions: tuple[int, ...],
    from_: str | None,
    until: str | None,
    since: str | None,
    account: str | None,
    part: str,
    dry_run: bool,
    batch_size: int,
    two_processes: bool,
    scope: Scope,
) -> None:
    """Read usage again that was read before: what the ledger knows is a duplicate, what it misses is billed.

    From the ledger's raw segments or from a Kafka topic, up to where its workers are. Missing events are billed once, at
    their own time. The same command goes on where it stopped. Backfills come again through `lineitem ingest --backfill`, dead
    letters through `lineitem dlq replay`; one that was settled is left so.
    """
    from lineitem.core.errors import UsageError
    from lineitem.ingest.events import BatchLimits
    from lineitem.kit.process import tune_for_batches
    from lineitem.reread import Asked, Segments

    if segments == (source is not None):
        raise UsageError("name what to read again", do="--segments, or --source kafka://host/topic --group NAME.")
    share = re.fullmatch(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})", part, re.ASCII)
    if share is None or int(share[1]) > int(share[2]):
        raise UsageError(f"{part!r} is no share", do="Write --part K/N, e.g. 1/2 and, beside it, 2/2.")
    shares = (int(share[1]), int(share[2]))
    found: Source
    if segments:
        _only_with("--source", group=group, config=config, partition=partitions, **{"from": from_})
        asked = Asked(_instant_us(since), _instant_us(until), account, *shares)
        found = Segments()
    else:
        _only_with("--segments", since=since)
        asked = Asked(None, None, account, *shares)
        found = _stream(source or "", group, config, partitions, from_, until)
    tune_for_batches()
    with scope.app() as app, progress_bar("Replaying", None, quiet=scope.as_json) as show:
        limits = BatchLimits(batch_size)
        done = app.reread(
            scope.namespace, found, asked, limits, show, dry_run=dry_run, two_processes=two_processes and not dry_run
        )
    document = done.document()
    if scope.as_json:
        print_json(document)
        return
    if done.resumed:
        say("Went on where an earlier run stopped.")
    if not done.streams:
        click.echo("There is nothing to read again.")
        return
    fields({"streams": f"{done.streams:>12,}"})
    fields({name.replace("_", " "): f"{value:>12,}" for name, value in done.summary.document().items()})
    show_changes("What would change; nothing was written" if dry_run else "What changed", document["changes"])
    if not document["changes"]:
        click.echo("Nothing changes: the ledger has it all.")


def _stream(
    url: str, group: str | None, config: Path | None, partitions: tuple[int, ...], since: str | None, until: str | None
) -> Source:
    from lineitem.adapters.streams import AgainOrder, again_of
    from lineitem.core.errors import UsageError

    if not group:
        raise UsageError("a topic is read with the rights of a group", do="Name it: --group NAME.")
    instants = {text: _instant_us(text) for text in (since, until) if text is not None and not _is_offset(text)}
    known = {text: at for text, at in instants.items() if at is not None}
    return again_of(AgainOrder(url, group, config, partitions, since, until, known))


def _is_offset(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) is not None


def _instant_us(text: str | None) -> int | None:
    from lineitem.cli.lifecycle import instant_option_us

    return None if text is None else instant_option_us(text)


def _only_with(other: str, **options: object) -> None:
    """Raises UsageError for an option that belongs to the other way of reading."""
    from lineitem.core.errors import UsageError

    for name, value in options.items():
        if value not in (None, ()):
            raise UsageError(f"--{name} goes with {other}", do="Leave it out.")
